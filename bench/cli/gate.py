"""`axiom-bench gate`: compare a run with a baseline, and write the result as files for people and
CI services.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.records.files import local_path

if TYPE_CHECKING:
    from axiom_bench.gate import GateResult

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # the file that GitHub Actions shows as the summary of a job


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("run_folder", type=local_path)
    parser.add_argument("--baseline", type=local_path, required=True, metavar="FILE")
    compare = parser.add_argument_group("how to compare")
    compare.add_argument(
        "--allow-improvements", action="store_true", help="exit 0 where all that moved is better"
    )
    compare.add_argument(
        "--against",
        type=local_path,
        metavar="RUN",
        help="the baseline's run folder: its values by image and its maps",
    )
    outputs = parser.add_argument_group("files")
    outputs.add_argument(
        "--markdown", type=local_path, metavar="FILE", help="a summary; maps are saved next to it"
    )
    outputs.add_argument(
        "--junit", type=local_path, metavar="FILE", help="a test for each row of the baseline"
    )
    outputs.add_argument(
        "--json", type=local_path, metavar="FILE", help="every finding, for programs"
    )
    write = parser.add_argument_group("the baseline itself")
    write.add_argument(
        "--write", action="store_true", help="write the baseline from this run instead of comparing"
    )
    write.add_argument(
        "--reason",
        metavar="TEXT",
        help="of --write: why, kept in the baseline with date and commit",
    )


def run(options: Namespace) -> int:
    """Compare a run with a baseline, or write the baseline.

    Args:
        options: The options of the command line.

    Returns:
        The exit code.

    Raises:
        BenchError: For arguments that don't go together.
    """
    # before the comparison, so that no result is lost because its file can't be written
    baseline = options.baseline if options.write else None
    files.check_output(options.markdown, options.junit, options.json, baseline)
    if options.write:
        return _write(options)
    if options.reason is not None:
        raise BenchError("--reason is written into a baseline; add --write.")
    from axiom_bench.gate import GateOptions, gate

    comparison = GateOptions(options.allow_improvements, options.against)
    result = gate(options.run_folder, options.baseline, comparison)
    say(result.lines)
    write_outputs(result, options.markdown, options.junit, options.json)
    return result.exit_code


def write_outputs(
    result: GateResult, markdown: Path | None, junit: Path | None, json: Path | None
) -> None:
    """Write the files that were asked for.

    Args:
        result: The result of the comparison.
        markdown: A summary. In GitHub Actions it is also appended to the summary of the job.
        junit: A file with a test for each row of the baseline.
        json: A file with all findings.

    Raises:
        BenchError: If a file can't be written.
    """
    from axiom_bench.gate import json_text, junit_xml, write_markdown

    if markdown is not None:
        # The summary of a GitHub job can't show files, so it gets the text without pictures.
        without_pictures = write_markdown(result, markdown)
        summary = os.environ.get(STEP_SUMMARY)
        if summary and Path(summary).absolute() != markdown.absolute():
            try:
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(without_pictures)
            except OSError as error:
                why = f"(${STEP_SUMMARY}): {error.strerror}"
                raise BenchError(f"Can't write the job's summary {summary} {why}.") from error
    if junit is not None:
        files.write(junit, junit_xml(result).encode())
    if json is not None:
        files.write(json, json_text(result).encode())


def _write(options: Namespace) -> int:
    """Write the baseline and return the exit code."""
    from axiom_bench.gate import write_baseline

    outputs = (options.markdown, options.junit, options.json, options.against)
    if any(outputs) or options.allow_improvements:
        raise BenchError("--write compares nothing; only --baseline and --reason go with it.")
    written = write_baseline(options.run_folder, options.baseline, options.reason)
    say([f"baseline: {written}"])
    return 0
