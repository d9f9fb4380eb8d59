"""Find the formula that a CAM implementation computes, and how it reads that formula.

The implementation runs once on every case. Its maps are compared with those of all methods of
conf/method under the switches of `readings`. The search is cheap because one network decides most:
a candidate survives the first case that its method can explain only if its map equals the observed
one up to a factor and an offset. Only the survivors are compared exactly, and on all cases.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import combinations, product
from typing import Literal

import torch
from torch import Tensor

from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.readings import (
    ACTIVATIONS,
    BIASES,
    CHANNELS,
    EPSILONS,
    GRADIENTS,
    INTERPOLATIONS,
    NORMALISATIONS,
    PLACES,
    RECTIFIED,
    SCALES,
    SCORES,
    SIDES,
    SUM_EPSILONS,
    SUMMED,
    TARGETS,
    USUAL,
    WEIGHTS,
    Reading,
    Traces,
    finished,
    raw_map,
    shaped,
    without_network,
)
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Method
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.explanation.explanation import Map

Status = Literal["known", "other_than_named", "unknown"]
ReportProgress = Callable[[str], None]

# The largest differences that rounding explains, as shares of a map's largest value. Sums of some
# hundred float64 products are exact to 1e-13, and a min-max of a flat map loses four digits.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}
HALF_TOLERANCE = 1e-2
ROUNDED = 2  # a rounded map's largest value is rounded, too
MAX_PASSES = 64  # methods with more passes of a network per image aren't compared
# Before an epsilon of the denominator is known, its map differs by less than this.
NEAR = 0.05
MAX_CHANGES = 3  # of one candidate, in addition to those of ReLU, resizing and normalisation
MAX_SURVIVORS = 300  # of one round, those of the fewest changes
NUM_NEAREST = 8  # formulas that are compared on all cases if none is equal
TRACE_FIELDS: Mapping[str, Iterable[str]] = {
    "target": TARGETS,
    "score": SCORES,
    "gradients": GRADIENTS,
    "activations": ACTIVATIONS,
}
# Two steps of the trace that may both be changed, frequent ones first.
PAIRS = (
    ("score", "gradients"),
    ("target", "score"),
    ("score", "activations"),
    ("gradients", "activations"),
    ("target", "gradients"),
    ("target", "activations"),
)
# The steps that a method with passes of its own follows.
NETWORK_FIELDS: Mapping[str, Iterable[str]] = {"target": TARGETS, "score": SCORES}


@dataclass(frozen=True)
class FormulaAnswer:
    """The formula that an implementation computes."""

    verdict: str
    """One sentence."""
    status: Status
    """"known", "other_than_named" if the formula isn't the expected one, or "unknown"."""
    formula: str | None = None
    """The method's key, or None if no formula is equal."""
    changes: tuple[str, ...] = ()
    """The switches in which the implementation differs from the method's usual heatmap."""
    equal: tuple[str, ...] = ()
    """Other formulas and switches that no case tells apart from this one."""
    differences: Mapping[str, float] = field(default_factory=dict)
    """The largest difference on each case, as a share of the map's largest value. For an unknown
    formula these are the differences from the nearest one."""
    nearest: str | None = None
    """The key of the nearest method, if the formula is unknown."""
    nearest_changes: tuple[str, ...] = ()
    """The switches of the nearest method."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """The cases on which the implementation gives no map, with the reason."""
    reading: Reading = USUAL
    """The switches of the formula, or of the nearest one."""


@dataclass(frozen=True, eq=False)
class _Observed:
    """The implementation's maps (B, h, w) for a case."""

    case: Case
    maps: Tensor
    tolerance: float


@dataclass(frozen=True)
class _Candidate:
    """A method with a reading."""

    method: Method = field(compare=False)
    name: str
    reading: Reading

    @property
    def text(self) -> str:
        """The method's title with its changes in parentheses."""
        return formula_text(self.title, self.reading.changes)

    @property
    def title(self) -> str:
        """The method's title."""
        return self.method.spec.title or self.name

    def with_reading(self, reading: Reading) -> _Candidate:
        """Return the method with another reading."""
        return replace(self, reading=reading)


def formula_text(title: str, changes: Sequence[str]) -> str:
    """Return a method's title with its changes in parentheses."""
    return f"{title} ({', '.join(changes)})" if changes else title


