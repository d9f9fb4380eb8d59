"""Refuses methods and metrics that write to tensors which others read, since that would change their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, measuring
from axiom_bench.explanation.explanation import Explanation

TRACE_FIELDS = ("images", "activations", "gradients", "logits", "scores", "targets", "other_images")
COMPUTED_FIELDS = ("ablation_drops", "true_contributions")
EXPLANATION_FIELDS = ("heatmap", "raw_map", "contributions", "masks", "ignored", "wrong_class")


class NamedFunction(Protocol):
    """The part of a Plugin that this module needs; it can't import plugins.py, which imports `answering`."""

    @property
    def name(self) -> str:
        """The plug-in's name."""

    @property
    def target(self) -> str:
        """The dotted path of its function."""

    @property
    def call(self) -> Callable[..., Any]:
        """The function with its params bound."""

    def noting_errors(self) -> AbstractContextManager[None]:
        """Adds the plug-in's name to an error of its function."""


@contextmanager
def explained_by(method: NamedFunction, trace: Trace) -> Iterator[None]:
    """Around a call of a method. Raises BenchError where it writes to a tensor of the trace."""
    with _unchanged("method", method, _tensors(trace, None)):
        yield


@contextmanager
def measured_by(metric: NamedFunction, explanation: Explanation) -> Iterator[None]:
    """Around code of a metric. Raises BenchError where it writes to a tensor of explanation or trace; a BenchError of
    its own gets the metric's name, any other error a note."""
    tensors = _tensors(explanation.trace, explanation)
    with _unchanged("metric", metric, tensors), measuring(metric.name), metric.noting_errors():
        yield


@contextmanager
def _unchanged(kind: str, plugin: NamedFunction, tensors: dict[str, Tensor]) -> Iterator[None]:
    before = {name: version(tensor) for name, tensor in tensors.items()}
    yield
    changed = [name for name, tensor in tensors.items() if version(tensor) != before[name]]
    if changed:
        raise BenchError(
            f"The {kind} {plugin.name!r} ({plugin.target}) writes to {changed[0]}, which others read; change a copy, "
            "as with .clone(), or compute without in-place operations."
        )


def _tensors(trace: Trace | None, explanation: Explanation | None) -> dict[str, Tensor]:
    fields = {f"trace.{name}": getattr(trace, name, None) for name in TRACE_FIELDS}
    if trace is not None:  # what is computed on first use isn't computed for this check
        fields |= {f"trace.{name}": vars(trace).get(name) for name in COMPUTED_FIELDS}
    for row, parts in enumerate(getattr(trace, "interventions", None) or ()):
        fields |= {f"trace.interventions[{row}] ({part.name!r})": part.images for part in parts}
    fields |= {f"explanation.{name}": getattr(explanation, name, None) for name in EXPLANATION_FIELDS}
    for name in ("boxes", "cells"):
        for row, boxes in enumerate(getattr(explanation, name, None) or ()):
            fields[f"explanation.{name}[{row}]"] = boxes
    for row, objects in enumerate(getattr(explanation, "others", None) or ()):
        fields |= {f"explanation.others[{row}].{name}": getattr(objects, name) for name in ("labels", "boxes", "mask")}
    return {name: tensor for name, tensor in fields.items() if isinstance(tensor, Tensor)}


def version(tensor: Tensor) -> int:
    """A number that changes when a tensor is written to: its version counter, or a hash of the bytes of an inference
    tensor, which has no counter."""
    if tensor.is_inference():
        return hash(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return tensor._version
