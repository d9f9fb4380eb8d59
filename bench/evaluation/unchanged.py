"""What others read stays as it is while a method or a metric runs.

The suite's own plug-ins are trusted: their tests prove it. Of anyone else's, each byte that others read is compared on
watched traces, and the network and the settings of torch with those at the job's start. A write through `.numpy()` or
`.data` moves no version counter.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter, is_
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.modules.module as torch_module
from torch import Tensor, nn
from torch.nn import functional

from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, measuring
from axiom_bench.explanation.explanation import Explanation

PACKAGE = __name__.partition(".")[0]
TRACE_FIELDS = ("images", "activations", "gradients", "logits", "scores", "targets", "other_images")
COMPUTED = {f"trace.{name}": name for name in ("ablation_drops", "true_contributions")}  # on first use
EXPLANATION_FIELDS = ("heatmap", "raw_map", "contributions", "masks", "ignored", "wrong_class")
VERSION = attrgetter("_version")  # not a lambda: a metric is called a thousand times, with a hundred tensors each
WATCHED = "watched"  # the key of the trace's mark, and of the cut model's state at the start
WATCHED_RATE, WATCHED_BATCHES = 16, 5  # one batch in so many, and of many batches about so many
Shared = TypeVar("Shared", Trace, Explanation)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
SETTINGS: Mapping[str, Callable[[], object]] = {
    "torch.use_deterministic_algorithms": lambda: (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    ),
    "torch.set_float32_matmul_precision": torch.get_float32_matmul_precision,
    "torch.set_default_dtype": torch.get_default_dtype,
    "torch.set_default_device": torch.get_default_device,
    "torch.set_num_threads": torch.get_num_threads,
    "torch.set_flush_denormal": lambda: bool(torch.tensor(1e-310, dtype=torch.float64).mul(1) == 0),
    "torch.autocast": lambda: [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
    "torch.inference_mode": torch.is_inference_mode_enabled,
    **{
        f"torch.backends.cudnn.{name}": lambda name=name: getattr(torch.backends.cudnn, name)  # type: ignore[misc]
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
    "torch.backends.cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
}


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

    @property
    def is_foreign(self) -> bool:
        """Whether it, or a method that it wraps, isn't the suite's own."""

    def noting_errors(self) -> AbstractContextManager[None]:
        """Adds the plug-in's name to an error of its function."""


class Interference(BenchError):
    """A plug-in changed what others read: their values of this trace, or of later ones, can't be trusted."""


@contextmanager
def explained_by(method: NamedFunction, trace: Trace) -> Iterator[None]:
    """Around a call of a method. Raises Interference where it writes to a tensor of the trace."""

    def tensors() -> dict[str, Tensor]:
        return _of_trace(trace) | _computed_on_use(trace)

    with _unchanged("method", method, trace, tensors, method.is_foreign and trace.holds(WATCHED)):
        yield


@contextmanager
def measured_by(metric: NamedFunction, explanation: Explanation) -> Iterator[None]:
    """Around code of a metric. Raises Interference where it writes to a tensor of explanation or trace; a BenchError of
    its own gets the metric's name, any other error a note."""

    def tensors() -> dict[str, Tensor]:
        given = explanation.once("tensors that others read", lambda: _of_explanation(explanation))
        return given | _computed_on_use(explanation.trace)

    trace = explanation.trace
    watched = metric.is_foreign and (explanation.holds(WATCHED) or (trace is not None and trace.holds(WATCHED)))
    unchanged = _unchanged("metric", metric, trace, tensors, watched)
    with unchanged, measuring(metric.name), metric.noting_errors():
        yield


