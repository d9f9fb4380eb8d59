"""The reviewer's sheet of a submission: what its source uses, how its maps change, and its values
on other images.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from axiom_bench.cutting.model_copy import shared_copy
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import plural
from axiom_bench.evaluation.batch import explained, traced
from axiom_bench.evaluation.plugins import required
from axiom_bench.records.entries import Manifest
from axiom_bench.records.sources import version_of
from axiom_bench.records.submissions import Submission
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import first_batch
from axiom_bench.run.verification import fresh_job
from axiom_bench.statistics.bootstrap import mean_intervals
from axiom_bench.statistics.labels import Value, number, p_value, with_interval

MAP_IMAGES = 4
# Names of a trace's content.
READS = frozenset({*(field.name for field in fields(Trace)), *dir(Trace)})
# Names with which a source may open files or run other code.
OPENS = frozenset({
    "open", "read", "read_text", "read_bytes", "load", "loads", "urlopen", "urlretrieve", "get",
    "post", "exec", "eval", "compile", "__import__", "import_module", "reload", "exec_module",
    "getattr", "globals", "vars", "modules", "_getframe", "currentframe", "get_objects", "run",
    "Popen", "system",
})  # fmt: skip


def source_lines(source: str) -> list[str]:
    """List what a module imports, reads of a trace, and opens or runs, and its longest constants.

    Only names in the source are found. A module that puts names together when it runs hides them.

    Args:
        source: The source of the module.
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError) as error:
        return [f"source: it can't be parsed ({type(error).__name__})"]
    imports = set[str]()
    reads = set[str]()
    opens = set[str]()
    longest_list = longest_text = 0
    # Docstrings don't count as long texts.
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in OPENS:
                opens.add(f"{name} (line {node.lineno})")
            elif isinstance(node, ast.Attribute) and name in READS:
                reads.add(name)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            longest_list = max(longest_list, len(node.elts))
        elif isinstance(node, ast.Dict):
            longest_list = max(longest_list, len(node.keys))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and node not in docstrings
        ):
            longest_text = max(longest_text, len(node.value))
    return [
        f"source: {plural(len(source.splitlines()), 'line')}",
        f"  imports: {_listed(imports)}",
        f"  reads of a trace: {_listed(reads)}",
        f"  opens or runs: {_listed(opens)}",
        f"  longest list: {longest_list} entries; longest text: {longest_text} characters",
    ]


def _listed(names: set[str]) -> str:
    """Return the names in order, or "nothing"."""
    return ", ".join(sorted(names)) or "nothing"


def version_lines(submission: Submission, manifest: Manifest) -> list[str]:
    """List the versions that the values were computed with, and the installed ones that differ.

    Args:
        submission: The submission.
        manifest: The manifest of one of its parts.
    """
    commit = f" at commit {submission.git_commit}" if submission.git_commit else ""
    versions = []
    submitted_versions = {**manifest.versions, **submission.distributions}
    for name, version in sorted(submitted_versions.items()):
        installed = version_of(name)
        note = "" if installed == version else f" (here {installed})"
        versions.append(f"{name} {version}{note}")
    return [
        f"submitted with axiom-bench {submission.axiom_bench}{commit}",
        f"  versions: {', '.join(versions)}",
    ]


def map_lines(settings: Settings, seed: int) -> list[str]:
    """List how far each method's heatmaps of a job's first images move under four changes.

    The distance is the mean absolute difference of heatmaps, from 0 to 1. Random weights are the
    network's own, in random order within each tensor.

    Args:
        settings: The settings of the job.
        seed: The seed of the random order.
    """
    job = fresh_job(settings)
    num_images = min(MAP_IMAGES, job.batch_rows)
    batch = first_batch(job, job.indices, num_images, required(job.methods))
    if batch is None:
        return []
    trace = traced(job.cut_model, batch)
    backwards = Batch.joined([batch[row : row + 1] for row in reversed(range(len(batch)))])
    other_classes = (trace.targets + 1) % trace.logits.shape[1]
    traces = {
        "random weights": trace.again(model=_with_random_weights(job.cut_model.model, seed)),
        "another class": trace.again(targets=other_classes),
        "another order": traced(job.cut_model, backwards),
    }
    lines = [f"heatmaps on {job.name}, mean change (0 to 1) for {plural(len(batch), 'image')}"]
    for method in job.methods:
        explanation = explained(trace, batch, method, notes=job.notes)
        if explanation is None:
            continue
        heatmaps = explanation.required_heatmap.nan_to_num(0.0)
        changed = {"another image": heatmaps.roll(1, 0)}
        for name, other in traces.items():
            same_batch = backwards if name == "another order" else batch
            moved = explained(other, same_batch, method, notes=job.notes)
            if moved is not None:
                changed[name] = moved.required_heatmap.nan_to_num(0.0)
        if "another order" in changed:
            # Put the rows back into the order of the other heatmaps.
            changed["another order"] = changed["another order"].flip(0)
        texts = []
        for name, changed_heatmaps in sorted(changed.items()):
            distance = float((changed_heatmaps - heatmaps).abs().mean())
            texts.append(f"{name} {number(distance)}")
        lines.append(f"  {method.name}: {', '.join(texts)}")
    return lines


def _with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of the model with the values of each parameter in random order."""
    random_model = copy.deepcopy(shared_copy(model))
    generator = torch.Generator().manual_seed(seed % 2**63)
    with torch.no_grad():
        for parameter in random_model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return random_model


class FreshComparison(NamedTuple):
    """A method's values by one metric of a part, on published and on fresh images."""

    part: str
    value: Value
    published: NDArray[np.float64]
    """(images, 2): the value, and its difference to the reference."""
    fresh: NDArray[np.float64]
    """The same on fresh images."""
    p: float
    """The p value of a test that both differences to the reference are the same."""


def fresh_line(moved: FreshComparison, p: float, is_marked: bool, reference: str) -> str:
    """Compare a method's values on published and on fresh images in a line.

    Args:
        moved: The values.
        p: The p value after Holm's correction.
        is_marked: Whether the values differ.
        reference: The name of the reference.
    """
    value, distance = _means(moved.published)
    fresh_value, fresh_distance = _means(moved.fresh)
    verdict = f"{'differs' if is_marked else 'the same'}, {p_value(p)}"
    return (
        f"  {moved.part}, {moved.value.title}: {value} on {len(moved.published)} published "
        f"images, {fresh_value} on {len(moved.fresh)} fresh ones; minus {reference} {distance} "
        f"and {fresh_distance} ({verdict})"
    )


def _means(values: NDArray[np.float64]) -> list[str]:
    """Return the mean of each column, with its 95 % interval, as texts."""
    low, high = mean_intervals(values, np.arange(len(values)))
    return [with_interval(*ends) for ends in zip(values.mean(0), low, high, strict=True)]


def unplanted_lines(
    name: str, values: Mapping[str, NDArray[np.float64]], reference: str
) -> list[str]:
    """List a method's values by each metric on a model without planted truth, next to the
    reference's.

    Args:
        name: The model.
        values: By metric (images, 2): the value, and its difference to the reference.
        reference: The name of the reference.
    """
    lines = [f"values on {name}, which has no planted truth"]
    for metric, columns in values.items():
        if len(columns):
            value, distance = _means(columns)
            lines.append(f"  {metric}: {value}; minus {reference} {distance}")
    return lines
