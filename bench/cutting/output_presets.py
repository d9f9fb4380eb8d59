"""Outputs for what isn't a classifier of exclusive classes, as `output=` takes them: `axiom_bench.outputs`.

The scores of each are columns (B, n), and a target is the index of a column. `read` is a function from what the network
returns to the tensor that the output needs; without it that is the network's output itself, or its "logits" or "out".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from axiom_bench.cutting.output import Output, OutputModule, ScoreFunction, TensorScores, described
from axiom_bench.errors import BenchError, type_name, unknown

__all__ = ["detection", "multi_label", "regression", "segmentation", "similarity"]
Read = Callable[[Any], Tensor]
KINDS = ("cosine", "dot")


def similarity(
    references: Tensor, kind: str = "cosine", scale: float | None = None, read: Read | None = None
) -> Output:
    """The similarity of an image's embedding (B, D) to reference embeddings, times a scale; a target is a reference.

    references: (n, D) or (D,), of images or texts. kind: "cosine", or "dot" for the scalar product. scale: with the
    logit scale of a CLIP, a softmax over n captions is its probability (Radford et al., ICML 2021, figure 3); None: 1,
    and there is no probability. Raises BenchError for another kind or shape.
    """
    if kind not in KINDS:
        raise unknown("similarity", kind, KINDS)
    if references.ndim not in (1, 2):
        raise BenchError(f"References are (n, D) or (D,), not {described(references)}.")
    function = _Similarity(references, kind, 1.0 if scale is None else scale, read)
    return Output("similarity", are_logits=True, function=function, softmax=scale is not None, returns="logits")


def regression(function: ScoreFunction | None = None) -> Output:
    """Numbers as they are, (B,) or (B, n), none of which is a class's; a target is a column.

    function: from what the network returns to the numbers; None where it returns them.
    """
    return Output("regression", are_logits=True, function=function, softmax=False, returns="logits")


def multi_label(function: ScoreFunction | None = None, probability: bool = False) -> Output:
    """Classes that don't exclude each other, (B, C): the class's logit, or with `probability` its sigmoid.

    function: from what the network returns to the logits; None where it returns them, or their sigmoid.
    """
    build = (lambda _: Sigmoid()) if probability else None
    return Output("multi_label", build, are_logits=not probability, function=function, softmax=False)


class Sigmoid(OutputModule):
    """The probability of each class by itself."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().sigmoid()


class _Similarity(TensorScores):
    def __init__(self, references: Tensor, kind: str, scale: float, read: Read | None) -> None:
        super().__init__(read)
        rows = references.detach().reshape(-1, references.shape[-1])
        rows = functional.normalize(rows, dim=1) if kind == "cosine" else rows
        self.cosine = kind == "cosine"
        # A linear layer, so that scalar products keep the exact differences of one.
        self.products = nn.utils.skip_init(nn.Linear, rows.shape[1], len(rows), bias=False, dtype=rows.dtype)
        self.products.weight = nn.Parameter(scale * rows, requires_grad=False)

    def check(self, tensor: Any, network: str) -> None:
        size = self.products.in_features
        if not isinstance(tensor, Tensor) or tensor.shape[1:] != (size,):
            raise BenchError(
                f"References of {size} numbers need embeddings (B, {size}); {network} gives {described(tensor)}."
            )

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.products(functional.normalize(embeddings, dim=1) if self.cosine else embeddings)

    def extra_repr(self) -> str:
        return "cosine" if self.cosine else "dot"


