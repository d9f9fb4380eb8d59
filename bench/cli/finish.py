"""The end of a run: manifest, report, and the last lines of the output."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from axiom_bench import report
from axiom_bench.errors import first_names
from axiom_bench.run import manifest
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress
from axiom_bench.run.result import JobResult
from axiom_bench.statistics.run_folder import RunFolder

MAX_NAMES = 5  # of jobs with the same line
HINT = "mend what is told above, or choose metrics that need no more than is there"
MENDABLE, DEFECT = 2, 1  # exit codes: a mistake that the user can mend; a defect of this program


def finish(
    settings: Settings,
    results: Sequence[JobResult],
    overrides: Sequence[str] = (),
    verbose: bool = False,
) -> tuple[int, list[str]]:
    """Write the manifest and the report of a sweep, and return the exit code and the last lines.

    Args:
        settings: Those of all jobs.
        results: Of the jobs.
        overrides: As they were typed.
        verbose: Add lines with statuses and the time of each stage, which the page and the manifest
            have too.

    Raises:
        BenchError: If the folder can't be written.
    """
    with progress("report") as shown:
        lines = _lines_of_jobs(results)
        code = exit_code(results)
        kept = manifest.keep(settings, results, overrides)
        if kept is not None:
            run = RunFolder.of(
                kept.folder, kept.content
            )  # not read: another command may write its own by now
            if kept.was_damaged:
                lines.append("manifest.json was damaged, and is written anew")
            lines += report.status_lines(run, verbose)
            if kept.no_longer_shown is not None:
                lines.append(kept.no_longer_shown)
            start = time.perf_counter()
            page = report.write(run, tell=lambda step: shown.says(f"report: {step}"))
            if verbose:
                times = {
                    result.job: (result.seconds, result.work())
                    for result in results
                    if result.failure is None
                }
                lines += report.time_lines(times, time.perf_counter() - start)
            lines += [*report.headline(run), f"report: {page}"]
            reasons = report.reasons_without_value(run)
            if reasons is not None:
                lines.append(f"There is no value: {reasons}; {HINT}.")
                code = code or MENDABLE
        return code, [*lines, *failed(results)]


def _lines_of_jobs(results: Sequence[JobResult]) -> list[str]:
    """Return each line of the jobs once, with the names of the jobs that have it."""
    jobs_by_line: dict[str, list[str]] = {}
    for result in results:
        for line in result.lines:
            jobs_by_line.setdefault(line, []).append(result.job)
    return [f"{first_names(jobs, MAX_NAMES)}: {line}" for line, jobs in jobs_by_line.items()]


def failed(results: Sequence[JobResult]) -> Iterator[str]:
    """A line for each message, with all the jobs that failed with it; after a defect its
    traceback.
    """
    by_message: dict[str, list[JobResult]] = {}
    for result in results:
        if result.failure is not None:
            by_message.setdefault(result.failure.message, []).append(result)
    for message, group in by_message.items():
        yield f"failed: {', '.join(dict.fromkeys(result.job for result in group))}: {message}"
        first = group[0].failure
        if first is not None and not first.mendable:
            yield (
                "This is a defect of axiom-bench; please report it with these "
                f"lines:\n{first.trace}"
            )


def exit_code(results: Sequence[JobResult]) -> int:
    """0, or MENDABLE or DEFECT where a job has failed."""
    failures = [result.failure for result in results if result.failure is not None]
    if not failures:
        return 0
    return MENDABLE if all(failure.mendable for failure in failures) else DEFECT
