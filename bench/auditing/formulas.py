"""Find the formula that a CAM implementation computes, and how it reads that formula.

The implementation runs once on every case. Its maps are compared with those of all methods of
conf/method under the switches of `readings`. The search is cheap because one network decides most:
a candidate survives the first case that its method can explain only if its map equals the observed
one up to a factor and an offset. Only the survivors are compared exactly, and on all cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import torch
from torch import Tensor

from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.cases import cases as networks
from axiom_bench.auditing.observation import (
    FLOAT32_MARGIN,
    Observation,
    error_line,
    largest_difference,
    observe,
)
from axiom_bench.auditing.readings import (
    ACTIVATIONS,
    ALPHAS,
    EPSILONS,
    GRADIENTS,
    NORMALISATIONS,
    ONE,
    PLACES,
    SCALES,
    SCORES,
    SUMMED,
    TARGETS,
    USUAL,
    Reading,
)
from axiom_bench.auditing.references import (
    MAX_PASSES,
    audited_methods,
    num_passes,
    reads_only_tensors,
    references_of,
    trace_readings,
)
from axiom_bench.auditing.variants import other_params
from axiom_bench.auditing.verdict import (
    Candidate,
    FormulaAnswer,
    Match,
    known_answer,
    unknown_answer,
)
from axiom_bench.errors import plural
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Method
from axiom_bench.explanation.explanation import Map

ReportProgress = Callable[[str], None]
Steps = Mapping[str, Iterable[str]]  # the names of each step's switches, by the field of Reading

# Before an epsilon of the denominator is known, its map differs by less than this. So does a map
# of float32.
NEAR = 0.05
MAX_SURVIVORS = 300  # of one round, those of the fewest changes
# Of an image, times the passes of a method that is compared with a changed score: a few passes of a
# photograph, and all passes of the audit's small images.
MAX_PIXELS = 2**18
NUM_NEAREST = 8  # formulas that are compared on all cases if none is equal
# The median distance, up to factor and offset, of a formula that says nothing about the maps. A
# constant map is at distance 1, and Grad-CAM's maps of other images are at 0.9 or more.
UNRELATED = 0.8
TRACE_STEPS: Steps = {
    "target": TARGETS,
    "score": SCORES,
    "gradients": GRADIENTS,
    "activations": ACTIVATIONS,
    "alpha": ALPHAS,
}
# The steps that a method with passes of its own follows.
NETWORK_STEPS: Steps = {"target": TARGETS, "score": SCORES}
ONE_CHANGE = list(trace_readings(TRACE_STEPS, 1))
# Two steps of the trace that may both be changed, frequent ones first.
PAIRS = (
    ("score", "gradients"),
    ("target", "score"),
    ("score", "alpha"),
    ("score", "activations"),
    ("gradients", "activations"),
    ("target", "gradients"),
    ("target", "activations"),
)


def silent(line: str) -> None:
    """Report nothing."""


def find_formula(
    cam: CamFunction,
    cases: Sequence[Case],
    expected: str | None = None,
    report: ReportProgress = silent,
    rounding: float = 0.0,
) -> FormulaAnswer:
    """Find which method's formula an implementation computes, and with which switches.

    Args:
        cam: The implementation. It is called with a copy of each case's network.
        cases: The networks, of `auditing.cases.cases` or the user's own.
        expected: The name or title of the method that it should compute, or None.
        report: Called with one line for each step of the search.
        rounding: The largest rounding error of the maps, as a share of the largest value; of maps
            that were drawn as pictures.

    Returns:
        The answer. If nothing is equal, it contains the nearest formula.

    Raises:
        BenchError: If there is no method of the expected name.
    """
    expected_method = None if expected is None else plugins.load("method", expected)
    observations: list[Observation] = []
    failures: dict[str, str] = {}
    for number, case in enumerate(cases, start=1):
        report(f"Running your function on network {number} of {len(cases)}: {case.name}")
        try:
            observations.append(observe(cam, case, rounding))
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            failures[case.name] = error_line(error)
    if not observations:
        reason = next(iter(failures.values()), "no network was given")
        return FormulaAnswer(
            verdict=f"gives a map on none of {plural(len(cases), 'network')}: {reason}",
            status="unknown",
            failures=failures,
        )
    if all(seen.is_constant for seen in observations):
        return FormulaAnswer(
            verdict="gives only constant maps, which tell no formula; explain other images",
            status="unknown",
            failures=failures,
        )
    search = FormulaSearch(cases, observations, report)
    matches = search.run()
    equal = [match for match in matches if match.is_equal]
    if equal:
        answer = known_answer(equal, expected_method, failures)
    else:
        tolerances = {seen.case.name: seen.tolerance for seen in observations}
        answer = unknown_answer(search.nearest(matches), tolerances, failures)
    errors = {seen.case.name: seen.float64_error for seen in observations if seen.float64_error}
    return replace(answer, float64_errors=errors)


@dataclass(frozen=True)
class _Round:
    """Methods that are compared with the observed maps under the same readings."""

    title: str
    methods: Sequence[Method]
    readings: Sequence[Reading]
    has_passes: bool = False
    """True if the methods run the network themselves."""


class FormulaSearch:
    """The search for the readings of all methods that equal the observed maps."""

    def __init__(
        self, cases: Sequence[Case], observations: Sequence[Observation], report: ReportProgress
    ) -> None:
        self.cases = cases
        self.observations = observations
        self.report = report
        self.matches: list[Match] = []
        self.num_channels = max(seen.references.num_channels for seen in observations)
        self.traces = observations[0].references.traces
        methods = audited_methods(self.num_channels)
        self.by_tensors = [method for method in methods if reads_only_tensors(method, self.traces)]
        self.by_network = [method for method in methods if method not in self.by_tensors]
        pixels = max(seen.case.images[0, 0].numel() for seen in observations)
        self.max_passes = min(MAX_PASSES, MAX_PIXELS // pixels)
        """The most passes of a method that is compared with a changed score."""
        self.are_large = self.max_passes < MAX_PASSES
        """True if the images are so large that few passes are compared with a changed score."""

    def run(self) -> list[Match]:
        """Return all candidates that equal the maps of their first case, on all cases."""
        for search_round in self._rounds():
            self.report(f"Comparing with {search_round.title}")
            self._compare(search_round)
            equal = [match for match in self.matches if match.is_equal]
            if not equal:
                continue
            fewest_unshared = min(match.num_unshared for match in equal)
            if fewest_unshared == 0 or search_round.has_passes:
                break
        return self.matches

    def _rounds(self) -> Iterator[_Round]:
        """Yield the rounds of the search, from the simplest readings on."""
        by_tensors = self.by_tensors
        by_network = self.by_network
        fast = [method for method in by_network if self._passes(method) <= self.max_passes]
        title = f"{plural(len(by_tensors), 'formula')} of one trace"
        passes = "formulas with passes of their own"
        yield _Round(title, by_tensors, [USUAL])
        yield _Round(f"{title} with one change", by_tensors, ONE_CHANGE)
        yield _Round(f"{len(by_network)} {passes}", by_network, [USUAL], has_passes=True)
        for first, second in PAIRS:
            steps = {first: TRACE_STEPS[first], second: TRACE_STEPS[second]}
            readings = list(trace_readings(steps, 2))
            yield _Round(f"{title} with other {first} and {second}", by_tensors, readings)
        readings = list(trace_readings(NETWORK_STEPS, 1))
        yield _Round(f"{len(fast)} {passes} and one change", fast, readings, has_passes=True)
        for method in (*by_tensors, *fast):
            other = other_params(method, self.traces.usual)
            readings = [replace(USUAL, params=params) for params in other]
            if readings:
                yield _Round(f"{method.spec.title} with other parameters", [method], readings)

    def _compare(self, search_round: _Round) -> None:
        """Add the matches of one round."""
        survivors: list[tuple[Candidate, Observation]] = []
        for reading in search_round.readings:
            waiting = list(search_round.methods)
            for seen in self.observations:
                possible = [
                    method for method in waiting if self._is_possible(method, reading, seen)
                ]
                raw_maps = self._raw_maps(possible, reading, seen)
                explained = {candidate.name for candidate in raw_maps}
                waiting = [method for method in possible if method.name not in explained]
                threshold = seen.screen.threshold
                for candidate, _ in self._near(raw_maps, seen, threshold):
                    survivors.append((candidate, seen))
                if not waiting:
                    break
        survivors.sort(key=lambda survivor: survivor[0].num_changes)
        for candidate, seen in survivors[:MAX_SURVIVORS]:
            for exact in self._normalised(candidate, seen):
                self.matches.append(self._match(exact))

    def _passes(self, method: Method) -> int:
        return num_passes(method, self.num_channels)

    def _is_possible(self, method: Method, reading: Reading, seen: Observation) -> bool:
        """Return False if a quick comparison shows that a method can't give the observed maps."""
        quick = self._quick(method, seen)
        if quick is None or quick is seen:
            return quick is seen
        raw_maps = self._raw_maps([method], reading, quick)
        near = self._near(raw_maps, quick, quick.screen.threshold)
        return not raw_maps or next(near, None) is not None

    def _quick(self, method: Method, seen: Observation) -> Observation | None:
        """Return the observation by which a method is judged, or None if it is excluded already.

        On large images, a method that runs the network and draws the maps itself is judged by the
        first image. If all observed maps are enlarged from the layer's size, no map of pixels
        equals them. A small network shows what the method returns.
        """
        if method in self.by_tensors or not self.are_large:
            return seen
        small = networks()[0]
        answer = references_of(small).answer(method, USUAL)
        if answer is None or not isinstance(answer[1], Map):
            return seen  # weights, of which a reading is the mean over the batch
        has_pixels = answer[1].raw.shape[1:] == small.images.shape[2:]
        return None if has_pixels and seen.screen.are_enlarged else seen.first_image

    def _raw_maps(
        self, methods: Sequence[Method], reading: Reading, seen: Observation
    ) -> dict[Candidate, Tensor]:
        """Return the raw maps of methods for a reading of the trace and what may follow it."""
        candidates: dict[Candidate, Tensor] = {}
        for method in methods:
            if self._passes(method) > self.max_passes:
                self.report(f"Running {method.spec.title} on {plural(len(seen.maps), 'image')}")
            for changed, raw in seen.references.raw_maps(method, reading).items():
                candidates[Candidate(method, method.name, changed)] = raw
        return candidates

    @staticmethod
    def _near(
        raw_maps: Mapping[Candidate, Tensor], seen: Observation, limit: float = float("inf")
    ) -> Iterator[tuple[Candidate, float]]:
        """Yield the candidates, in each shape, whose distance from the observed maps up to factor
        and offset is below a limit, with the distance.
        """
        candidates_by_size: dict[torch.Size, list[Candidate]] = {}
        for candidate, raw in raw_maps.items():
            candidates_by_size.setdefault(raw.shape, []).append(candidate)
        for candidates in candidates_by_size.values():
            stack = torch.stack([raw_maps[candidate] for candidate in candidates]).double()
            for shape, distances in seen.screen.distances(stack):
                for index in (distances < limit).nonzero()[:, 0].tolist():
                    yield candidates[index].with_shape(shape), float(distances[index])

    def _normalised(self, candidate: Candidate, seen: Observation) -> Iterator[Candidate]:
        """Yield a candidate with each normalisation that gives exactly the observed maps."""
        for normalised in normalisations(candidate):
            difference = _difference(normalised, seen)
            if difference is None:
                return
            if _is_equal(normalised, seen, difference):
                yield normalised
            elif difference < NEAR and normalised.reading.normalisation in NORMALISATIONS:
                exact = _with_epsilon(normalised, seen)
                if exact is not None:
                    yield exact

    def _match(self, candidate: Candidate) -> Match:
        """Compare a candidate on all cases."""
        differences: dict[str, float] = {}
        distances = [1.0] * len(self.observations)
        num_equal = 0
        for index, seen in enumerate(self.observations):
            maps = _maps(candidate, seen)
            if maps is None:
                continue
            if seen.float64_error and _rounding(candidate, seen) > NEAR:
                continue  # float32 has no digit of this formula on this network
            difference = largest_difference(maps, seen.maps)
            differences[seen.case.name] = difference
            distances[index] = seen.screen.distance(maps)
            num_equal += _is_equal(candidate, seen, difference)
        num_unobserved = 0
        observed_cases = {seen.case for seen in self.observations}
        for case in self.cases:
            if case not in observed_cases:
                raw = references_of(case).raw_map(candidate.method, candidate.reading)
                num_unobserved += raw is not None
        return Match(
            candidate=candidate,
            differences=differences,
            distance=round(median(distances), 2),
            num_equal=num_equal,
            num_uncompared=len(self.observations) - len(differences),
            num_unobserved=num_unobserved,
        )

    def nearest(self, matches: Sequence[Match]) -> Match | None:
        """Return the candidate that equals the observed maps on most cases, or comes nearest.

        All cases are compared. Methods that are near as they are, are also tried with one change.
        If all candidates are as far away as maps of other images, there is none.
        """
        self.report("Looking for the nearest formula")
        orders = self._orders([*self.by_tensors, *self.by_network], [USUAL])
        ordered = sorted(orders, key=lambda candidate: orders[candidate])
        names = list(dict.fromkeys(candidate.name for candidate in ordered))[:NUM_NEAREST]
        near_methods = [method for method in self.by_tensors if method.name in names]
        orders |= self._orders(near_methods, ONE_CHANGE)
        ordered = sorted(orders, key=lambda candidate: orders[candidate])
        nearest_matches = list(matches)
        for candidate in ordered[:NUM_NEAREST]:
            for normalised in normalisations(candidate):
                match = self._match(normalised)
                if match.differences:
                    nearest_matches.append(match)
        related = [match for match in nearest_matches if match.distance < UNRELATED]
        return min(related, key=self._badness, default=None)

    def _orders(
        self, methods: Sequence[Method], readings: Sequence[Reading]
    ) -> dict[Candidate, tuple[float, int]]:
        """Return the median distance over all cases, and the number of changes, of candidates.

        They have at most one change, and any shape. A case that a method can't explain counts as 1.
        """
        distances_by_candidate: dict[Candidate, list[float]] = {}
        for seen, reading in product(self.observations, readings):
            possible = [method for method in methods if self._quick(method, seen) is not None]
            # all by the same images, since a distance over more images is larger
            judged = seen.first_image if self.are_large else seen
            raw_maps = self._raw_maps(possible, reading, judged)
            # up to an offset, a constant that is added to the map only takes the ReLU away
            few = {
                key: raw
                for key, raw in raw_maps.items()
                if key.num_changes <= 1 and key.reading.bias != ONE
            }
            for candidate, distance in self._near(few, judged):
                distances_by_candidate.setdefault(candidate, []).append(distance)
        orders: dict[Candidate, tuple[float, int]] = {}
        for candidate, known in distances_by_candidate.items():
            missing = [1.0] * (len(self.observations) - len(known))
            orders[candidate] = round(median([*known, *missing]), 2), candidate.num_changes
        return orders

    def _badness(self, match: Match) -> tuple[int, float, int, float, int]:
        """Return the key by which the nearest candidate comes first.

        A few equal cases say little, since many formulas are equal on a linear head. Of one
        formula's normalisations, that of the smallest median difference comes first.
        """
        differences = [*match.differences.values(), *[1.0] * match.num_uncompared]
        num_equal = match.num_equal if 2 * match.num_equal >= len(self.observations) else 0
        reading = match.candidate.reading
        formula = replace(reading, summed="", place="", normalisation="", epsilon=0.0)
        return (
            -num_equal,
            match.distance,
            len(formula.changes),
            round(median(differences), 2),
            len(reading.changes),
        )


