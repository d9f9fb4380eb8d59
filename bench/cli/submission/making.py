"""`axiom-bench submit`: write a method's values of all parts of a suite into a folder, with the
method's source and hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from axiom_bench.cli.rank import computed_part
from axiom_bench.columns import NOT_APPLICABLE, OK
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError
from axiom_bench.records import files, publishing, reading, submissions
from axiom_bench.records.sources import Sources, file_of, version_of
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.manifest import commit
from axiom_bench.run.progress import Estimate


def submit(
    method: str,
    suite: str,
    output: Path,
    licence: str,
    reference: str,
    overrides: Sequence[str] = (),
) -> tuple[int, list[str]]:
    """Compute a method's values of a suite, or continue, and write the submission.

    Nothing is written if a network failed, or if the method has no value.

    Args:
        method: The dotted path of the method, or its name.
        suite: The name of the suite.
        output: The folder of the submission.
        licence: The licence of the method's code.
        reference: The paper that describes the method.
        overrides: Settings that the suite leaves free.

    Returns:
        The exit code and the lines to print.

    Raises:
        BenchError: If `output` isn't free, if the method has no value or varying ones, and if its
            source can't be submitted.
    """
    chosen = Suite.of(suite)
    submissions.check_free(output, method)
    distributions, source = _origin(method)
    name = submissions.name_of(method)
    folders: dict[str, Path] = {}
    estimate = Estimate(sum(part.num_jobs for part in chosen.parts.values()))
    for part in chosen.parts:
        # Values that the previous command computed with the user's method are reused.
        code, lines, folders[part] = computed_part(
            suite,
            part,
            method,
            name,
            repeats=0,
            overrides=overrides,
            continue_run=True,
            estimate=estimate,
        )
        if code:
            return code, [*lines, "Nothing is submitted: all networks of a suite need values."]
        entry = reading.read_manifest(folders[part]).methods.get(name)
        if entry and entry.unstable:
            raise BenchError(
                f"{method} {entry.unstable}. Only values that are the same again can be submitted."
            )
    _check_values(method, suite, name, folders.values())
    for part, folder in folders.items():
        metrics = {*reading.read_manifest(folder).config.metric}
        publishing.publish(folder, output / part, metrics)
    if name_of_source := submissions.source_file(method):
        files.write(output / name_of_source, source)
    submission = submissions.Submission(
        method=method,
        suite=suite,
        suite_sha256=chosen.sha256,
        licence=licence,
        reference=reference,
        distributions=distributions,
        axiom_bench=version("axiom-bench"),
        git_commit=commit(),
        files=submissions.hashes(output),
    )
    submissions.write(output, submission)
    size = sum((output / file).stat().st_size for file in submission.files)
    return 0, [f"submission: {output}, {len(submission.files)} files, {size / 1e6:.2f} MB"]


def _check_values(method: str, suite: str, name: str, folders: Iterable[Path]) -> None:
    """Raise BenchError, with the statuses of all rows, if the method called `name` has no value in
    any part.
    """
    statuses = Counter[str]()
    for folder in folders:
        rows = reading.read_run(folder)
        statuses.update(rows.loc[rows["method"] == name, "status"])
    if statuses[OK]:
        return
    reasons = ", ".join(f"{count} {status}" for status, count in statuses.items())
    fix = "."
    module, _, function = method.rpartition(".")
    if module and statuses[NOT_APPLICABLE]:
        fix = (
            f": if it holds for signals and volumes, write {function}.dimensions = (1, 2, 3) in "
            f"{module}.py."
        )
    raise BenchError(
        f"{method} has no value on the suite {suite} ({reasons}), so nothing is submitted{fix}"
    )


def _origin(method: str) -> tuple[dict[str, str], bytes]:
    """Return the installed distributions that a method comes from, with their versions, and its
    module's source.

    Raise BenchError if a method of no distribution needs more than that source.
    """
    add_current_folder()
    if not submissions.source_file(method):
        return {}, b""
    module = method.rpartition(".")[0]
    names = Sources().distributions(module.partition(".")[0])
    distributions = {name: version_of(name) for name in names}
    if "." in module and not distributions:
        raise BenchError(
            f"{module} is in a package; submit one file, or a method of a distribution that pip "
            "installs."
        )
    path = file_of(module)
    if path is None or path.suffix != ".py":
        raise BenchError(
            f"{module} has no source file {module}.py on sys.path; a reviewer reads that file."
        )
    return distributions, path.read_bytes()