@dataclass(frozen=True)
class _Match:
    """A candidate with its largest difference on each case that it could be compared on."""

    candidate: _Candidate
    differences: Mapping[str, float]
    num_equal: int
    """The number of cases on which the maps are equal."""
    num_uncompared: int
    """The number of observed cases that the method can't explain."""
    num_unobserved: int
    """The number of cases that the method explains and the implementation doesn't."""

    @property
    def is_equal(self) -> bool:
        """True if the maps are equal on every compared case, and most cases are compared."""
        are_most_compared = self.num_uncompared < len(self.differences)
        return are_most_compared and len(self.differences) == self.num_equal

    @property
    def num_unshared(self) -> int:
        """The number of cases that only the method or only the implementation explains."""
        return self.num_uncompared + self.num_unobserved

    @property
    def order(self) -> tuple[int, int, bool, float]:
        """The key by which the best match comes first."""
        num_changes = len(self.candidate.reading.changes)
        is_wrapper = self.candidate.method.inner is not None
        return self.num_unshared, num_changes, is_wrapper, max(self.differences.values())


def find_formula(
    cam: CamFunction,
    cases: Sequence[Case],
    expected: str | None = None,
    report_progress: ReportProgress | None = None,
    rounding: float = 0.0,
) -> FormulaAnswer:
    """Find which method's formula an implementation computes, and with which switches.

    Args:
        cam: The implementation. It is called with a copy of each case's network.
        cases: The networks, of `auditing.cases.cases` or the user's own.
        expected: The name or title of the method that it should compute, or None.
        report_progress: Called with one line for each step of the search.
        rounding: The largest rounding error of the maps, as a share of the largest value; of maps
            that were drawn as pictures.

    Returns:
        The answer. If nothing is equal, it contains the nearest formula.

    Raises:
        BenchError: If there is no method of the expected name.
    """
    expected_method = None if expected is None else plugins.load("method", expected)
    report = report_progress or (lambda line: None)
    observed: list[_Observed] = []
    failures: dict[str, str] = {}
    for number, case in enumerate(cases, start=1):
        report(f"Running your function on network {number} of {len(cases)}: {case.name}")
        try:
            observed.append(_observe(cam, case, rounding))
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            failures[case.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    if not observed:
        reason = next(iter(failures.values()), "no network was given")
        return FormulaAnswer(
            verdict=f"gives a map on none of the {len(cases)} networks: {reason}",
            status="unknown",
            failures=failures,
        )
    search = _Search(cases, observed, report)
    matches = search.run()
    equal = [match for match in matches if match.is_equal]
    if not equal:
        return _unknown_answer(search.nearest(matches), observed, failures)
    return _known_answer(equal, expected_method, failures)


def _observe(cam: CamFunction, case: Case, rounding: float = 0.0) -> _Observed:
    """Run the implementation on a copy of a case's network.

    Raises:
        ValueError: If it returns no map for each image.
    """
    model = copy.deepcopy(case.model)
    layer = model.get_submodule(case.layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        returned = cam(model, layer, case.images.clone(), case.targets.clone())
    maps = torch.as_tensor(returned).detach().cpu()
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or len(maps) != len(case.images):
        raise ValueError(
            f"it returned {tuple(maps.shape)} for {len(case.images)} images, not one map each"
        )
    kinds = {maps.dtype, case.images.dtype}
    tolerance = max(TOLERANCES.get(kind, HALF_TOLERANCE) for kind in kinds)
    tolerance = max(tolerance, ROUNDED * rounding)
    if not maps.flatten(1).isfinite().all(1).any():
        raise ValueError("none of its maps is finite")
    return _Observed(case, maps.double(), tolerance)


def _known_answer(
    equal: Sequence[_Match], expected: Method | None, failures: Mapping[str, str]
) -> FormulaAnswer:
    """Return the answer for matches on all cases, of which the one of the fewest changes wins."""
    ordered = sorted(equal, key=lambda match: match.order)
    best = ordered[0]
    if expected is not None:
        named = [match for match in ordered if match.candidate.name == expected.name]
        # several formulas may agree on all cases, and then the named one is as good as any
        if named and named[0].order[:2] == best.order[:2]:
            best = named[0]
    candidate = best.candidate
    others: dict[str, None] = {}
    fewest_changes = {candidate.name: len(candidate.reading.changes)}
    for match in ordered:
        other = match.candidate
        num_changes = len(other.reading.changes)
        is_simplest = num_changes == fewest_changes.setdefault(other.name, num_changes)
        if other != candidate and is_simplest and match.order[0] == best.order[0]:
            others[other.text] = None
    largest = max(best.differences.values())
    precision = f"to {largest:.0e}" if largest else "exactly"
    # a normalised Grad-CAM of the softmax, for example, is also that of the log-softmax
    synonyms = [text for text in others if text.startswith(f"{candidate.title} (")]
    texts = [candidate.text]
    if len(synonyms) == 1:
        texts += synonyms
    elif synonyms:
        texts.append(f"{len(synonyms)} other readings of it")
    verdict = f"computes {' or '.join(texts)} {precision}"
    status: Status = "known"
    if expected is not None and expected.name != candidate.name:
        status = "other_than_named"
        verdict = f"computes {' or '.join(texts)}; its name says {expected.spec.title}"
    if failures:
        verdict += f"; it gives no map on networks with {_names(list(failures))}"
    return FormulaAnswer(
        verdict=verdict,
        status=status,
        formula=candidate.name,
        changes=candidate.reading.changes,
        equal=tuple(others),
        differences=best.differences,
        failures=failures,
        reading=candidate.reading,
    )


def _unknown_answer(
    nearest: _Match | None, observed: Sequence[_Observed], failures: Mapping[str, str]
) -> FormulaAnswer:
    """Return the answer if no formula is equal on all cases."""
    if nearest is None:
        return FormulaAnswer("no known formula", "unknown", failures=failures)
    tolerances = {result.case.name: result.tolerance for result in observed}
    differing = {
        name: value for name, value in nearest.differences.items() if value > tolerances[name]
    }
    verdict = f"no known formula: nearest is {nearest.candidate.text}"
    if not differing:
        count = len(nearest.differences)
        verdict += f", equal on the {count} networks that both explain, which are too few to tell"
    elif nearest.num_equal:
        verdict += f", equal on {nearest.num_equal} of {len(nearest.differences)} networks and"
    else:
        verdict += ","
    if differing:
        worst = max(differing, key=lambda name: differing[name])
        verdict += f" differing by {differing[worst]:.2g} on networks with {worst}"
    return FormulaAnswer(
        verdict=verdict,
        status="unknown",
        differences=nearest.differences,
        nearest=nearest.candidate.name,
        nearest_changes=nearest.candidate.reading.changes,
        failures=failures,
        reading=nearest.candidate.reading,
    )


def observed_maps(cam: CamFunction, case: Case) -> Tensor:
    """Return an implementation's maps (B, h, w) for a case. Raise what the implementation raises,
    or ValueError if it returns no map for each image.
    """
    return _observe(cam, case).maps


def formula_maps(answer: FormulaAnswer, case: Case, size: Sequence[int]) -> Tensor | None:
    """Return the maps (B, H', W') of an answer's formula, or of the nearest one.

    Args:
        answer: The answer.
        case: The case, which need not be one of those that were searched.
        size: The size of the maps.

    Returns:
        The maps, or None if there is no formula, or it can't explain the network.
    """
    name = answer.formula or answer.nearest
    if name is None:
        return None
    references = references_of(case)
    raw = references.raw_map(_Candidate(plugins.load("method", name), name, answer.reading))
    if raw is None:
        return None
    return finished(raw, size, answer.reading, references.num_channels).detach()


def _names(names: Sequence[str]) -> str:
    """Join names by commas and "and"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


class _Search:
    """The search for the readings of all methods that equal the observed maps."""

    def __init__(
        self, cases: Sequence[Case], observed: Sequence[_Observed], report: ReportProgress
    ) -> None:
        self.cases = cases
        self.observed = observed
        self.report = report
        self.networks = {case: references_of(case) for case in cases}
        self.matches: list[_Match] = []
        self.nearest_by_method: dict[str, tuple[float, int, _Candidate]] = {}
        self.shapes: dict[Case, list[Reading]] = {}

    def run(self) -> list[_Match]:
        """Return all candidates that equal the maps of their first case, on all cases."""
        methods = audited_methods(max(num_channels(result.case) for result in self.observed))
        first = self.networks[self.observed[0].case].traces
        by_tensors = [method for method in methods if reads_only_tensors(method, first)]
        by_network = [method for method in methods if method not in by_tensors]
        rounds: list[tuple[str, list[Method], Mapping[str, Iterable[str]], int]] = [
            ("formulas of one trace", by_tensors, TRACE_FIELDS, 0),
            ("formulas of one trace with one change", by_tensors, TRACE_FIELDS, 1),
            ("formulas with passes of their own", by_network, TRACE_FIELDS, 0),
        ]
        for names in PAIRS:
            steps: Mapping[str, Iterable[str]] = {name: TRACE_FIELDS[name] for name in names}
            title = f"formulas of one trace with other {' and '.join(names)}"
            rounds.append((title, by_tensors, steps, 2))
        title = "formulas with passes of their own and one change"
        rounds.append((title, by_network, NETWORK_FIELDS, 1))
        for title, round_methods, steps, num_changes in rounds:
            self.report(f"Comparing with {len(round_methods)} {title}")
            self._compare(round_methods, list(trace_readings(steps, num_changes)))
            has_passes = round_methods is by_network
            equal = [match for match in self.matches if match.is_equal]
            if equal and (has_passes or min(match.num_unshared for match in equal) == 0):
                break
        return self.matches

    def _compare(self, methods: Sequence[Method], readings: Sequence[Reading]) -> None:
        """Add the matches of these methods under these readings of the trace."""
        survivors: list[tuple[_Candidate, _Observed]] = []
        for reading in readings:
            waiting = list(methods)
            for result in self.observed:
                references = self.networks[result.case]
                raw_maps: dict[_Candidate, Tensor] = {}
                for method in waiting:
                    raw_maps.update(references.raw_maps(method, reading))
                explained = {candidate.name for candidate in raw_maps}
                waiting = [method for method in waiting if method.name not in explained]
                for candidate in self._screened(raw_maps, result):
                    survivors.append((candidate, result))
                if not waiting:
                    break
        survivors.sort(key=lambda survivor: len(survivor[0].reading.changes))
        for candidate, result in survivors[:MAX_SURVIVORS]:
            for exact in self._normalised(candidate, result):
                self.matches.append(self._match(exact))

    def _screened(
        self, raw_maps: Mapping[_Candidate, Tensor], result: _Observed
    ) -> list[_Candidate]:
        """Return the candidates whose maps are the observed ones up to factor and offset."""
        candidates_by_size: dict[torch.Size, list[_Candidate]] = {}
        for candidate, raw in raw_maps.items():
            candidates_by_size.setdefault(raw.shape, []).append(candidate)
        survivors = []
        for size, candidates in candidates_by_size.items():
            stack = torch.stack([raw_maps[candidate] for candidate in candidates]).double()
            for shape in self._shapes(result):
                is_resized = size[1:] != result.maps.shape[1:]
                if shape.interpolation and not is_resized:
                    continue
                maps = shaped(stack.flatten(0, 1), result.maps.shape[1:], shape)
                distances = affine_distances(maps.unflatten(0, stack.shape[:2]), result)
                nearest = int(distances.argmin())
                is_equal = distances < screening(result.tolerance)
                for index in {nearest, *is_equal.nonzero()[:, 0].tolist()}:
                    reading = replace(
                        candidates[index].reading,
                        sides=shape.sides,
                        rectified=shape.rectified,
                        interpolation=shape.interpolation,
                    )
                    candidate = candidates[index].with_reading(reading)
                    self._keep_nearest(candidate, float(distances[index]))
                    if is_equal[index]:
                        survivors.append(candidate)
        return survivors

    def _keep_nearest(self, candidate: _Candidate, distance: float) -> None:
        """Keep a candidate of few changes if it is nearer than all others of its method."""
        reading = candidate.reading
        if len(replace(reading, sides="", rectified="", interpolation="").changes) > 1:
            return
        entry = round(distance, 2), len(reading.changes), candidate
        kept = self.nearest_by_method.setdefault(candidate.name, entry)
        if entry[:2] < kept[:2]:
            self.nearest_by_method[candidate.name] = entry

    def _shapes(self, result: _Observed) -> list[Reading]:
        """Return the readings of axes, ReLU and interpolation that are possible for a case."""
        if result.case not in self.shapes:
            layer_size = self.networks[result.case].traces.usual.activations.shape[2:]
            self.shapes[result.case] = possible_shapes(result.maps, layer_size, result.tolerance)
        return self.shapes[result.case]

    def _normalised(self, candidate: _Candidate, result: _Observed) -> Iterator[_Candidate]:
        """Yield a candidate with each normalisation that gives exactly the observed maps."""
        for normalised in normalisations(candidate):
            difference = self._difference(normalised, result)
            if difference is None:
                return
            if difference <= result.tolerance:
                yield normalised
            elif difference < NEAR and normalised.reading.normalisation in NORMALISATIONS:
                for epsilon, summed in product(EPSILONS, ("", SUMMED)):
                    reading = replace(normalised.reading, epsilon=epsilon, summed=summed)
                    exact = normalised.with_reading(reading)
                    exact_difference = self._difference(exact, result)
                    if exact_difference is not None and exact_difference <= result.tolerance:
                        yield exact
                        break

    def _difference(self, candidate: _Candidate, result: _Observed) -> float | None:
        """Return the largest difference on a case, or None if the method can't explain it."""
        references = self.networks[result.case]
        raw = references.raw_map(candidate)
        if raw is None:
            return None
        size = result.maps.shape[1:]
        maps = finished(raw, size, candidate.reading, references.num_channels)
        return largest_difference(maps.double(), result.maps)

    def _match(self, candidate: _Candidate) -> _Match:
        """Compare a candidate on all cases."""
        differences: dict[str, float] = {}
        num_equal = 0
        for result in self.observed:
            difference = self._difference(candidate, result)
            if difference is None:
                continue
            differences[result.case.name] = difference
            num_equal += difference <= result.tolerance
        seen = {result.case for result in self.observed}
        unseen = [case for case in self.cases if case not in seen]
        explained = [case for case in unseen if self.networks[case].raw_map(candidate) is not None]
        return _Match(
            candidate=candidate,
            differences=differences,
            num_equal=num_equal,
            num_uncompared=len(self.observed) - len(differences),
            num_unobserved=len(explained),
        )

    def nearest(self, matches: Sequence[_Match]) -> _Match | None:
        """Return the candidate that equals the observed maps on most cases, or comes nearest."""
        self.report("Looking for the nearest formula")
        first = self.observed[0]
        nearest_matches = list(matches)
        entries = sorted(self.nearest_by_method.values(), key=lambda entry: entry[:2])
        for _, _, candidate in entries[:NUM_NEAREST]:
            best: tuple[float, _Candidate] | None = None
            for normalised in normalisations(candidate):
                difference = self._difference(normalised, first)
                if difference is not None and (best is None or difference < best[0]):
                    best = difference, normalised
            if best is not None:
                nearest_matches.append(self._match(best[1]))
        if not nearest_matches:
            return None
        return min(nearest_matches, key=self._badness)

    def _badness(self, match: _Match) -> tuple[int, float, int]:
        """Return the key by which the nearest candidate comes first.

        A few equal cases say little, since many formulas are equal on a linear head.
        """
        differences = torch.tensor([*match.differences.values(), *[1.0] * match.num_uncompared])
        num_equal = match.num_equal if 2 * match.num_equal >= len(self.observed) else 0
        return -num_equal, float(differences.median()), len(match.candidate.reading.changes)


class _References:
    """The raw maps of all methods for one case, each computed once."""

    def __init__(self, case: Case) -> None:
        self.traces = Traces(case)
        self.num_channels = self.traces.usual.activations.shape[1]

    def raw_map(self, candidate: _Candidate) -> Tensor | None:
        """Return a candidate's raw map (B, h, w), or None if there is none on this case."""
        reading = candidate.reading
        answer = self._answer(candidate.method, reading.trace_part)
        if answer is None or (reading.bias and self.traces.bias is None):
            return None
        bias = torch.zeros(0) if self.traces.bias is None else self.traces.bias
        raw = raw_map(*answer, reading, bias)
        return raw if raw is not None and bool(raw.isfinite().all()) else None

    def raw_maps(self, method: Method, reading: Reading) -> dict[_Candidate, Tensor]:
        """Return a method's raw maps for all changes that follow its answer."""
        answer = self._computed(method, reading)
        if answer is None:
            return {}
        bias = torch.zeros(0) if self.traces.bias is None else self.traces.bias
        maps: dict[_Candidate, Tensor] = {}
        for changed in following_readings(reading, self.traces.bias is not None):
            raw = raw_map(*answer, changed, bias)
            if raw is not None:
                maps[_Candidate(method, method.name, changed)] = raw
        are_finite = torch.stack(list(maps.values())).flatten(1).isfinite().all(1).tolist()
        entries = zip(maps.items(), are_finite, strict=True)
        return {candidate: raw for (candidate, raw), is_finite in entries if is_finite}

    def _answer(self, method: Method, reading: Reading) -> tuple[Trace, Tensor | Map] | None:
        """Return the changed trace with the method's answer, or None if it has none."""
        return self.traces.once(
            ("answer", method.name, reading), lambda: self._computed(method, reading)
        )

    def _computed(self, method: Method, reading: Reading) -> tuple[Trace, Tensor | Map] | None:
        is_changed = reading != USUAL
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if not is_changed:
                    return self.traces.usual, method(self.traces.usual)
                if reading.gradients and not reads_gradients(method, self.traces):
                    return None
                if reads_only_tensors(method, self.traces):
                    traces = self.traces.tensors(reading)
                    if traces is None:
                        return None
                    trace, tensors = traces
                    answer = method(tensors)
                    if reading.activations in SUM_EPSILONS and answer[0, 0].numel() > 1:
                        return None
                    return trace, answer
                changed = self.traces.trace(reading)
                return None if changed is None else (changed, method(changed))
        except Exception:  # noqa: BLE001 - a method may raise anything on a network that it can't explain
            return None


@lru_cache(maxsize=64)
def references_of(case: Case) -> _References:
    """Return the references of a case, which later audits in this process use again."""
    return _References(case)


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


def _values(answer: Tensor | Map) -> Tensor:
    return answer.raw if isinstance(answer, Map) else answer


@cache
def following_readings(reading: Reading, has_bias: bool) -> list[Reading]:
    """Return the readings that add changes of weights, channels and bias to those of a trace."""
    readings = []
    for weights, channels, bias in product(WEIGHTS, CHANNELS, BIASES if has_bias else [""]):
        changed = replace(reading, weights=weights, channels=channels, bias=bias)
        if len(changed.changes) <= MAX_CHANGES:
            readings.append(changed)
    return readings


@cache
def screening(tolerance: float) -> float:
    """Return the distance up to factor and offset that survives for a tolerance.

    A flat map's deviation from its mean is smaller than its values. Rounded maps would let too many
    candidates survive.
    """
    return min(20 * tolerance, max(3 * tolerance, 1e-3))


def num_channels(case: Case) -> int:
    """Return the number of channels of a case's target layer."""
    return references_of(case).num_channels


def audited_methods(channels: int) -> tuple[Method, ...]:
    """Return the methods that explain any convolutional network in at most MAX_PASSES passes.

    Args:
        channels: The number of channels of the layer, which some methods run a pass for.
    """
    methods: list[Method] = []
    for name in plugins.names_of_all("method"):
        method = plugins.load("method", name)
        spec = method.spec
        passes = 0 if spec.passes is None else pass_count(spec.passes, channels)
        if spec.control or spec.requires or passes > MAX_PASSES:
            continue
        methods.append(method)
    return tuple(methods)


def trace_readings(steps: Mapping[str, Iterable[str]], num_changes: int) -> Iterator[Reading]:
    """Yield the readings with this many changes of the trace."""
    for names in combinations(steps, num_changes):
        choices = [[choice for choice in steps[name] if choice] for name in names]
        for values in product(*choices):
            changes = dict(zip(names, values, strict=True))
            reading = replace(USUAL, **changes)  # type: ignore[arg-type]  # all of them are names
            # an epsilon is seldom the only one of several changes, and there are many of them
            if num_changes == 1 or reading.activations not in SUM_EPSILONS or reading.score:
                yield reading


def normalisations(candidate: _Candidate) -> Iterator[_Candidate]:
    """Yield a candidate with each normalisation, without an epsilon."""
    for place, normalisation in product(PLACES, (*NORMALISATIONS, *SCALES)):
        if place and normalisation in SCALES:
            continue
        reading = replace(candidate.reading, place=place, normalisation=normalisation)
        yield candidate.with_reading(reading)


def possible_shapes(maps: Tensor, layer_size: Sequence[int], tolerance: float) -> list[Reading]:
    """Return the readings of axes, ReLU and interpolation that observed maps can come from.

    An interpolated map is a linear function of the map at the layer. So is the positive part of a
    map that was rectified after the resizing.

    Args:
        maps: The observed maps, (B, H, W).
        layer_size: The size of the layer's maps, (h, w).
        tolerance: The tolerance of their comparison.

    Returns:
        The readings, which have only these three fields. If the maps come from no interpolation,
        all readings are possible.
    """
    size = maps.shape[1:]
    before = [name for name in RECTIFIED if "after" not in name]
    if size == torch.Size(layer_size):
        return [Reading(sides=sides, rectified=name) for sides in SIDES for name in before]
    shapes = []
    for sides, interpolation in product(SIDES, INTERPOLATIONS):
        shape = Reading(sides=sides, interpolation=interpolation, rectified="no ReLU")
        if _is_interpolated(maps, layer_size, shape, tolerance, only_positive=False):
            shapes += [replace(shape, rectified=name) for name in before]
        elif _is_interpolated(maps, layer_size, shape, tolerance, only_positive=True):
            shapes.append(replace(shape, rectified="ReLU after resizing"))
    if not shapes:
        choices = product(SIDES, RECTIFIED, INTERPOLATIONS)
        shapes = [
            Reading(sides=sides, rectified=name, interpolation=interpolation)
            for sides, name, interpolation in choices
        ]
    return shapes


def _is_interpolated(
    maps: Tensor,
    layer_size: Sequence[int],
    shape: Reading,
    tolerance: float,
    only_positive: bool,
) -> bool:
    """Return True if every finite map is an interpolation of some map at the layer."""
    height, width = layer_size
    units = torch.eye(height * width, dtype=torch.float64).view(-1, height, width)
    basis = shaped(units, maps.shape[1:], shape).flatten(1).T
    for values in maps.flatten(1):
        if not values.isfinite().all():
            continue
        rows = values > 0 if only_positive else torch.ones_like(values, dtype=torch.bool)
        if not rows.any():
            continue
        fitted = (
            basis[rows] @ torch.linalg.lstsq(basis[rows], values[rows], driver="gelsd").solution
        )
        largest = values.abs().amax()
        if (fitted - values[rows]).abs().amax() > max(100 * tolerance, 1e-9) * largest:
            return False
    return True


def affine_distances(maps: Tensor, result: _Observed) -> Tensor:
    """Return how far candidates are from the observed maps up to factor and offset.

    Args:
        maps: The maps of N candidates, (N, B, H, W).
        result: The observed maps.

    Returns:
        The largest distance of each candidate, (N,), as a share of the map's largest deviation from
        its mean. A constant map is at distance 1 from a map that isn't constant.
    """
    rows = result.maps.flatten(1).isfinite().all(1)
    observed, observed_is_flat = _standardised(result.maps[rows], result.tolerance)
    candidates, is_flat = _standardised(maps[:, rows], result.tolerance)
    distances = (candidates - observed).abs().amax((-2, -1)) / observed.abs().amax((-2, -1)).clamp(
        min=1e-30
    )
    distances = torch.where(is_flat & observed_is_flat, 0.0, distances)
    distances = torch.where(is_flat ^ observed_is_flat, 1.0, distances)
    return distances.amax(-1)


def _standardised(maps: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return maps (..., H, W) of mean 0 and norm 1, and whether they are flat, (...)."""
    centred = maps - maps.mean((-2, -1), keepdim=True)
    norm = centred.square().sum((-2, -1), keepdim=True).sqrt()
    largest = maps.abs().amax((-2, -1))
    is_flat = norm[..., 0, 0] <= tolerance * largest
    return centred / norm.clamp(min=1e-300), is_flat


def largest_difference(maps: Tensor, observed: Tensor) -> float:
    """Return the largest difference of maps (B, H, W), as a share of each map's largest value.

    A map that isn't finite may be a constant one that was divided by 0.
    """
    largest = 0.0
    overall = float(maps.abs().amax())
    for row, seen in zip(maps, observed, strict=True):
        if not seen.isfinite().all():
            if row.amax() != row.amin():
                return float("inf")
            continue
        scale = max(float(row.abs().amax()), float(seen.abs().amax()), 1e-6 * overall)
        if scale:
            largest = max(largest, float((row - seen).abs().amax()) / scale)
    return largest