def _maps(candidate: Candidate, seen: Observation) -> Tensor | None:
    """Return a candidate's maps of a case, or None if the method can't explain it."""
    return seen.references.maps(candidate.method, candidate.reading, seen.maps.shape[1:])


def _difference(candidate: Candidate, seen: Observation) -> float | None:
    """Return the largest difference on a case, or None if the method can't explain it."""
    maps = _maps(candidate, seen)
    return None if maps is None else largest_difference(maps, seen.maps)


def _is_equal(candidate: Candidate, seen: Observation, difference: float) -> bool:
    """Return True if rounding explains a difference."""
    if difference <= seen.tolerance:
        return True
    return difference < NEAR and difference <= FLOAT32_MARGIN * _rounding(candidate, seen)


def _rounding(candidate: Candidate, seen: Observation) -> float:
    """Return the difference of a candidate's maps in float32 and float64, or 0 in float64 only."""
    if seen.twin is None:
        return 0.0
    maps = _maps(candidate, seen)
    others = _maps(candidate, replace(seen, case=seen.twin))
    return 0.0 if maps is None or others is None else largest_difference(maps, others)


def normalisations(candidate: Candidate) -> Iterator[Candidate]:
    """Yield a candidate with each normalisation, without an epsilon."""
    for place, normalisation in product(PLACES, (*NORMALISATIONS, *SCALES)):
        if place and normalisation in SCALES:
            continue
        reading = replace(candidate.reading, place=place, normalisation=normalisation)
        yield candidate.with_reading(reading)


def _with_epsilon(candidate: Candidate, seen: Observation) -> Candidate | None:
    """Return a candidate with the epsilon that gives exactly the observed maps, or None."""
    for epsilon, summed in product(EPSILONS, ("", SUMMED)):
        reading = replace(candidate.reading, epsilon=epsilon, summed=summed)
        exact = candidate.with_reading(reading)
        difference = _difference(exact, seen)
        if difference is not None and _is_equal(exact, seen, difference):
            return exact
    return None
