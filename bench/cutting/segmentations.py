"""The sum of a class's logits over a region of maps: `axiom_bench.outputs.segmentation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.output import Output
from axiom_bench.cutting.scores import TensorScores, described
from axiom_bench.errors import BenchError

PREDICTED = "predicted"


def segmentation(
    region: Tensor | str | None = None,
    labels: Tensor | Sequence[int] | None = None,
    read: Callable[[Any], Tensor] | None = None,
) -> Output:
    """The sum of a class's logits over a region, of maps (B, C, H, W).

    region: of the size of the network's maps, True or 1 where a position counts. (H, W): one for all images; a target
    is a class. (n, H, W) with labels (n,): a target is the index of a region, which counts for its class, so that each
    image of a batch may have its own. "predicted": the positions where the class has the highest logit, in each image
    and each perturbed one; None: all. Seg-Grad-CAM (Vinogradova, Dibrov and Myers, AAAI 2020).
    Raises BenchError for another region, and for labels that don't fit it.
    """
    if not (region in (None, PREDICTED) if isinstance(region, str | None) else region.ndim in (2, 3)):
        raise BenchError(f"A region is (H, W), (n, H, W), 'predicted' or None, not {described(region)}.")
    classes = None if labels is None else torch.as_tensor(labels).reshape(-1)
    regions = len(region) if isinstance(region, Tensor) and region.ndim == 3 else None
    if regions != (None if classes is None else len(classes)):
        given = "no labels" if classes is None else f"{len(classes)} labels"
        raise BenchError(
            f"Labels are those of regions (n, H, W), one for each; region is {described(region)}: {given}."
        )
    return Output("segmentation", are_logits=True, function=_RegionSum(region, classes, read), softmax=False)


class _RegionSum(TensorScores):
    region: Tensor | None
    labels: Tensor | None

    def __init__(
        self, region: Tensor | str | None, labels: Tensor | None, read: Callable[[Any], Tensor] | None
    ) -> None:
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
