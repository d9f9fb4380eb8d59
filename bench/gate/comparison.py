"""Comparison of a run's numbers with a baseline. Every difference is a finding of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from axiom_bench.errors import BenchError
from axiom_bench.gate import by_image, sampled
from axiom_bench.gate.baseline import IMAGES, Baseline, find
from axiom_bench.gate.by_image import ByImage, MovedImage, most_moved
from axiom_bench.gate.findings import (
    BETTER,
    ORDER,
    Finding,
    Row,
    by_key,
    counted,
    is_run_time,
    lost_rows,
    moved_names,
    moved_values,
    printable,
)
from axiom_bench.statistics.run_folder import RunFolder

HOLDS, MOVED, NOT_COMPARABLE = 0, 1, 2  # exit codes
MAX_SHOWN = 200  # characters of a setting in a sentence


@dataclass(frozen=True)
class GateOptions:
    """How to compare. sampled: by paired tests of the values by image, else by the tolerances alone. min_effect:
    {metric: rule} in the place of its tolerance, of a sampled comparison. allow_improvements: hold where all that moved
    is better. against: the run folder of the baseline, for its values and maps by image."""

    sampled: bool = False
    min_effect: Mapping[str, str] = field(default_factory=dict)
    allow_improvements: bool = False
    against: Path | None = None


@dataclass(frozen=True)
class GateResult:
    """exit_code: 0 holds, 1 moved, 2 can't compare. conclusion: whether it holds, and what to do where not, or why they
    can't be compared. rows: all that were compared. images: those that moved most, where both sides have values by
    image. notes: what a reader of the findings should know."""

    exit_code: int
    conclusion: str
    findings: tuple[Finding, ...] = ()
    rows: tuple[Row, ...] = ()
    images: tuple[MovedImage, ...] = ()
    notes: tuple[str, ...] = ()
    run: str = ""
    baseline: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each finding, the notes and the conclusion."""
        return (*(finding.line for finding in self.findings), *self.notes, self.conclusion)


def gate(run_folder: Path, baseline: Path, options: GateOptions | None = None) -> GateResult:
    """Compare a run with a baseline. Never raises for a bad run or baseline. baseline: a file, or the name of a
    baseline that comes with the package, as `quick`."""
    run, name = printable(str(run_folder)), printable(str(baseline))
    try:
        result = _compared(Path(run_folder), Path(baseline), options or GateOptions())
    except BenchError as error:
        result = GateResult(NOT_COMPARABLE, f"Can't compare: {error}")
    return replace(result, run=run, baseline=name)


def _compared(run_folder: Path, baseline: Path, options: GateOptions) -> GateResult:
    current, file = RunFolder.read(run_folder), find(baseline)
    expected = Baseline.read(file)
    actual = Baseline.of(current, expected.timed)
    _check_configurations(expected, actual, options.sampled)
    before, earlier, notes = _by_image(file, expected, options)
    findings = list(moved_names(expected.rows, actual.rows))
    about = {name: current.metadata.value(name) for name in current.metrics}
    better = {name: value.better for name, value in about.items()}
    if options.sampled:
        if before is None:
            raise BenchError(
                f"the baseline {file} has no values by image, which --sampled compares; write them with --write "
                "--sampled, or give the baseline's run with --against."
            )
        timed, timed_now = (side.rows["metric"].map(is_run_time) for side in (expected, actual))
        limits, after = sampled.minimum_effects(actual.rows[~timed_now], options.min_effect), ByImage.of(current)
        findings += sampled.values(before, after, limits, about)
        notes += sampled.notes(findings, before, after)
        if expected.configuration == actual.configuration:
            findings += lost_rows(expected.rows, actual.rows)
        findings += moved_values(expected.rows[timed], actual.rows[timed_now], better)
    elif options.min_effect:
        raise BenchError("--min-effect is of a sampled comparison; add --sampled, or set the metric's tolerance.")
    else:
        findings += moved_values(expected.rows, actual.rows, better)
    rows, name = tuple(by_key(actual.rows)), printable(str(baseline))
    findings.sort(key=lambda finding: ORDER.index(finding.verdict))  # the worst first
    if not findings:
        within = "show no change" if options.sampled else "are within their tolerances"
        return GateResult(HOLDS, f"Holds: {len(rows)} rows of {name} {within}.", rows=rows)
    if expected.versions and expected.versions != actual.versions:
        then, now = (printable(side.versions) for side in (expected, actual))
        notes += (f"The baseline was written with {then}; this run is of {now}.",)
    is_better = all(finding.verdict == BETTER for finding in findings)
    conclusion = (
        f"{'An improvement that is not yet in the baseline' if is_better else 'Moved'}: {len(findings)} "
        f"difference{'s' if len(findings) > 1 else ''} from {name}: {counted(findings)}. If it is meant, refresh the "
        "baseline in a commit of its own, with --write --reason TEXT."
    )
    images = tuple(most_moved(findings, before, current, earlier)) if before is not None else ()
    code = HOLDS if is_better and options.allow_improvements else MOVED
    return GateResult(code, conclusion, tuple(findings), rows, images, notes)


def _by_image(
    file: Path, expected: Baseline, options: GateOptions
) -> tuple[ByImage | None, RunFolder | None, tuple[str, ...]]:
    """The baseline's values by image, its run folder where there is one, and a note where the one that was given can't
    show them. Raises BenchError for that where the values decide, as in a sampled comparison."""
    if options.against is None:
        return by_image.read(file, expected.by_image), None, ()
    try:
        earlier = RunFolder.read(Path(options.against))
        actual = Baseline.of(earlier)
        _check_configurations(expected, actual, is_sampled=False)
        untimed = expected.rows[~expected.rows["metric"].map(is_run_time)]
        if any(moved_names(untimed, actual.rows)) or any(moved_values(untimed, actual.rows, {})):
            folder = printable(str(options.against))
            raise BenchError(f"{folder} is not the baseline's run: its own rows differ from the baseline.")
    except BenchError as error:
        if options.sampled:
            raise
        return None, None, (f"No images are shown: {error}",)
    return ByImage.of(earlier), earlier, ()


def _check_configurations(expected: Baseline, actual: Baseline, is_sampled: bool) -> None:
    """Raises BenchError where two runs aren't comparable: not by the images of sampled sets; by the device where run
    times are compared."""
    before, after = (
        {name: value for name, value in side.configuration.items() if not (is_sampled and name.startswith(IMAGES))}
        | ({"device of run times": str(side.timed_on)} if actual.timed_on is not None else {})
        for side in (expected, actual)
    )
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if names:
        then, now = ({name: repr(side.get(name, "absent"))[:MAX_SHOWN] for name in names} for side in (before, after))
        changes = "; ".join(f"{printable(name)} was {then[name]}, is {now[name]}" for name in names[:5])
        mend = "give the baseline of this experiment"
        if all(name.startswith(IMAGES) for name in names):
            mend += ", or compare other images with --sampled"
        raise BenchError(f"the baseline is of another configuration ({changes}); {mend}.")
