"""Comparison of a run's numbers with a baseline. Every difference is a finding of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from axiom_bench.errors import BenchError
from axiom_bench.gate.baseline import Baseline, find
from axiom_bench.gate.by_image import MovedImage, most_moved
from axiom_bench.gate.compare import Place, changes
from axiom_bench.gate.findings import BETTER, Finding, counted, differences, places, printable
from axiom_bench.statistics.run_folder import RunFolder

HOLDS, MOVED, NOT_COMPARABLE = 0, 1, 2  # exit codes
MAX_SHOWN = 200  # characters of a setting in a sentence


@dataclass(frozen=True)
class GateOptions:
    """The options of a comparison with a baseline.

    allow_improvements: Hold if everything that moved is better.
    against: The run folder of the baseline. Its values and maps show which images moved.
    """

    allow_improvements: bool = False
    against: Path | None = None


@dataclass(frozen=True)
class GateResult:
    """exit_code: 0 holds, 1 moved, 2 can't compare. conclusion: whether it holds, and what to do
    where not, or why they can't be compared. rows: all that were compared. images: those that moved
    most, where both sides have values by image. notes: what a reader of the findings should know.
    """

    exit_code: int
    conclusion: str
    findings: tuple[Finding, ...] = ()
    rows: tuple[Place, ...] = ()
    images: tuple[MovedImage, ...] = ()
    notes: tuple[str, ...] = ()
    run: str = ""
    baseline: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each finding, the notes and the conclusion."""
        return (*(finding.line for finding in self.findings), *self.notes, self.conclusion)


def gate(run_folder: Path, baseline: Path, options: GateOptions | None = None) -> GateResult:
    """Compare a run with a baseline. Never raises for a bad run or baseline. baseline: a file, or
    the name of a baseline that comes with the package, as `quick`.
    """
    run, name = printable(str(run_folder)), printable(str(baseline))
    try:
        result = _compared(Path(run_folder), Path(baseline), options or GateOptions())
    except BenchError as error:
        result = GateResult(NOT_COMPARABLE, f"Can't compare: {error}")
    return replace(result, run=run, baseline=name)


def _compared(run_folder: Path, baseline: Path, options: GateOptions) -> GateResult:
    current, file = RunFolder.read(run_folder), find(baseline)
    expected = Baseline.read(file)
    actual = Baseline.of(current)
    _check_configurations(expected, actual)
    earlier, notes = _earlier_run(expected, options)
    better = {name: current.metadata.value(name).better for name in current.metrics}
    findings = differences(expected.rows, actual.rows, better)
    rows, name = tuple(places(actual.rows)), printable(str(baseline))
    if not findings:
        return GateResult(
            HOLDS, f"Holds: {len(rows)} rows of {name} are within their tolerances.", rows=rows
        )
    if expected.versions and expected.versions != actual.versions:
        then, now = (printable(side.versions) for side in (expected, actual))
        notes += (f"The baseline was written with {then}; this run is of {now}.",)
    is_better = all(finding.verdict == BETTER for finding in findings)
    conclusion = (
        f"{'An improvement that is not yet in the baseline' if is_better else 'Moved'}: "
        f"{len(findings)} difference{'s' if len(findings) > 1 else ''} from {name}: "
        f"{counted(findings)}. If it is meant, refresh the baseline in a commit of its own, with "
        "--write --reason TEXT."
    )
    images = tuple(most_moved(findings, earlier, current)) if earlier is not None else ()
    code = HOLDS if is_better and options.allow_improvements else MOVED
    return GateResult(code, conclusion, tuple(findings), rows, images, notes)


def _earlier_run(
    expected: Baseline, options: GateOptions
) -> tuple[RunFolder | None, tuple[str, ...]]:
    """Return the baseline's run folder if it is given, and a note if that run can't show its
    images.
    """
    if options.against is None:
        return None, ()
    try:
        earlier = RunFolder.read(Path(options.against))
        actual = Baseline.of(earlier)
        _check_configurations(expected, actual)
        if differences(expected.rows, actual.rows, {}):
            folder = printable(str(options.against))
            raise BenchError(
                f"{folder} is not the baseline's run: its own rows differ from the baseline."
            )
    except BenchError as error:
        return None, (f"No images are shown: {error}",)
    return earlier, ()


def _check_configurations(expected: Baseline, actual: Baseline) -> None:
    """Raise BenchError if two runs aren't comparable."""
    changed = changes(expected.configuration, actual.configuration)
    sentences = [
        f"{printable(name)} was {repr(was)[:MAX_SHOWN]}, is {repr(is_now)[:MAX_SHOWN]}"
        for name, (was, is_now) in changed.items()
    ]
    if changed:
        texts = "; ".join(sentences[:5])
        raise BenchError(
            f"the baseline is of another configuration ({texts}); give the baseline of this "
            "experiment."
        )
