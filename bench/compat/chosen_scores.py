"""Check the targets of a call, and turn them into the output and the classes of a cut model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.compat.utils.model_targets import Target
from axiom_bench.cutting.output import (
    AnyOutput,
    Chain,
    Output,
    Returned,
    mean_of_maps,
    steps_to_tensor,
)
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, plural, type_name

# The targets that explain an output of a cut model, by the class's name here and in
# pytorch-grad-cam. A target reads what the network returns, so nothing is recognised.
OUTPUTS = {
    "ClassifierOutputTarget": "logits",
    "ClassifierOutputSoftmaxTarget": "probability",
    "ClassifierOutputReST": "rest",
}
EXAMPLE = "ClassifierOutputTarget(class)"


def check_targets(targets: object, rows: int) -> None:
    """Raise BenchError unless `targets` is None or a list of one function per image."""
    if targets is None:
        return
    if not isinstance(targets, list | tuple):
        raise BenchError(
            f"targets is {type_name(targets)}, not a list with a target for each image; give "
            f"targets=[{EXAMPLE}] * {rows}."
        )
    wrong = next((target for target in targets if not callable(target)), None)
    if wrong is not None:
        raise BenchError(f"The target {wrong!r} isn't a function; give {EXAMPLE}.")
    if len(targets) != rows:
        raise BenchError(
            f"{plural(len(targets), 'target')} for {plural(rows, 'image')}; give a list with a "
            f"target for each image, such as [{EXAMPLE}] * {rows}."
        )


def explained(targets: Sequence[Target] | None) -> tuple[AnyOutput, list[int] | None]:
    """Return the output to explain, and its column for each image; None for the predicted class."""
    if targets is None:
        return "logits", None
    outputs = {OUTPUTS.get(type(target).__name__) for target in targets}
    output = outputs.pop()
    if output is not None and not outputs:
        return output, [int(getattr(target, "category")) for target in targets]  # noqa: B009
    distinct = list({id(target): target for target in targets}.values())
    column_by_id = {id(target): column for column, target in enumerate(distinct)}
    scores = Output(
        "target",
        are_logits=True,
        function=TargetScores(distinct),
        softmax=False,
        returns="logits",
    )
    return scores, [column_by_id[id(target)] for target in targets]


class TargetScores:
    """The function from the network's return value to a column of scores for each target."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.__name__ = "target"  # in messages about a target that fails

    def __call__(self, returned: Returned) -> Tensor:
        """Return scores (B, number of targets)."""
        if not isinstance(returned, list):  # a list is a detector's
            returned = Chain(*steps_to_tensor(returned, "The network"))(returned)
        rows = []
        for output in returned:
            scores = [_score(target, output) for target in self.targets]
            rows.append(torch.stack(scores))
        return torch.stack(rows)


def _score(target: Target, output: Returned) -> Tensor:
    value = target(output)
    if value.numel() != 1:
        raise BenchError(
            f"The target {target} gives the shape {tuple(value.shape)} for an image, not one "
            f"score; choose a class with {EXAMPLE}, or sum the scores."
        )
    return value.reshape(())


def check_has_classes(trace: Trace) -> None:
    """Raise BenchError if the network returns maps, which have no predicted class."""
    scores = trace.cut_model.trunk_and_head.scores
    if scores is not None and mean_of_maps in scores.functions:
        raise BenchError(
            "The network returns maps, so there is no predicted class; give a target for each "
            "image, such as SemanticSegmentationTarget(class, mask)."
        )
