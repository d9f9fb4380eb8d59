"""Outputs for networks that aren't classifiers of exclusive classes.

They are `axiom_bench.outputs`, and `output=` takes them.

The scores of each output are columns (B, n), and a target is the index of a column. `read` is a
function from the network's return value to the tensor that the output needs. Without it, this is
the return value itself, or its "logits" or "out".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from axiom_bench.cutting.output import (
    Output,
    OutputModule,
    Returned,
    ScoreFunction,
    TensorScores,
    described,
)
from axiom_bench.errors import BenchError, plural, type_name, unknown_name

__all__ = ["detection", "multi_label", "regression", "segmentation", "similarity"]
# from a network's return value to the tensor that an output needs
Read = Callable[[Returned], Tensor]
ReadDetections = Callable[[Returned], Returned]  # to detections or anchors, see `detection`
KINDS = ("cosine", "dot")


def similarity(
    references: Tensor, kind: str = "cosine", scale: float | None = None, read: Read | None = None
) -> Output:
    """Explain the similarity of an image's embedding (B, D) to reference embeddings, times a scale.

    A target is a reference.

    Args:
        references: The embeddings of images or texts, (n, D) or (D,).
        kind: "cosine", or "dot" for the scalar product.
        scale: The scale. With the logit scale of a CLIP, a softmax over n captions is its
            probability (Radford et al., ICML 2021, figure 3). None: 1, and there is no probability.
        read: A function from the network's return value to the embedding.

    Raises:
        BenchError: For another kind or shape.
    """
    if kind not in KINDS:
        raise unknown_name("similarity", kind, KINDS)
    # one embedding is one reference
    if references.ndim not in (1, 2):
        raise BenchError(f"References are (n, D) or (D,), not {described(references)}.")
    function = _Similarity(references, kind, 1.0 if scale is None else scale, read)
    return Output(
        "similarity",
        are_logits=True,
        function=function,
        softmax=scale is not None,
        returns="logits",
    )


def regression(function: ScoreFunction | None = None) -> Output:
    """Explain numbers as they are, (B,) or (B, n), none of which belongs to a class.

    A target is a column.

    Args:
        function: A function from the network's return value to the numbers. None: the network
            returns them.
    """
    return Output("regression", are_logits=True, function=function, softmax=False, returns="logits")


def multi_label(function: ScoreFunction | None = None, probability: bool = False) -> Output:
    """Explain a class of several that an image may have at once, (B, C): its logit or its sigmoid.

    Args:
        function: A function from the network's return value to the logits. None: the network
            returns them, or their sigmoid.
        probability: True for the sigmoid.
    """
    build = (lambda _: Sigmoid()) if probability else None
    return Output(
        "multi_label", build, are_logits=not probability, function=function, softmax=False
    )


class Sigmoid(OutputModule):
    """The probability of each class, independent of the other classes."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().sigmoid()


class _Similarity(TensorScores):
    """The scores of `similarity`."""

    def __init__(self, references: Tensor, kind: str, scale: float, read: Read | None) -> None:
        super().__init__(read)
        rows = references.detach().reshape(-1, references.shape[-1])
        rows = functional.normalize(rows, dim=1) if kind == "cosine" else rows
        self.cosine = kind == "cosine"
        # A linear layer, so that scalar products keep the exact differences of one.
        self.products = nn.utils.skip_init(
            nn.Linear, rows.shape[1], len(rows), bias=False, dtype=rows.dtype
        )
        self.products.weight = nn.Parameter(scale * rows, requires_grad=False)

    def check(self, tensor: object, network: str) -> None:
        size = self.products.in_features
        if not isinstance(tensor, Tensor) or tensor.shape[1:] != (size,):
            raise BenchError(
                f"References of {size} numbers need embeddings (B, {size}); {network} gives "
                f"{described(tensor)}."
            )

    def forward(self, embeddings: Tensor) -> Tensor:
        similarities: Tensor = self.products(
            functional.normalize(embeddings, dim=1) if self.cosine else embeddings
        )
        return similarities

    def extra_repr(self) -> str:
        return "cosine" if self.cosine else "dot"


def segmentation(
    region: Tensor | str | None = None,
    labels: Tensor | Sequence[int] | None = None,
    read: Read | None = None,
) -> Output:
    """Explain the sum of a class's logits over a region, for maps (B, C, H, W).

    See Seg-Grad-CAM (Vinogradova, Dibrov and Myers, AAAI 2020).

    Args:
        region: The region, of the size of the network's maps, True or 1 where a position counts.
            With one region (H, W) for all images, a target is a class. With regions (n, H, W) and
            labels (n,), a target is the index of a region, which counts for its class. So each
            image of a batch may have its own. "predicted": the positions where the class has the
            highest logit, in each image and each perturbed one. None: all positions.
        labels: The class of each region, (n,).
        read: A function from the network's return value to the maps.

    Raises:
        BenchError: For another region, and for labels that don't fit it.
    """
    if not (
        region in (None, "predicted") if isinstance(region, str | None) else region.ndim in (2, 3)
    ):
        raise BenchError(
            f"A region is (H, W), (n, H, W), 'predicted' or None, not {described(region)}."
        )
    classes = None if labels is None else torch.as_tensor(labels).reshape(-1)
    # One region for all images has no labels, since there a target is a class.
    regions = len(region) if isinstance(region, Tensor) and region.ndim == 3 else None
    if regions != (None if classes is None else len(classes)):
        count = "no labels" if classes is None else plural(len(classes), "label")
        raise BenchError(
            f"Labels are those of regions (n, H, W), one for each; region is {described(region)}: "
            f"{count}."
        )
    return Output(
        "segmentation", are_logits=True, function=_RegionSum(region, classes, read), softmax=False
    )


