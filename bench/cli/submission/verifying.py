"""`axiom-bench verify` of a submission: its files by their hashes, and a seeded sample of its values computed anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.cli.game import check_trusted
from axiom_bench.cli.rank import overrides_of, published
from axiom_bench.cli.submission import fresh
from axiom_bench.cli.verify import differing, first_lines, moved, new_seed
from axiom_bench.errors import BenchError
from axiom_bench.records import publishing, reading, submissions
from axiom_bench.records.sources import version_of
from axiom_bench.records.submissions import Submission
from axiom_bench.run.composing import suites
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.job import Job
from axiom_bench.run.manifest import values_of
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import computed_alone
from axiom_bench.statistics.labels import Metadata


def verify_submission(folder: Path, seed: int | None = None, trust: bool = False) -> tuple[int, list[str]]:
    """Compares the submission's files with their hashes, and a sample of its values with what is computed now, twice:
    as in a run, and otherwise (see `computed_alone`), which must agree. What is computed is the suite of this
    installation, not what the folder says of it. Where a suite's images are drawn, it is compared on fresh ones, too:
    see `fresh`; where they aren't here, it stays self-reported. seed: None: a new one. trust: the submitted method's
    code is run. Returns the exit code, 1 where something differs, and lines that name it. Raises BenchError for another
    suite, and, without trust, a method that isn't ours."""
    submission, seed = submissions.read(folder), new_seed() if seed is None else seed
    suite = suite_of(folder, submission)
    if changed := submissions.changed(folder, submission):
        return 1, [f"{folder} isn't what was submitted:", *first_lines(changed)]
    manifests = {part: reading.read_manifest(folder / part) for part in suite.parts}
    configs = {part: _configs(submission, part, manifest) for part, manifest in manifests.items()}
    for config in (config for of_part in configs.values() for config in of_part):
        if not trust:
            check_trusted(config)
    are_here = {
        part: all(fresh.is_drawn(each) or Path(each["data"].get("root") or ".").is_dir() for each in of_part)
        for part, of_part in configs.items()
    }
    if absent := [part for part, is_here in are_here.items() if not is_here]:
        reason = f"the images of {', '.join(absent)} aren't here, so no value was computed anew."
        return 0, [f"self-reported: {submission.method} on the suite {suite.name}: {reason}"]
    lines, wrong, distances = [f"seed: {seed}"], list[str](), list[fresh.Moved]()
    references = published(suite.name, required=False)
    with _importable(folder, submission):
        for part, manifest in manifests.items():
            accepted, differences = _part(folder / part, manifest, configs[part], submission.name, seed)
            lines.append(f"{suite.name}/{part}: {accepted}")
            wrong += differences
        for part in manifests if not wrong else ():
            if part not in references or not all(map(fresh.is_drawn, configs[part])):
                lines.append(f"{suite.name}/{part}: not checked on unseen images")
            elif submission.name != fresh.settings()["reference"]:
                stored = reading.read_records(folder / part, manifests[part])
                distances += fresh.distances(part, configs[part], stored, references[part], submission.name, seed)
    if wrong:
        return 1, [*lines, f"{submission.method} isn't accepted:", *first_lines(wrong)]
    if distances:
        lines.append(f"fresh images: {len(distances)} distances to {fresh.settings()['reference']} compared")
    if marks := list(fresh.marks(distances)):
        reason = f"{submission.method} is marked: it may know the published images."
        return 1, [*lines, reason, *marks, "Ask its author, and see whether another --seed shows the same."]
    return 0, [*lines, f"accepted: {submission.method} on the suite {suite.name}, {len(submission.files)} files"]


def suite_of(folder: Path, submission: Submission) -> Suite:
    """Raises BenchError where this installation's isn't the same."""
    suite = Suite.of(submission.suite)
    if suite.sha256 != submission.suite_sha256:
        raise BenchError(
            f"{folder} is of another suite {suite.name} than this installation's "
            f"({submission.suite_sha256[:12]}, not {suite.sha256[:12]}); verify it with axiom-bench "
            f"{submission.axiom_bench}, or submit it anew."
        )
    return suite


def _configs(submission: Submission, part: str, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the part's jobs: with the method, and before it one of ours, with which a job is loaded without the method's
    code."""
    chosen = overrides_of(submission.method, submission.name, fresh.settings()["reference"])
    device = ["device=cpu"] if manifest.get("device") == "cpu" else []
    with composed([f"suite={submission.suite}/{part}", *chosen, *device]) as composition:
        return [composition.plain_job(number) for number in range(len(composition.jobs))]


@contextmanager
def _importable(folder: Path, submission: Submission) -> Iterator[None]:
    """The method's module is found in the folder, by new processes too. Raises BenchError where another one would be
    imported, or a distribution has another version."""
    for name, version in submission.distributions.items():
        if version_of(name) != version:
            raise BenchError(f"The method is of {name} {version}, and here is {version_of(name)}; install that one.")
    if submission.module_file is None:
        yield
        return
    place, before = folder.resolve(), sys.path[:]
    sys.path.append(str(place))
    try:
        spec = PathFinder.find_spec(submission.module_file.removesuffix(".py"))
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != place / submission.module_file:
            here = spec.origin if spec else "nowhere"
            raise BenchError(
                f"{submission.module_file} of the submission isn't what would be imported (but {here}); start the "
                "command in another folder, or give the module another name and submit it anew."
            )
        yield
    finally:
        sys.path[:] = before


def _part(
    folder: Path, manifest: Mapping[str, Any], configs: Sequence[dict[str, Any]], name: str, seed: int
) -> tuple[str, list[str]]:
    """What was compared, and a line for each thing that differs."""
    stored = reading.read_records(folder, manifest)
    lines, metrics = list[str](), dict[str, Any]()
    for config in configs:
        ours = {**config, "method": {key: entry for key, entry in config["method"].items() if key != name}}
        job = Job.of(ours if ours["method"] else config)
        suites.check(config["suite_part"], job, config["metric"])
        metrics |= {value: about for metric in job.metrics for value, about in values_of(metric).items()}
        lines += _missing(stored, job)
    alone = [{**config, "method": {name: config["method"][name]}} for config in configs]
    with progress(f"{folder.name}: a sample, computed twice"):
        now, otherwise = computed_alone(alone, seed), computed_alone(alone, seed, otherwise=True)
    what = f"{len(now):,} values were computed anew, twice"
    if varying := list(differing(now, otherwise, up_to_rounding=True)):
        reason = f"{name} isn't of the image alone: in another order, batch or process it has other values."
        return what, [reason, *(f"between the two, {line}" for line in varying[:3])]
    now["value"] = publishing.rounded(now["value"].to_numpy(float)).astype(float)
    if not list(differing(stored, now)):
        return f"{what}, and are the submitted ones bit by bit", lines
    differences = [*differing(stored, now, up_to_rounding=True), *moved(stored, now, Metadata({"metrics": metrics}))]
    return f"{what}, and compared with the submitted ones up to rounding", [*lines, *differences]


def _missing(stored: pd.DataFrame, job: Job) -> Iterator[str]:
    """A line for each metric that hasn't a row for each of the job's images."""
    ids = {job.data.ids[index] for index in job.indices}
    place = {"model": job.model.name, "layer": job.model.layer, "data": job.data.name}
    rows = stored[(stored[list(place)].astype(str) == pd.Series(place)).all(axis=1)]
    for metric, of_metric in rows.groupby(rows["metric"].astype(str)):
        if missing := ids - {*of_metric["image_id"].astype(str)}:
            yield f"{job.name}: {metric} has no row for {len(missing)} of {len(ids)} images, as {min(missing)}"
