"""Compare a run's numbers with a baseline. Every difference is a finding of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.gate.baseline import Baseline, find_baseline
from axiom_bench.gate.by_image import MovedImage, most_moved_images
from axiom_bench.gate.compare import Place, changes
from axiom_bench.gate.findings import BETTER, Finding, count_text, differences, places, printable
from axiom_bench.statistics.run_folder import RunFolder

# Exit codes.
HOLDS = 0
MOVED = 1
NOT_COMPARABLE = 2
MAX_SHOWN = 200  # characters of a setting in a sentence


@dataclass(frozen=True)
class GateOptions:
    """The options of a comparison with a baseline."""

    allow_improvements: bool = False  # the gate holds if everything that moved is better
    # The run folder of the baseline. Its values and maps show which images moved.
    against: Path | None = None
    # The words that write the baseline again, as the user of this front door types them.
    write_with: str = "--write --reason TEXT"


@dataclass(frozen=True)
class GateResult:
    """The result of a comparison with a baseline."""

    exit_code: int  # HOLDS, MOVED or NOT_COMPARABLE
    # Whether the gate holds, and what to do if not, or why the two can't be compared.
    conclusion: str
    findings: tuple[Finding, ...] = ()
    rows: tuple[Place, ...] = ()  # all rows that were compared
    # The images that moved most, if both runs have values by image.
    images: tuple[MovedImage, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader of the findings should know
    run: str = ""  # the path of the run folder
    baseline: str = ""  # the baseline, as the user gave it

    @property
    def lines(self) -> tuple[str, ...]:
        """One line per finding, the notes and the conclusion."""
        return (*(finding.line for finding in self.findings), *self.notes, self.conclusion)


def gate(run_folder: Path, baseline: Path, options: GateOptions | None = None) -> GateResult:
    """Compare a run with a baseline.

    A run or baseline that can't be read gives a result with NOT_COMPARABLE instead of an error.

    Args:
        run_folder: The folder of the run.
        baseline: A file, or the name of a baseline that comes with the package, such as `quick`.
        options: None for the defaults.

    Returns:
        The result.
    """
    try:
        result = _compare_with_baseline(Path(run_folder), Path(baseline), options or GateOptions())
    except BenchError as error:
        result = GateResult(NOT_COMPARABLE, f"Can't compare: {error}")
    return replace(result, run=printable(str(run_folder)), baseline=printable(str(baseline)))


def _compare_with_baseline(run_folder: Path, baseline: Path, options: GateOptions) -> GateResult:
    """Return the result, or raise if the run and the baseline can't be compared."""
    current = RunFolder.read(run_folder)
    expected = Baseline.read(find_baseline(baseline))
    actual = Baseline.of(current)
    _check_configurations(expected, actual)
    earlier, notes = _earlier_run(expected, options)
    better = {name: current.metadata.value(name).better for name in current.metrics}
    findings = differences(expected.rows, actual.rows, better)
    rows = tuple(places(actual.rows))
    name = printable(str(baseline))
    if not findings:
        are_within = verb(len(rows), "is within its tolerance", "are within their tolerances")
        conclusion = f"Holds: {plural(len(rows), 'row')} of {name} {are_within}."
        return GateResult(HOLDS, conclusion, rows=rows)

    # Other versions of libraries don't prevent a comparison, but may explain what moved.
    if expected.versions and expected.versions != actual.versions:
        then = printable(expected.versions)
        now = printable(actual.versions)
        notes += (f"The baseline was written with {then}; this run is of {now}.",)
    is_better = all(finding.verdict == BETTER for finding in findings)
    title = "An improvement that is not yet in the baseline" if is_better else "Moved"
    conclusion = (
        f"{title}: {plural(len(findings), 'difference')} from {name}: {count_text(findings)}. "
        "If you didn't intend the change, undo it. Otherwise write the baseline again in its own "
        f"commit, with {options.write_with}."
    )
    images = tuple(most_moved_images(findings, earlier, current)) if earlier is not None else ()
    return GateResult(
        exit_code=HOLDS if is_better and options.allow_improvements else MOVED,
        conclusion=conclusion,
        findings=tuple(findings),
        rows=rows,
        images=images,
        notes=notes,
    )


def _earlier_run(
    expected: Baseline, options: GateOptions
) -> tuple[RunFolder | None, tuple[str, ...]]:
    """Return the baseline's run folder if it is given, and a note if its images can't be shown."""
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
    sentences = []
    for name, (then, now) in changes(expected.configuration, actual.configuration).items():
        sentences.append(
            f"{printable(name)} was {repr(then)[:MAX_SHOWN]}, is {repr(now)[:MAX_SHOWN]}"
        )
    if sentences:
        texts = "; ".join(sentences[:5])
        raise BenchError(
            f"the baseline is of another configuration ({texts}); give the baseline of this "
            "experiment."
        )
