"""The verdict of an audit: the sentence about the formula that an implementation computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from axiom_bench.auditing.readings import ONE, USUAL, Reading
from axiom_bench.errors import plural
from axiom_bench.evaluation.plugins import Method

Status = Literal["known", "other_than_named", "unknown"]


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
    is_none_near: bool = False
    """True if the formula is unknown, and all formulas are too far away to name the nearest."""
    nearest_changes: tuple[str, ...] = ()
    """The switches of the nearest method."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """The cases on which the implementation gives no map, with the reason."""
    reading: Reading = USUAL
    """The switches of the formula, or of the nearest one."""
    float64_errors: Mapping[str, str] = field(default_factory=dict)
    """The cases that were run in float32, with the error of the implementation in float64."""


@dataclass(frozen=True)
class Candidate:
    """A method with a reading."""

    method: Method = field(compare=False)
    name: str
    reading: Reading

    @property
    def title(self) -> str:
        """The method's title."""
        return self.method.spec.title or self.name

    @property
    def text(self) -> str:
        """The method's title with its changes in parentheses."""
        return formula_text(self.title, self.reading.changes)

    @property
    def num_changes(self) -> int:
        """The number of switches that aren't the usual ones."""
        return len(self.reading.changes)

    def with_shape(self, shape: Reading) -> Candidate:
        """Return the method with the axes, ReLU and interpolation of another reading."""
        reading = replace(
            self.reading,
            sides=shape.sides,
            rectified=shape.rectified,
            interpolation=shape.interpolation,
        )
        return self.with_reading(reading)

    def with_reading(self, reading: Reading) -> Candidate:
        """Return the method with another reading."""
        return replace(self, reading=reading)


@dataclass(frozen=True)
class Match:
    """A candidate with its largest difference on each case that it could be compared on."""

    candidate: Candidate
    differences: Mapping[str, float]
    distance: float
    """The median distance over all observed cases up to factor and offset, which is 1 on a case
    that the method can't explain."""
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
        is_wrapper = self.candidate.method.inner is not None
        largest = max(self.differences.values())
        return self.num_unshared, self.candidate.num_changes, is_wrapper, largest


def formula_text(title: str, changes: Sequence[str]) -> str:
    """Return a method's title with its changes in parentheses."""
    return f"{title} ({', '.join(changes)})" if changes else title


def known_answer(
    equal: Sequence[Match], expected: Method | None, failures: Mapping[str, str]
) -> FormulaAnswer:
    """Return the answer for matches on all cases, of which the one of the fewest changes wins."""
    # a constant that no network shows isn't one
    shown = [match for match in equal if match.candidate.reading.bias != ONE]
    ordered = sorted(shown or equal, key=lambda match: match.order)
    best = ordered[0]
    if expected is not None:
        named = [match for match in ordered if match.candidate.name == expected.name]
        # several formulas may agree on all cases, and then the named one is as good as any
        if named and named[0].order[:2] == best.order[:2]:
            best = named[0]
    candidate = best.candidate
    others = _other_texts(ordered, best)
    formula = _with_synonyms(candidate, others)
    status: Status = "known"
    if expected is not None and expected.name != candidate.name:
        status = "other_than_named"
        verdict = f"computes {formula}; {expected.spec.title} was expected"
    else:
        largest = max(best.differences.values())
        precision = f"to {largest:.0e}" if largest else "exactly"
        verdict = f"computes {formula} {precision}"
    if failures:
        verdict += f"; it gives no map on networks with {_joined(list(failures))}"
    return FormulaAnswer(
        verdict=verdict,
        status=status,
        formula=candidate.name,
        changes=candidate.reading.changes,
        equal=others,
        differences=best.differences,
        failures=failures,
        reading=candidate.reading,
    )


def _other_texts(ordered: Sequence[Match], best: Match) -> tuple[str, ...]:
    """Return the other formulas that equal the maps, each with the fewest changes."""
    chosen = best.candidate
    fewest_changes = {chosen.name: chosen.num_changes}
    texts: dict[str, None] = {}
    for match in ordered:
        other = match.candidate
        fewest = fewest_changes.setdefault(other.name, other.num_changes)
        is_simplest = other.num_changes == fewest
        if other != chosen and is_simplest and match.num_unshared == best.num_unshared:
            texts[other.text] = None
    return tuple(texts)


def _with_synonyms(candidate: Candidate, others: Sequence[str]) -> str:
    """Return a formula with the other readings of it that are equal.

    A normalised Grad-CAM of the softmax, for example, is also that of the log-softmax.
    """
    synonyms = [text for text in others if text.startswith(f"{candidate.title} (")]
    if not synonyms:
        return candidate.text
    if len(synonyms) == 1:
        return f"{candidate.text} or {synonyms[0]}"
    return f"{candidate.text} or {plural(len(synonyms), 'other reading')} of it"


def unknown_answer(
    nearest: Match | None, tolerances: Mapping[str, float], failures: Mapping[str, str]
) -> FormulaAnswer:
    """Return the answer if no formula is equal on all cases.

    Args:
        nearest: The nearest formula, or None if all are far away.
        tolerances: The tolerance of each case.
        failures: The cases without a map, with the reason.
    """
    if nearest is None:
        return FormulaAnswer("no known formula", "unknown", failures=failures, is_none_near=True)
    differing: dict[str, float] = {}
    for name, value in nearest.differences.items():
        if value > tolerances[name]:
            differing[name] = value
    count = len(nearest.differences)
    verdict = f"no known formula: nearest is {nearest.candidate.text}"
    if not differing:
        verdict += f", equal on the {count} networks that both explain, which are too few to tell"
    elif nearest.num_equal:
        verdict += f", equal on {nearest.num_equal} of {plural(count, 'network')} and"
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


def _joined(names: Sequence[str]) -> str:
    """Join names by commas and "and"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
