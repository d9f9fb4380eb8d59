"""What of a model is explained (model.output): outputs by name, VOC's classes by groups of
ImageNet's, a user's own.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from axiom_bench.cutting import output
from axiom_bench.cutting.output import Output, OutputModule, check_output
from axiom_bench.cutting.output_presets import multi_label, regression, segmentation
from axiom_bench.data.layouts.classes import IMAGENET_CLASSES
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.errors import BenchError, unknown
from axiom_bench.models.user_code import called, import_function

GROUPS = Path(__file__).parent.parent / "data" / "voc_in_imagenet.tsv"


class LogSumExpGroups(OutputModule):
    """Logits (..., C) -> (..., G): of each group of classes the logarithm of its sum of
    exponentials.

    Its exponential is the group's unnormalised probability, so that a softmax over the groups is
    the network's probability of each, given that the class is in one of them. groups: class
    indices, each group not empty.
    """

    members: Tensor
    absent: Tensor

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        widest = max(map(len, groups))
        members = [[*group, *[group[0]] * (widest - len(group))] for group in groups]
        absent = [[0.0] * len(group) + [-torch.inf] * (widest - len(group)) for group in groups]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.register_buffer("absent", torch.tensor(absent), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits.double()[..., self.members] + self.absent, -1)

    def extra_repr(self) -> str:
        """Sizes, and a checksum of the members: this text is part of a shard's key."""
        checksum = hashlib.sha256(repr(self.members.tolist()).encode()).hexdigest()
        return f"groups={self.absent.isfinite().sum(1).tolist()}, members={checksum[:16]}"


@cache
def voc_in_imagenet() -> dict[str, tuple[int, ...]]:
    """{VOC class: the indices of the ImageNet classes under it}, in VOC's order; see docs/data.md
    for the rule.
    """
    indices: dict[str, list[int]] = {name: [] for name in CLASSES}
    with GROUPS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            indices[row["voc"]].append(int(row["index"]))
    return {name: tuple(indices) for name, indices in indices.items()}


def _voc_groups(classes: int) -> OutputModule:
    if classes != IMAGENET_CLASSES:
        raise BenchError(
            f"model.output=voc_groups needs the {IMAGENET_CLASSES} ImageNet classes in the "
            f"standard order, and this model has {classes} logits; set model.output=logits for a "
            "model of VOC's own classes."
        )
    return LogSumExpGroups(list(voc_in_imagenet().values()))


OUTPUTS = {
    **output.OUTPUTS,
    "voc_groups": Output("voc_groups", _voc_groups, are_logits=True, classes=CLASSES),
    "multi_label": multi_label(),
    "regression": regression(),
    "segmentation": segmentation(),
}


def find_output(name: str | None) -> Output:
    """The output of this name, or a user's own: `module:function` or `path/to/file.py:function`;
    None: recognised.

    A class is called without arguments, so that it may build a module. Raises BenchError for an
    unknown one.
    """
    if name is None:
        return check_output(None)
    if ":" not in name:
        if name not in OUTPUTS:
            raise unknown("model output", name, OUTPUTS)
        return OUTPUTS[name]
    expected = (
        "give module:function or path/to/file.py:function, a function from what the network "
        "returns to scores (B, n)"
    )
    function = import_function(name, "model.output", expected)
    return check_output(
        called(function, "model.output") if isinstance(function, type) else function
    )
