"""The result of an audit, and whether it is the expected one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from axiom_bench.auditing.case import Finding
from axiom_bench.auditing.pictures import Panels
from axiom_bench.auditing.verdict import FormulaAnswer, formula_text
from axiom_bench.evaluation import plugins

AS_EXPECTED = 0
NOT_AS_EXPECTED = 1
CANNOT_TELL = 2
MOST_ON_BADGE = 2  # readings
EFFECTS = "What it does to the model and the caller"
DEPENDENCES = "What its answer depends on"


@dataclass(frozen=True)
class Expectation:
    """The formula that an implementation should compute.

    Attributes:
        formula: The key of the method.
        changes: The readings that it should have, None if any will do. A reading with a comma,
            such as "min-max, reversed", is split.
    """

    formula: str
    changes: tuple[str, ...] | None = None

    @staticmethod
    def of(text: str) -> Expectation:
        """Return the expectation of a text: NAME, or NAME: READING, READING.

        Raises:
            BenchError: If there is no method of this name.
        """
        name, colon, rest = text.partition(":")
        formula = plugins.load("method", name.strip()).name
        if not colon:
            return Expectation(formula)
        return Expectation(formula, _parts(rest))

    def is_met(self, formula: str | None, changes: Sequence[str]) -> bool:
        """Return whether a formula with its readings is the expected one."""
        if formula != self.formula:
            return False
        return self.changes is None or set(self.changes) == set(_parts(", ".join(changes)))

    def __str__(self) -> str:
        if self.changes is None:
            return self.formula
        return f"{self.formula}: {', '.join(self.changes)}"


def _parts(text: str) -> tuple[str, ...]:
    """Return the parts of a text that commas divide."""
    return tuple(filter(None, map(str.strip, text.split(","))))


@dataclass(frozen=True, eq=False)
class AuditResult:
    """The result of an audit, which prints itself.

    Attributes:
        name: The implementation, as it was given.
        answer: The formula that it computes.
        effects: What it does to the model and the caller.
        dependences: What its answer depends on, and shouldn't.
        expected: The formula that it should compute, None if none was named.
        notes: Sentences about what isn't audited, or only approximately.
        has_findings: True if the function was run, so that effects could be found.
        is_approximate: True if maps are rounded, such as those of pictures.
        is_one_model: True if the maps are those of one model, which tells fewer formulas apart.
        panels: The pictures of one image.
        tried: Sentences about what was tried.
        facts: {name of a fact: its text}.
    """

    name: str
    answer: FormulaAnswer
    effects: tuple[Finding, ...] = ()
    dependences: tuple[Finding, ...] = ()
    expected: Expectation | None = None
    notes: tuple[str, ...] = ()
    has_findings: bool = True
    is_approximate: bool = False
    is_one_model: bool = False
    panels: Panels | None = None
    tried: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The verdict, which names the implementation."""
        return f"{self.name} {self.answer.verdict}"

    @property
    def formula_title(self) -> str:
        """The title of the formula, or of the nearest one."""
        return title_of(self.answer.formula or self.answer.nearest)

    @property
    def is_as_expected(self) -> bool | None:
        """True if the formula is the expected one, or none was expected. None if the maps can't
        tell it from others.
        """
        expected = self.expected
        answer = self.answer
        if expected is None:
            return True
        if expected.is_met(answer.formula, answer.changes):
            return None if self.is_one_model and answer.equal else True
        if answer.formula is None and answer.nearest is None and not answer.is_none_near:
            return None
        title = title_of(expected.formula)
        others = [text for text in answer.equal if text.partition(" (")[0] == title]
        if self.is_one_model:
            return None if others else False
        if expected.changes is None:
            return False
        return formula_text(title, expected.changes) in others

    @property
    def exit_code(self) -> int:
        """0 as expected, 1 not as expected, 2 if the maps can't tell."""
        if self.is_as_expected is None:
            return CANNOT_TELL
        return AS_EXPECTED if self.is_as_expected else NOT_AS_EXPECTED

    @property
    def expectation_sentence(self) -> str:
        """A sentence about the expectation, "" if there is none."""
        if self.expected is None:
            return ""
        words = {
            True: f"As expected: {self.expected}.",
            False: f"Not as expected: {self.expected}.",
            None: f"These maps can't tell whether it is {self.expected}; audit the function.",
        }
        return words[self.is_as_expected]

    @property
    def badge_text(self) -> str:
        """The text of the badge, such as "Grad-CAM, exact"."""
        if self.answer.formula is None:
            return "no known formula"
        kind = "approximate" if self.is_approximate else "exact"
        changes = self.answer.changes or (kind,)
        more = len(changes) - MOST_ON_BADGE
        text = ", ".join([self.formula_title, *changes[:MOST_ON_BADGE]])
        return f"{text} and {more} more" if more > 0 else text

    def __str__(self) -> str:
        lines = [self.sentence]
        if self.expected is not None:
            lines.append(f"  {self.expectation_sentence}")
        lines += [f"  {note}" for note in self.notes]
        groups = ((EFFECTS, self.effects), (DEPENDENCES, self.dependences))
        for heading, findings in groups:
            if not self.has_findings:
                continue
            lines.append(f"{heading}: {len(findings) or 'nothing'}")
            lines += [f"  {finding.sentence}" for finding in findings]
        return "\n".join(lines)


def title_of(method: str | None) -> str:
    """Return the title of a method, or words for no method."""
    if method is None:
        return "the nearest formula"
    return plugins.load("method", method).spec.title or method
