"""`axiom-bench leaderboard`: write the site of all published values, with the methods' numbers of
passes and galleries of maps, which this installation computes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench.cli.rank import REFERENCE, published_folders
from axiom_bench.cli.submission import verifying
from axiom_bench.environment import conf_folder, num_cores
from axiom_bench.errors import BenchError, plural
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.judging.card import family
from axiom_bench.records import artefacts, combining, publishing, reading, submissions
from axiom_bench.records.entries import Manifest
from axiom_bench.records.store import GalleryRow
from axiom_bench.records.submissions import Submission
from axiom_bench.report.leaderboard import write
from axiom_bench.report.leaderboard.making import MadePart, PartTask, made_part, part_tasks
from axiom_bench.report.leaderboard.parts import CHANNELS
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.gallery_rows import gallery_rows, spread
from axiom_bench.run.progress import progress, without_lines
from axiom_bench.run.verification import fresh_job

IMAGES = 2  # in a part's gallery
NETWORKS = 2  # in a part's gallery
OF_MODEL = re.compile(r"model(=|\.params)")  # settings of a part that its gallery replaces


def leaderboard(output: Path, submitted: Sequence[Path] = ()) -> list[str]:
    """Write the pages of all published values, together with those of submissions.

    Args:
        output: The folder of the pages.
        submitted: The folders of the submissions.

    Returns:
        The last lines.

    Raises:
        BenchError: If `output` holds anything other than such pages. Also for a submission of
            another suite, and for one whose files have changed since it was submitted.
    """
    if output.exists() and not output.is_dir():
        raise BenchError(f"{output} is no folder; give another --output.")
    reference = conf_folder().with_name(REFERENCE)
    parts: dict[str, dict[str, Path]] = {}
    for suite in sorted(path.name for path in reference.iterdir() if path.is_dir()):
        parts[suite] = published_folders(suite)
    parts = dict(sorted(parts.items(), key=lambda item: -_share_of_photographs(item[1])))
    methods = _same_methods(path for folders in parts.values() for path in folders.values())
    submissions_by_suite: dict[str, list[tuple[Path, Submission]]] = {}
    for folder in submitted:
        submission = submissions.read(folder)
        verifying.suite_of(folder, submission)
        if changed := submissions.changed(folder, submission):
            raise BenchError(f"{folder} isn't what was submitted: {changed[0]}.")
        submissions_by_suite.setdefault(submission.suite, []).append((folder, submission))
    # The combined runs are needed only until the pages are written.
    with TemporaryDirectory() as results:
        shown: dict[str, dict[str, Path]] = {}
        for suite, folders in parts.items():
            own_submissions = submissions_by_suite.get(suite, ())
            shown[suite] = {}
            for part, path in folders.items():
                combined = Path(results, suite, part)
                shown[suite][part] = _with_submissions(path, part, own_submissions, combined)
        costs = _costs(methods)
        gallery_tasks = _gallery_tasks(parts, methods)
        tasks = part_tasks(shown, costs, {(task.suite, task.part) for task in gallery_tasks})
        with progress(
            f"Comparing the methods of {plural(len(tasks), 'part')}, and computing maps for "
            f"{plural(len(gallery_tasks), 'gallery')}"
        ):
            made, pictures = _made(tasks, gallery_tasks)
            first, *_ = write(made, output, costs, pictures)
    return [f"leaderboard: {first}"]


def _with_submissions(
    published: Path, part: str, submitted: Sequence[tuple[Path, Submission]], combined: Path
) -> Path:
    """Return the run folder of a part's published values combined with those of the submissions.

    Each submission has its title, commit and day.
    """
    if not submitted:
        return published
    manifest = combining.combine([published, *(folder / part for folder, _ in submitted)], combined)
    own = reading.read_manifest(published)
    kind = "self-reported" if _has_owners(own) else "submitted"
    methods = dict(manifest.methods)
    added = dict(own.added)
    for folder, submission in submitted:
        # A method that is published already keeps its title and origin.
        if submission.name in own.methods:
            continue
        added[submission.name] = publishing.added_by(reading.read_manifest(folder / part))
        about = methods[submission.name]
        licence = submission.licence or "none"
        origin = f"{submission.method}, licence: {licence}. {submission.reference}".rstrip()
        texts = {
            "title": f"{about.title or submission.name} ({kind})",
            "note": f"{kind.capitalize()}: {origin}",
        }
        methods[submission.name] = about.model_copy(update=texts)
    changed = {
        "created": own.created,
        "git_commit": own.git_commit,
        "hardware": own.hardware,
        "versions": own.versions,
        "added": added,
        "methods": methods,
        "published": list(own.methods),
    }
    artefacts.write(combined, manifest.model_copy(update=changed))
    return combined


def _share_of_photographs(folders: Mapping[str, Path]) -> float:
    """Return the share of a suite's parts whose images are read from files.

    Suites of photographs come first, because visitors know less of drawn images.
    """
    are_photographs = [_has_owners(reading.read_manifest(folder)) for folder in folders.values()]
    return sum(are_photographs) / max(len(are_photographs), 1)


def _has_owners(manifest: Manifest) -> bool:
    """Return whether a part's images are read from files.

    Few people can verify values on such images, and the images may not be shown.
    """
    return "root" in manifest.config.data


def _same_methods(folders: Iterable[Path]) -> list[str]:
    """Return the methods of run folders that this installation has with the same code and
    parameters. No other method is run.
    """
    published_methods = [reading.read_manifest(folder).methods for folder in folders]
    known = sorted(set().union(*published_methods) & set(plugins.names("method")))
    same = []
    for name in known:
        plugin = plugins.load("method", name)
        own = (plugin.target, dict(plugin.params))
        entries = [methods[name] for methods in published_methods if name in methods]
        if all((entry.target, entry.params) == own for entry in entries):
            same.append(name)
    return same


def _costs(names: Iterable[str]) -> dict[str, int]:
    """Return {method: passes of the whole network per image, with the trace's} of the methods whose
    YAML says it.
    """
    costs = {}
    for name in names:
        count = plugins.load("method", name).spec.passes
        if count is not None:
            costs[name] = 1 + pass_count(count, CHANNELS)
    return costs


@dataclass(frozen=True)
class GalleryTask:
    """The facts from which a process computes a part's gallery."""

    suite: str
    part: str
    folder: Path
    """The run folder of its published values."""
    methods: Sequence[str]
    """The methods whose maps are computed."""


def _gallery_tasks(
    parts: Mapping[str, Mapping[str, Path]], methods: Collection[str]
) -> list[GalleryTask]:
    """Return the tasks of all parts whose images are drawn. Images that are read from files have
    owners.
    """
    tasks = []
    for suite, folders in parts.items():
        for part, folder in folders.items():
            manifest = reading.read_manifest(folder)
            if not _has_owners(manifest):
                published = [name for name in methods if name in manifest.methods]
                tasks.append(GalleryTask(suite, part, folder, published))
    return tasks


def _made(
    tasks: Sequence[PartTask], gallery_tasks: Sequence[GalleryTask]
) -> tuple[list[MadePart], dict[str, list[GalleryRow]]]:
    """Make the pages of all parts and compute all galleries, with a process for each core.

    Returns:
        The parts, in the order of their tasks, and {a part's name: its gallery's pictures}.

    Raises:
        BenchError: If a run can't be read, a gallery can't be computed, or a process ends early.
    """
    names = [f"{task.suite}/{task.part}" for task in gallery_tasks]
    num_processes = min(num_cores(), len(gallery_tasks))
    if num_processes < 2:
        pictures = dict(zip(names, map(_gallery, gallery_tasks), strict=True))
        return [made_part(task) for task in tasks], pictures
    with ProcessPoolExecutor(num_processes, get_context("spawn"), _take_one_core) as processes:
        # Galleries begin first, because they take longer.
        galleries = processes.map(_gallery, gallery_tasks)
        parts = processes.map(made_part, tasks)
        try:
            pictures = dict(zip(names, galleries, strict=True))
            return list(parts), pictures
        except BrokenProcessPool as error:
            raise BenchError(
                "A process that computed maps or compared methods ended early, probably because "
                "memory ran out. Close other programs and run the command again."
            ) from error
        finally:
            processes.shutdown(cancel_futures=True)  # after a failure no further task begins


def _take_one_core() -> None:
    """Let torch compute with one thread, because every core has a process."""
    import torch

    torch.set_num_threads(1)


def _gallery(task: GalleryTask) -> list[GalleryRow]:
    """Compute the maps of IMAGES images of a part on the first network of NETWORKS families. The
    page shows them with the published values.
    """
    manifest = reading.read_manifest(task.folder)
    first_of_family = {family(name): name for name in reversed(manifest.models)}
    networks = list(first_of_family.values())[::-1][:NETWORKS]
    published = Suite.of(task.suite).part(task.part).overrides
    words = [word for word in published if not OF_MODEL.match(word)]
    words += [f"model={','.join(networks)}", f"method=[{','.join(task.methods)}]"]
    pictures: list[GalleryRow] = []
    # The command shows the progress of all galleries together.
    with without_lines(), composed(words) as composition:
        for number in range(len(composition.jobs)):
            job = fresh_job(composition.job_settings(number))
            pictures += gallery_rows(job, spread(job.indices, IMAGES))
    return pictures
