"""`axiom-bench submit`: a method's values of all parts of a suite, in a folder with its source and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from axiom_bench.cli.rank import computed_part
from axiom_bench.errors import BenchError
from axiom_bench.records import files, publishing, reading, submissions
from axiom_bench.records.sources import Sources, version_of
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.manifest import commit


def submit(
    method: str, suite: str, output: Path, licence: str, reference: str, overrides: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """Computes a method's values of a suite, or continues, and writes the submission: the exit code and the lines to
    print. overrides: of what the suite leaves free. Nothing is written where a network failed. Raises BenchError."""
    chosen = Suite.of(suite)
    submissions.check_free(output, method)
    distributions, source = _origin(method)
    name = submissions.name_of(method)
    folders: dict[str, Path] = {}
    for part in chosen.parts:
        code, lines, folders[part] = computed_part(suite, part, method, name, 0, overrides, goes_on=True)
        if code:
            return code, [*lines, "Nothing is submitted: all networks of a suite need values."]
        reason = (reading.read_manifest(folders[part])["methods"].get(name) or {}).get("unstable")
        if reason:
            raise BenchError(f"{method} {reason}. Only values that are the same again can be submitted.")
    for part, folder in folders.items():
        publishing.publish(folder, output / part, {*reading.read_manifest(folder)["config"]["metric"]})
    if module := submissions.module_file(method, distributions):
        files.write(output / module, source)
    submission = submissions.Submission(
        method=method, suite=suite, suite_sha256=chosen.sha256, licence=licence, reference=reference,
        distributions=distributions, axiom_bench=version("axiom-bench"), git_commit=commit(),
        files=submissions.hashes(output),
    )  # fmt: skip
    submissions.write(output, submission)
    size = sum((output / file).stat().st_size for file in submission.files)
    return 0, [f"submission: {output}, {len(submission.files)} files, {size / 1e6:.2f} MB"]


def _origin(method: str) -> tuple[dict[str, str], bytes]:
    """The installed distributions that a method comes from, with their versions; without any, the text of its module.
    Raises BenchError where that text wouldn't be enough."""
    add_current_folder()
    module = method.rpartition(".")[0]
    names = Sources().distributions(module.partition(".")[0]) if module else ()
    distributions = {name: version_of(name) for name in names}
    if not submissions.module_file(method, distributions):
        return distributions, b""
    if "." in module:
        raise BenchError(f"{module} is in a package; submit one file, or a method of a distribution that pip installs.")
    spec = find_spec(module)
    if spec is None or not str(spec.origin).endswith(".py"):
        raise BenchError(f"There is no file {module}.py on sys.path; start the command in its folder.")
    return {}, Path(str(spec.origin)).read_bytes()
