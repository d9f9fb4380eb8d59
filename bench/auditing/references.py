"""The maps of all methods under all readings, which an implementation's maps are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import combinations, product

import torch
from torch import Tensor

from axiom_bench.auditing.case import Case
from axiom_bench.auditing.readings import (
    ALPHAS,
    BIASES,
    CHANNELS,
    SUM_EPSILONS,
    USUAL,
    WEIGHTS,
    Reading,
    Traces,
    finished,
    raw_map,
    without_network,
)
from axiom_bench.auditing.variants import variant
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Method
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.explanation.explanation import Map

MAX_PASSES = 64  # methods with more passes of a network per image aren't compared
MAX_CHANGES = 3  # of one candidate, in addition to those of ReLU, resizing and normalisation
Answer = tuple[Trace, Tensor | Map]  # a changed trace, and a method's answer for it


class References:
    """The raw maps of all methods for one case, each computed once."""

    def __init__(self, case: Case) -> None:
        self.traces = Traces(case)
        activations = self.traces.usual.activations
        self.num_channels = activations.shape[1]
        self.layer_size = tuple(activations.shape[2:])

    def raw_map(self, method: Method, reading: Reading) -> Tensor | None:
        """Return a method's raw map (B, h, w), or None if it has none on this case."""
        answer = self.answer(method, reading.trace_part)
        if answer is None:
            return None
        raw = raw_map(*answer, reading, self.traces.bias)
        return raw if raw is not None and bool(raw.isfinite().all()) else None

    def maps(self, method: Method, reading: Reading, size: Sequence[int]) -> Tensor | None:
        """Return a method's finished maps (B, H', W'), or None if it has none on this case."""
        raw = self.raw_map(method, reading)
        if raw is None:
            return None
        return finished(raw, size, reading, self.num_channels).detach().double()

    def raw_maps(self, method: Method, reading: Reading) -> dict[Reading, Tensor]:
        """Return a method's raw maps for all changes that follow its answer."""
        # the usual answers are asked for again if no formula is equal; all others are too many
        compute = self.answer if reading == USUAL else self._computed
        answer = compute(method, reading)
        if answer is None:
            return {}
        maps: dict[Reading, Tensor] = {}
        for changed in following_readings(reading):
            raw = raw_map(*answer, changed, self.traces.bias)
            if raw is not None:
                maps[changed] = raw
        are_finite = torch.stack(list(maps.values())).flatten(1).isfinite().all(1).tolist()
        entries = zip(maps.items(), are_finite, strict=True)
        return {changed: raw for (changed, raw), is_finite in entries if is_finite}

    def answer(self, method: Method, reading: Reading) -> Answer | None:
        """Return the trace of a reading with the method's answer, or None if it has none."""
        return self.traces.once(
            ("answer", method.name, reading), lambda: self._computed(method, reading)
        )

    def _computed(self, method: Method, reading: Reading) -> Answer | None:
        """Return the changed trace with the method's answer, or None if it has none."""
        try:
            with warnings.catch_warnings(action="ignore"):
                return self._answer(method, reading)
        except Exception:  # noqa: BLE001 - a method may raise anything on a network that it can't explain
            return None

    def _answer(self, method: Method, reading: Reading) -> Answer | None:
        if reading.params:
            method = variant(method.name, reading.params)
            reading = replace(reading, params=())
        if reading == USUAL:
            return self.traces.usual, method(self.traces.usual)
        if reading.alpha and not has_alpha(method, self.traces):
            return None
        if reading.gradients and not reads_gradients(method, self.traces):
            return None
        if not reads_only_tensors(method, self.traces):
            changed = self.traces.trace(reading)
            return None if changed is None else (changed, method(changed))
        traces = self.traces.tensors(reading)
        if traces is None:
            return None
        trace, tensors = traces
        if reading.alpha:
            return trace, ALPHAS[reading.alpha](trace.activations, trace.gradients)
        answer = method(tensors)
        if reading.activations in SUM_EPSILONS and answer[0, 0].numel() > 1:
            return None
        return trace, answer