@contextmanager
def _unchanged(
    kind: str, plugin: NamedFunction, trace: Trace | None, read: Callable[[], dict[str, Tensor]], watched: bool
) -> Iterator[None]:
    tensors = read()
    before, who = _versions(tensors.values()), f"The {kind} {plugin.name!r} ({plugin.target})"
    copies = {name: _bits(tensor).clone() for name, tensor in tensors.items()} if watched else {}
    yield
    after = read() if copies else tensors
    for name, version, now in zip(tensors, before, _versions(tensors.values()), strict=True):
        if now != version or (copies and not (after[name] is tensors[name] and _same(tensors[name], copies[name]))):
            raise Interference(
                f"{who} writes to {name}, which others read; change a copy, as with {name.partition('[')[0]}.clone(), "
                "or compute without in-place operations."
            )
    if copies and trace is not None:
        for name in after.keys() - copies.keys():
            if name in COMPUTED and not _same(after[name], _bits(getattr(replace(trace), COMPUTED[name]))):
                raise Interference(f"{who} changes {name} as it is computed, which others read; change a copy.")
        check_network(trace.cut_model, who)


def _same(tensor: Tensor, bits: Tensor) -> bool:
    """Whether the tensor has these bits; NaN is equal to itself."""
    return torch.equal(_bits(tensor), bits)


def _bits(tensor: Tensor) -> Tensor:
    plain = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    return plain.view(INTEGERS[plain.element_size()])


def watched_rate(batches: int) -> int:
    """In how many of a job's batches one is watched. Of a plug-in that is wrong on a share of its calls, as many
    batches show as much in any job."""
    return max(WATCHED_RATE, batches // WATCHED_BATCHES)


def is_watched(image_ids: Iterable[str], rate: int) -> bool:
    """Whether this batch is one of those in `rate` on which foreign plug-ins are compared byte by byte: by its images,
    so that it doesn't depend on order or company."""
    digest = hashlib.sha256("\n".join(image_ids).encode()).digest()
    return int.from_bytes(digest[:8]) % rate == 0


def watch(shared: Shared) -> Shared:
    """The trace, or explanation of maps alone, on which calls of foreign plug-ins are compared byte by byte from now
    on."""
    if isinstance(shared, Trace):
        state_at_start(shared.cut_model)
    shared.once(WATCHED, _Mark)
    return shared


class _Mark:
    """What a watched trace keeps, and so do traces of some of its rows."""

    def __getitem__(self, rows: slice) -> _Mark:
        return self


@dataclass(frozen=True, eq=False)
class State:
    """Of a network and of torch: by name parameters and buffers with their bits, modes and hooks of modules, values of
    SETTINGS, and the functions that anyone may call."""

    tensors: Mapping[str, tuple[Tensor, Tensor]]
    modules: Mapping[str, object]
    settings: Mapping[str, object]
    functions: Sequence[tuple[str, object, Mapping[str, object]]]

    @staticmethod
    def of(model: nn.Module, functions: bool = True) -> State:
        """As it is now. functions: False leaves these out, which take most of the time of a small network."""
        tensors = {name: (tensor, _bits(tensor).clone()) for name, tensor in _tensors_of(model).items()}
        settings = {name: _value(read) for name, read in SETTINGS.items()}
        return State(tensors, _modules(model), settings, _functions() if functions else [])

    def check(self, model: nn.Module, who: str) -> None:
        """Raises Interference, about `who`, where something isn't as it was."""
        tensors, modules = _tensors_of(model), _modules(model)
        for name, (tensor, bits) in self.tensors.items():
            if tensors.get(name) is not tensor or not _same(tensor, bits):
                raise Interference(f"{who} writes to the network's {name}, which others run; change a deep copy of it.")
        for name in (*self.modules, *modules) if modules != self.modules else ():
            if modules.get(name) != self.modules.get(name):
                raise Interference(
                    f"{who} leaves the network's {name} changed, which others run; restore it before the end."
                )
        for name, read in SETTINGS.items():
            if _value(read) != self.settings[name]:
                raise Interference(f"{who} changes {name} for all others; restore it before the end.")
        for owner, namespace, functions in self.functions:
            now = vars(namespace)
            if all(map(is_, map(now.get, functions), functions.values())):  # thousands of names in a millisecond
                continue
            for name, function in functions.items():
                if now.get(name) is not function and not _is_of(now.get(name), owner.partition(".")[0]):
                    raise Interference(
                        f"{who} replaces {owner}.{name}, which others call; call a function of your own instead."
                    )


def state_at_start(cut_model: SplitModel) -> State:
    """What the first call finds, the same for all later ones."""
    return cut_model.once(WATCHED, lambda: State.of(cut_model.model))


def check_network(cut_model: SplitModel, who: str) -> None:
    """Raises Interference, about `who`, where network, torch's settings or a function that others call isn't what it
    was at the start."""
    state_at_start(cut_model).check(cut_model.model, who)


def _value(read: Callable[[], object]) -> object:
    try:
        return read()
    except RuntimeError as error:  # torch's, where a setting was changed in two ways that contradict each other
        return str(error)


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _modules(model: nn.Module) -> dict[str, object]:
    """What makes modules compute otherwise beside their tensors: mode, hooks, a replaced forward, torch's constants."""
    state: dict[str, object] = {f"hooks of all modules ({name})": hooks for name, hooks in _hooks(vars(torch_module))}
    for name, module in model.named_modules():
        place, own = name or type(module).__name__, vars(module)
        constants = {key: own[key] for key in getattr(module, "__constants__", ()) if key in own}
        state |= {f"{place} (training mode)": module.training, f"{place} (forward)": own.get("forward")}
        state |= {
            f"{place} ({key})": value
            for key, value in constants.items()
            if isinstance(value, int | float | str | tuple)
        }
        state |= {f"{place} ({key})": hooks for key, hooks in _hooks(own)}
        state[f"{place} (class)"] = type(module)
    return state


def _hooks(names: Mapping[str, Any]) -> Iterator[tuple[str, list[object]]]:
    return (
        (key, list(value.values())) for key, value in names.items() if key.endswith("hooks") and isinstance(value, dict)
    )


def _functions() -> list[tuple[str, object, dict[str, object]]]:
    """(dotted name, module or class, its functions and classes by name) of torch, NumPy and this project, and of the
    classes in torch.nn and this project."""
    owners: dict[str, object] = {"torch": torch, "torch.nn.functional": functional, "numpy": np, "torch.Tensor": Tensor}
    owners |= {f"torch.nn.{name}": value for name, value in vars(nn).items() if isinstance(value, type)}
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE}
    for owner, module in modules.items():
        classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
        owners |= {f"{owner}.{name}": value for name, value in classes.items() if value.__module__ == owner}
    return [
        (owner, namespace, {name: value for name, value in list(vars(namespace).items()) if callable(value)})
        for owner, namespace in (owners | modules).items()
    ]


