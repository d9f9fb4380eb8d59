"""The end of a run: write the manifest and the report, and return the last lines of the output."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from axiom_bench import report
from axiom_bench.environment import line_width, wrapped
from axiom_bench.errors import first_names
from axiom_bench.report.shown import read_run
from axiom_bench.run import manifest
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress
from axiom_bench.run.result import JobResult

MAX_NAMES = 5  # jobs with the same line that are listed by name
HINT = "Fix the problems listed above, or choose metrics that work with this data."
DEFECT = 1  # exit code of a defect of this program
USER_MISTAKE = 2  # exit code of a mistake that the user can fix


def finish(
    settings: Settings,
    results: Sequence[JobResult],
    overrides: Sequence[str] = (),
    verbose: bool = False,
) -> tuple[int, list[str]]:
    """Write the manifest and the report of a run, and return the exit code and the last lines.

    Args:
        settings: The settings that all jobs share.
        results: The results of the jobs.
        overrides: The words of the command line, as they were typed.
        verbose: Add lines with statuses and the time of each stage, which the page and the manifest
            have in any case.

    Raises:
        BenchError: If the folder can't be written.
    """
    with progress("Writing the report") as shown:
        width = line_width()
        lines = _lines_of_jobs(results)
        problems: list[str] = []
        pages: list[str] = []
        code = exit_code(results)
        kept = manifest.keep(settings, results, overrides)
        if kept is not None:
            # The manifest isn't read from the file, which another command may have written by now.
            run = read_run(kept.folder, manifest=kept.content)
            if kept.was_damaged:
                lines.append("manifest.json was damaged and is written again")
            lines += report.status_lines(run, verbose)
            if kept.no_longer_shown is not None:
                lines.append(kept.no_longer_shown)
            start = time.perf_counter()
            page = report.write(run, tell=lambda step: shown.says(f"Writing the report ({step})"))
            if verbose:
                report_seconds = time.perf_counter() - start
                times = {}
                for result in results:
                    if result.failure is None:
                        times[result.job] = (result.seconds, result.work())
                lines += report.time_lines(times, report_seconds)
            lines += report.headline(run, width)
            if gallery := report.gallery_address(run):
                pages.append(f"images under every method's map: {gallery}")
            pages.append(f"report: {page}")
            reasons = report.reasons_without_value(run)
            if reasons is not None:
                problems.append(f"No metric has a value: {reasons}. {HINT}")
                code = code or USER_MISTAKE
        problems += failure_lines(results)
        return code, [*_wrapped(lines, width), *pages, *_wrapped(problems, width)]


def _wrapped(lines: Iterable[str], width: int) -> Iterator[str]:
    """Yield lines of at most `width` characters. A text of several lines, such as a traceback,
    stays as it is.
    """
    for line in lines:
        if "\n" in line:
            yield line
        else:
            yield from wrapped(line, width)


def _lines_of_jobs(results: Sequence[JobResult]) -> list[str]:
    """Return each line of the jobs once, with the names of the jobs that have it."""
    jobs_by_line: dict[str, list[str]] = {}
    for result in results:
        for line in result.lines:
            jobs_by_line.setdefault(line, []).append(result.job)
    return [f"{first_names(jobs, MAX_NAMES)}: {line}" for line, jobs in jobs_by_line.items()]


def failure_lines(results: Sequence[JobResult]) -> Iterator[str]:
    """Yield a line for each message, with all jobs that failed with it. After a defect, also yield
    its traceback.
    """
    by_message: dict[str, list[JobResult]] = {}
    for result in results:
        if result.failure is not None:
            by_message.setdefault(result.failure.message, []).append(result)
    for message, group in by_message.items():
        jobs = dict.fromkeys(result.job for result in group)
        yield f"failed: {', '.join(jobs)}: {message}"
        first = group[0].failure
        if first is not None and not first.is_users_to_fix:
            yield (
                "This is a defect of axiom-bench; please report it with these "
                f"lines:\n{first.trace}"
            )


def exit_code(results: Sequence[JobResult]) -> int:
    """Return 0 if all jobs ended well, DEFECT if one failed by a defect, otherwise MENDABLE."""
    failures = [result.failure for result in results if result.failure is not None]
    if not failures:
        return 0
    if all(failure.is_users_to_fix for failure in failures):
        return USER_MISTAKE
    return DEFECT