class _RegionSum(TensorScores):
    """The scores of `segmentation`."""

    region: Tensor | None
    labels: Tensor | None

    def __init__(
        self, region: Tensor | str | None, labels: Tensor | None, read: Read | None
    ) -> None:
        super().__init__(read)
        self.predicted = isinstance(region, str)
        self.register_buffer("labels", labels)
        self.register_buffer(
            "region", region.detach().float() if isinstance(region, Tensor) else None
        )

    def check(self, tensor: object, network: str) -> None:
        if not isinstance(tensor, Tensor) or tensor.ndim != 4:
            raise BenchError(
                f"A segmentation needs maps of classes (B, C, H, W); {network} gives "
                f"{described(tensor)}."
            )
        if self.region is not None and self.region.shape[-2:] != tensor.shape[2:]:
            raise BenchError(
                f"The region is {described(self.region)}, and the maps of {network} are "
                f"{tuple(tensor.shape[2:])}."
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
    boxes: Tensor,
    labels: Tensor | Sequence[int],
    iou: float = 0.5,
    read: ReadDetections | None = None,
) -> Output:
    """Explain the class score of the network's detections at reference boxes.

    A target is the index of a box.

    The network's return value, or the result of `read`, is one of two kinds:

    - a list with a dict of "boxes" (N, 4), "labels" (N,) and "scores" (N,) for each image, as
      torchvision's networks return. The score is that of the detection of the box's class with the
      highest IoU.
    - anchors before suppression, (boxes (B, N, 4), scores (B, N, C)). The score is that of the
      anchor with the highest IoU.

    The score is 0 if the highest IoU is below `iou`. pytorch-grad-cam's FasterRCNNBoxScoreTarget
    takes the detection of any class with the highest IoU, gives 0 unless it has the box's class,
    adds the IoU to its score, and sums over the boxes.

    Args:
        boxes: The boxes, (n, 4), x0 y0 x1 y1 in the network's pixels, as the network detected them
            itself.
        labels: The classes of the boxes, (n,).
        iou: The least IoU.
        read: A function from the network's return value to one of the two kinds.

    Raises:
        BenchError: For boxes and labels of another shape.
    """
    # Labels may be a list or a tensor of any shape with one label per box.
    classes = torch.as_tensor(labels).reshape(-1)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or len(classes) != len(boxes):
        raise BenchError(
            f"Reference boxes are (n, 4) with n labels, not {described(boxes)} with "
            f"{plural(len(classes), 'label')}."
        )
    function = _BoxScores(boxes, classes, iou, read)
    return Output("detection", are_logits=True, function=function, softmax=False, returns="logits")


class _BoxScores(TensorScores):
    """The scores of `detection`."""

    boxes: Tensor
    labels: Tensor

    def __init__(
        self, boxes: Tensor, labels: Tensor, iou: float, read: ReadDetections | None
    ) -> None:
        super().__init__(read or (lambda output: output))
        self.iou = iou
        self.register_buffer("boxes", boxes.detach())
        self.register_buffer("labels", labels.detach())

    def check(self, tensor: object, network: str) -> None:
        names = ("boxes", "labels", "scores")
        is_list = isinstance(tensor, list) and all(
            isinstance(part, dict) and {*names} <= {*part} for part in tensor
        )
        are_anchors = isinstance(tensor, tuple) and [
            getattr(part, "ndim", 0) for part in tensor
        ] == [3, 3]
        if not (is_list or are_anchors):
            raise BenchError(
                "A detection needs a list of dicts of boxes, labels and scores, or anchors (boxes "
                f"(B, N, 4), scores (B, N, C)); {network} gives {type_name(tensor)}: give read=."
            )

    def forward(self, output: list[dict[str, Tensor]] | tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(output, tuple):
            boxes, scores = output
            best, place = intersection_over_union(self.boxes, boxes).max(2)
            class_scores = scores[:, :, self.labels].transpose(1, 2)  # (B, n, N)
            return class_scores.gather(2, place[:, :, None])[:, :, 0] * (best >= self.iou)  # (B, n)
        return torch.stack([self._of_image(**detected) for detected in output])

    def _of_image(self, boxes: Tensor, labels: Tensor, scores: Tensor, **_: Tensor) -> Tensor:
        """Compute the (n,) scores of an image's detections."""
        if not len(boxes):  # the sum of no scores still depends on the layer
            return scores.sum().expand(len(self.boxes))
        overlap = intersection_over_union(self.boxes, boxes)
        overlap = overlap.masked_fill(self.labels[:, None] != labels, -1)
        best, place = overlap.max(1)
        return scores[place] * (best >= self.iou)

    def extra_repr(self) -> str:
        return f"iou={self.iou}"


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """Compute the IoU of boxes x0 y0 x1 y1: (n, 4), (..., N, 4) -> (..., n, N).

    There is no gradient, since the choice of a box is no score.
    """
    boxes = boxes[:, None]
    others = others.detach()[..., None, :, :]
    corner = torch.maximum(boxes, others)[..., :2]
    opposite = torch.minimum(boxes, others)[..., 2:]
    intersection = (opposite - corner).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (boxes, others)]
    return intersection / (areas[0] + areas[1] - intersection)