@lru_cache(maxsize=64)
def references_of(case: Case) -> References:
    """Return the references of a case, which later audits in this process use again."""
    return References(case)


def num_channels(case: Case) -> int:
    """Return the number of channels of a case's target layer."""
    return references_of(case).num_channels


def reads_only_tensors(method: Method, traces: Traces) -> bool:
    """Return True if a method computes its answer from a trace's tensors alone."""

    def succeeds() -> bool:
        try:
            method(without_network(traces.usual))
        except Exception:  # noqa: BLE001 - whatever the missing network raises
            return False
        return True

    return traces.once(("reads only tensors", method.name), succeeds)


def reads_gradients(method: Method, traces: Traces) -> bool:
    """Return True if a method that reads only tensors has another answer for other gradients."""

    def differs() -> bool:
        usual = without_network(traces.usual)
        changed = replace(usual, gradients=usual.gradients.square())
        return not torch.equal(_values(method(changed)), _values(method(usual)))

    return traces.once(("reads gradients", method.name), differs)


def has_alpha(method: Method, traces: Traces) -> bool:
    """Return True if a method's weights are those of `alpha_weights`, so that ALPHAS change it."""

    def is_equal() -> bool:
        if not reads_only_tensors(method, traces):
            return False
        usual = without_network(traces.usual)
        expected = ALPHAS[""](usual.activations, usual.gradients)
        answer = _values(method(usual))
        if answer.shape != expected.shape:
            return False
        # both are right to some digits in float32
        return bool((answer - expected).abs().amax() <= 1e-4 * expected.abs().amax())

    return traces.once(("has alpha", method.name), is_equal)


def _values(answer: Tensor | Map) -> Tensor:
    return answer.raw if isinstance(answer, Map) else answer


def audited_methods(channels: int) -> tuple[Method, ...]:
    """Return the methods that explain any convolutional network in MAX_PASSES, the fastest first.

    Args:
        channels: The number of channels of the layer, which some methods run a pass for.
    """
    methods: list[Method] = []
    for name in plugins.names_of_all("method"):
        method = plugins.load("method", name)
        spec = method.spec
        if not spec.control and not spec.requires and num_passes(method, channels) <= MAX_PASSES:
            methods.append(method)
    return tuple(sorted(methods, key=lambda method: num_passes(method, channels)))


def num_passes(method: Method, channels: int) -> int:
    """Return the number of passes of a method for an image; MAX_PASSES if it is unknown."""
    passes = method.spec.passes
    return MAX_PASSES if passes is None else pass_count(passes, channels)


def trace_readings(steps: Mapping[str, Iterable[str]], num_changes: int) -> Iterator[Reading]:
    """Yield the readings with this many changes of the trace.

    Args:
        steps: The names of each step's switches, by the field of `Reading`.
        num_changes: The number of steps that are changed.
    """
    for names in combinations(steps, num_changes):
        choices = [[choice for choice in steps[name] if choice] for name in names]
        for values in product(*choices):
            changes = dict(zip(names, values, strict=True))
            reading = replace(USUAL, **changes)  # type: ignore[arg-type]  # all of them are names
            # an epsilon is seldom the only one of several changes, and there are many of them
            if num_changes == 1 or reading.activations not in SUM_EPSILONS or reading.score:
                yield reading


@cache
def following_readings(reading: Reading) -> list[Reading]:
    """Return the readings that add changes of weights, channels and bias to those of a trace."""
    readings = []
    for weights, channels, bias in product(WEIGHTS, CHANNELS, BIASES):
        changed = replace(reading, weights=weights, channels=channels, bias=bias)
        if len(changed.changes) <= MAX_CHANGES:
            readings.append(changed)
    return readings