def segmentation(
    region: Tensor | str | None = None, labels: Tensor | Sequence[int] | None = None, read: Read | None = None
) -> Output:
    """The sum of a class's logits over a region, of maps (B, C, H, W).

    region: of the size of the network's maps, True or 1 where a position counts. (H, W): one for all images; a target
    is a class. (n, H, W) with labels (n,): a target is the index of a region, which counts for its class, so that each
    image of a batch may have its own. "predicted": the positions where the class has the highest logit, in each image
    and each perturbed one; None: all. Seg-Grad-CAM (Vinogradova, Dibrov and Myers, AAAI 2020).
    Raises BenchError for another region, and for labels that don't fit it.
    """
    if not (region in (None, "predicted") if isinstance(region, str | None) else region.ndim in (2, 3)):
        raise BenchError(f"A region is (H, W), (n, H, W), 'predicted' or None, not {described(region)}.")
    classes = None if labels is None else torch.as_tensor(labels).reshape(-1)
    regions = len(region) if isinstance(region, Tensor) and region.ndim == 3 else None
    if regions != (None if classes is None else len(classes)):
        count = "no labels" if classes is None else f"{len(classes)} labels"
        raise BenchError(
            f"Labels are those of regions (n, H, W), one for each; region is {described(region)}: {count}."
        )
    return Output("segmentation", are_logits=True, function=_RegionSum(region, classes, read), softmax=False)


class _RegionSum(TensorScores):
    region: Tensor | None
    labels: Tensor | None

    def __init__(self, region: Tensor | str | None, labels: Tensor | None, read: Read | None) -> None:
        super().__init__(read)
        self.predicted = isinstance(region, str)
        self.register_buffer("labels", labels)
        self.register_buffer("region", region.detach().float() if isinstance(region, Tensor) else None)

    def check(self, tensor: Any, network: str) -> None:
        if not isinstance(tensor, Tensor) or tensor.ndim != 4:
            raise BenchError(f"A segmentation needs maps of classes (B, C, H, W); {network} gives {described(tensor)}.")
        if self.region is not None and self.region.shape[-2:] != tensor.shape[2:]:
            raise BenchError(
                f"The region is {described(self.region)}, and the maps of {network} are {tuple(tensor.shape[2:])}."
            )

    def forward(self, maps: Tensor) -> Tensor:
        if self.predicted:
            maps = maps * (maps == maps.amax(1, keepdim=True))
        if self.labels is not None:
            maps = maps[:, self.labels]
        if self.region is not None:
            maps = maps * self.region
        return maps.sum((2, 3))

    def extra_repr(self) -> str:
        return "predicted" if self.predicted else ""


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
    function = _BoxScores(boxes, classes, iou, read)
    return Output("detection", are_logits=True, function=function, softmax=False, returns="logits")


class _BoxScores(TensorScores):
    boxes: Tensor
    labels: Tensor

    def __init__(self, boxes: Tensor, labels: Tensor, iou: float, read: Callable[[Any], Any] | None) -> None:
        super().__init__(read or (lambda output: output))
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
            boxes, scores = output
            best, place = intersection_over_union(self.boxes, boxes).max(2)
            of_class = scores[:, :, self.labels].transpose(1, 2)  # (B, n, N)
            return of_class.gather(2, place[:, :, None])[:, :, 0] * (best >= self.iou)  # (B, n)
        return torch.stack([self._of_image(**detected) for detected in output])

    def _of_image(self, boxes: Tensor, labels: Tensor, scores: Tensor, **_: Tensor) -> Tensor:
        """(n,) scores of an image's detections."""
        if not len(boxes):  # a sum of nothing, which still depends on the layer
            return scores.sum().expand(len(self.boxes))
        overlap = intersection_over_union(self.boxes, boxes).masked_fill(self.labels[:, None] != labels, -1)
        best, place = overlap.max(1)
        return scores[place] * (best >= self.iou)

    def extra_repr(self) -> str:
        return f"iou={self.iou}"


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """(n, 4), (..., N, 4) of x0 y0 x1 y1 -> (..., n, N); no gradient, since which box is meant is no score."""
    boxes, others = boxes[:, None], others.detach()[..., None, :, :]
    corner, opposite = torch.maximum(boxes, others)[..., :2], torch.minimum(boxes, others)[..., 2:]
    intersection = (opposite - corner).clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (boxes, others)]
    return intersection / (areas[0] + areas[1] - intersection)
