"""The class scores of detections that match reference boxes: `axiom_bench.outputs.detection`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.output import Output
from axiom_bench.cutting.scores import TensorScores, described
from axiom_bench.errors import BenchError, type_name


def detection(
    boxes: Tensor, labels: Tensor | Sequence[int], iou: float = 0.5, read: Callable[[Any], Any] | None = None
) -> Output:
    """The class score of what the network detects at reference boxes; a target is the index of a box.

    boxes: (n, 4), x0 y0 x1 y1 in the network's pixels, as it detected them itself. labels: (n,) their classes.
    A network returns, or `read` makes of it, one of
    - a list with a dict of "boxes" (N, 4), "labels" (N,) and "scores" (N,) for each image, as torchvision's do: of the
      box's class, the detection with the highest IoU;
    - anchors before suppression, (boxes (B, N, 4), scores (B, N, C)): of the one with the highest IoU.
    The score is 0 where the highest IoU is below `iou`. pytorch-grad-cam's FasterRCNNBoxScoreTarget takes the detection
    of any class with the highest IoU, gives 0 unless it has the box's class, adds the IoU to its score, and sums over
    the boxes. Raises BenchError for boxes and labels of another shape.
    """
    classes = torch.as_tensor(labels).reshape(-1)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or len(classes) != len(boxes):
        raise BenchError(
            f"Reference boxes are (n, 4) with n labels, not {described(boxes)} with {len(classes)} labels."
        )
    return Output("detection", are_logits=True, function=_BoxScores(boxes, classes, iou, read), softmax=False)


class _BoxScores(TensorScores):
    boxes: Tensor
    labels: Tensor

    def __init__(self, boxes: Tensor, labels: Tensor, iou: float, read: Callable[[Any], Any] | None) -> None:
        super().__init__(read or _same)
        self.iou = iou
        self.register_buffer("boxes", boxes.detach())
        self.register_buffer("labels", labels.detach())

    def check(self, tensor: Any, network: str) -> None:
        names = ("boxes", "labels", "scores")
        listed = isinstance(tensor, list) and all(isinstance(each, dict) and {*names} <= {*each} for each in tensor)
        anchors = isinstance(tensor, tuple) and [getattr(part, "ndim", 0) for part in tensor] == [3, 3]
        if not (listed or anchors):
            raise BenchError(
                f"A detection needs a list of dicts of boxes, labels and scores, or anchors (boxes (B, N, 4), scores "
                f"(B, N, C)); {network} gives {type_name(tensor)}: give read=."
            )

    def forward(self, output: list[dict[str, Tensor]] | tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(output, tuple):
            return self._of_anchors(*output)
        return torch.stack([self._of_image(**detected) for detected in output])

    def _of_image(self, boxes: Tensor, labels: Tensor, scores: Tensor, **_: Tensor) -> Tensor:
        """(n,) scores of an image's detections."""
        if not len(boxes):  # a sum of nothing, which still depends on the layer
            return scores.sum().expand(len(self.boxes))
        overlap = intersection_over_union(self.boxes, boxes).masked_fill(self.labels[:, None] != labels, -1)
        best, place = overlap.max(1)
        return scores[place] * (best >= self.iou)

    def _of_anchors(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """(B, n) scores of the anchors of each image."""
        best, place = intersection_over_union(self.boxes, boxes).max(2)
        of_class = scores[:, :, self.labels].transpose(1, 2)  # (B, n, N)
        return of_class.gather(2, place[:, :, None])[:, :, 0] * (best >= self.iou)

    def extra_repr(self) -> str:
        return f"iou={self.iou}"


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """(n, 4), (..., N, 4) of x0 y0 x1 y1 -> (..., n, N); no gradient, since which box is meant is no score."""
    boxes, others = boxes[:, None], others.detach()[..., None, :, :]
    corner, opposite = torch.maximum(boxes, others)[..., :2], torch.minimum(boxes, others)[..., 2:]
    intersection = (opposite - corner).clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (boxes, others)]
    return intersection / (areas[0] + areas[1] - intersection)


def _same(output: Any) -> Any:
    return output
