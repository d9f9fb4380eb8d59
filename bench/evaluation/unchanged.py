"""Refuses methods and metrics that write to tensors which others read, since that would change their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import Any, Protocol

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, measuring
from axiom_bench.explanation.explanation import Explanation

TRACE_FIELDS = ("images", "activations", "gradients", "logits", "scores", "targets", "other_images")
COMPUTED_FIELDS = ("ablation_drops", "true_contributions")
EXPLANATION_FIELDS = ("heatmap", "raw_map", "contributions", "masks", "ignored", "wrong_class")
VERSION = attrgetter("_version")  # not a lambda: a metric is called a thousand times, with a hundred tensors each


class NamedFunction(Protocol):
    """The part of a Plugin that this module needs; it can't import plugins.py, which imports `answers`."""

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
    with _unchanged("method", method, _of_trace(trace) | _computed(trace)):
        yield


@contextmanager
def measured_by(metric: NamedFunction, explanation: Explanation) -> Iterator[None]:
    """Around code of a metric. Raises BenchError where it writes to a tensor of explanation or trace; a BenchError of
    its own gets the metric's name, any other error a note."""
    given = explanation.once("tensors that others read", lambda: _of_explanation(explanation))
    tensors = given | _computed(explanation.trace)
    with _unchanged("metric", metric, tensors), measuring(metric.name), metric.noting_errors():
        yield


@contextmanager
def _unchanged(kind: str, plugin: NamedFunction, tensors: dict[str, Tensor]) -> Iterator[None]:
    before = _versions(tensors.values())
    yield
    after = _versions(tensors.values())
    if after != before:
        name = next(name for name, old, new in zip(tensors, before, after, strict=True) if new != old)
        raise BenchError(
            f"The {kind} {plugin.name!r} ({plugin.target}) writes to {name}, which others read; change a copy, "
            "as with .clone(), or compute without in-place operations."
        )


def _of_trace(trace: Trace | None) -> dict[str, Tensor]:
    fields = {f"trace.{name}": getattr(trace, name, None) for name in TRACE_FIELDS}
    for row, parts in enumerate(getattr(trace, "interventions", None) or ()):
        fields |= {f"trace.interventions[{row}] ({part.name!r})": part.images for part in parts}
    return _tensors(fields)


def _computed(trace: Trace | None) -> dict[str, Tensor]:
    """What is computed on first use, and isn't computed for this check."""
    return {} if trace is None else _tensors({f"trace.{name}": vars(trace).get(name) for name in COMPUTED_FIELDS})


def _of_explanation(explanation: Explanation) -> dict[str, Tensor]:
    """With those of its trace."""
    fields = {f"explanation.{name}": getattr(explanation, name, None) for name in EXPLANATION_FIELDS}
    for name in ("boxes", "cells"):
        for row, boxes in enumerate(getattr(explanation, name, None) or ()):
            fields[f"explanation.{name}[{row}]"] = boxes
    for row, objects in enumerate(explanation.others or ()):
        fields |= {f"explanation.others[{row}].{name}": getattr(objects, name) for name in ("labels", "boxes", "mask")}
    return _of_trace(explanation.trace) | _tensors(fields)


def _tensors(fields: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _versions(tensors: Iterable[Tensor]) -> list[int]:
    """A number for each that changes when it is written to: its version counter, or a hash of the bytes of an inference
    tensor, which has no counter."""
    try:
        return list(map(VERSION, tensors))
    except RuntimeError:
        return [_bytes_hashed(tensor) if tensor.is_inference() else tensor._version for tensor in tensors]


def _bytes_hashed(tensor: Tensor) -> int:
    return hash(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
