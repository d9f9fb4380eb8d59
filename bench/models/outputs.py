"""The outputs that model.output names: those of the package, VOC's classes as groups of ImageNet's,
and a user's own.

`load` looks them up by the text of the setting. The command line knows only names, whereas Python
may pass any `Output`.
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
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.models.user_code import call_without_arguments, import_function

GROUPS = Path(__file__).parent.parent / "data" / "voc_in_imagenet.tsv"


class LogSumExpGroups(OutputModule):
    """Logits (..., C) -> (..., G): the log-sum-exp of the logits of each group of classes.

    The exponential of a group's value is its unnormalised probability. So a softmax over the groups
    is the network's probability of each, given that the class is in one of them. `groups` are class
    indices, and no group is empty.
    """

    members: Tensor
    absent: Tensor

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        widest = max(map(len, groups))
        members = []
        absent = []
        for group in groups:
            # A smaller group repeats its first class, with minus infinity added.
            num_missing = widest - len(group)
            members.append([*group, *[group[0]] * num_missing])
            absent.append([0.0] * len(group) + [-torch.inf] * num_missing)
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.register_buffer("absent", torch.tensor(absent), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits.double()[..., self.members] + self.absent, -1)

    def extra_repr(self) -> str:
        """Return the groups' sizes and a checksum of their members, which enter a shard's key."""
        checksum = hashlib.sha256(repr(self.members.tolist()).encode()).hexdigest()
        return f"groups={self.absent.isfinite().sum(1).tolist()}, members={checksum[:16]}"


@cache
def voc_in_imagenet() -> dict[str, tuple[int, ...]]:
    """Return the indices of the ImageNet classes under each VOC class, in VOC's order.

    See docs/data-sets.md for the rule.
    """
    indices_by_class: dict[str, list[int]] = {name: [] for name in CLASSES}
    with GROUPS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            indices_by_class[row["voc"]].append(int(row["index"]))
    return {name: tuple(indices) for name, indices in indices_by_class.items()}


def _voc_groups(classes: int) -> OutputModule:
    """Return the module of model.output=voc_groups for a network with this number of logits."""
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
    """Return the output of this name.

    Args:
        name: A name of `OUTPUTS`, or a user's own function, `module:function` or
            `path/to/file.py:function`. A class is called without arguments, so that it may build a
            module. None means an output that is recognised later.

    Raises:
        BenchError: if the output is unknown.
    """
    if name is None:
        return check_output(None)
    if ":" not in name:
        if name not in OUTPUTS:
            raise unknown_name("model output", name, OUTPUTS)
        return OUTPUTS[name]
    expected = (
        "give module:function or path/to/file.py:function, a function from what the network "
        "returns to scores (B, n)"
    )
    function = import_function(name, "model.output", expected)
    if isinstance(function, type):
        function = call_without_arguments(function, "model.output")
    return check_output(function)