def _is_of(value: object, package: str) -> bool:
    """Whether a function is a package's own, which it may replace itself as one of its modules is imported."""
    if isinstance(value, FunctionType):
        return Path(value.__code__.co_filename).is_relative_to(Path(str(sys.modules[package].__file__)).parent)
    return str(getattr(value, "__module__", "")).partition(".")[0] == package


def _of_trace(trace: Trace | None) -> dict[str, Tensor]:
    fields = {f"trace.{name}": getattr(trace, name, None) for name in TRACE_FIELDS}
    for row, parts in enumerate(getattr(trace, "interventions", None) or ()):
        fields |= {f"trace.interventions[{row}] ({part.name!r})": part.images for part in parts}
        fields |= {f"trace.interventions[{row}] (bare)": part.bare for part in parts if part.bare is not None}
    return _tensors(fields)


def _computed_on_use(trace: Trace | None) -> dict[str, Tensor]:
    """What is computed on first use, and isn't computed for this check: fields, and scores that metrics asked for."""
    if trace is None:
        return {}
    fields = {name: vars(trace).get(field) for name, field in COMPUTED.items()}
    results = trace.results() if isinstance(trace, Trace) else ()  # a test's stand-in has none
    return _tensors(fields | {f"scores[{place}]": result for place, result in enumerate(results)})


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
        return [
            hash(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
            if tensor.is_inference()
            else tensor._version
            for tensor in tensors
        ]
