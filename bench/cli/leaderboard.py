"""`axiom-bench leaderboard`: write the site of all published values, with the methods' numbers of
passes and galleries of maps, which this installation computes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.rank import QUIET, REFERENCE, published_folders
from axiom_bench.cli.submission import verifying
from axiom_bench.environment import conf_folder, num_cores
from axiom_bench.errors import BenchError, plural
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.judging.card import family
from axiom_bench.records import artefacts, combining, publishing, reading, submissions
from axiom_bench.records.entries import Manifest
from axiom_bench.records.submissions import Submission
from axiom_bench.report.leaderboard import write
from axiom_bench.report.leaderboard.parts import CHANNELS
from axiom_bench.run.composing.suites import Suite
from axiom_bench.run.progress import progress, without_lines

IMAGES = 4  # in a part's gallery
NETWORKS = 2  # in a part's gallery
CHANGED = ("model", "metric")  # settings of a part that its gallery replaces


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
    # The combined runs and the galleries are needed only until the pages are written.
    with TemporaryDirectory() as results:
        shown: dict[str, dict[str, Path]] = {}
        for suite, folders in parts.items():
            own_submissions = submissions_by_suite.get(suite, ())
            shown[suite] = {}
            for part, path in folders.items():
                combined = Path(results, suite, part)
                shown[suite][part] = _with_submissions(path, part, own_submissions, combined)
        galleries = _galleries(parts, methods, results)
        num_parts = sum(map(len, shown.values()))
        with progress(f"Comparing the methods of {plural(num_parts, 'part')}"):
            first, *_ = write(shown, output, _costs(methods), galleries)
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


def _galleries(
    parts: Mapping[str, Mapping[str, Path]], methods: Collection[str], results: str
) -> dict[tuple[str, str], Path]:
    """Compute the galleries of all parts whose images are drawn, with a process for each core.
    Return their run folders by suite and part. Images that are read from files have owners.

    Args:
        parts: {suite: {part: the run folder of its published values}}.
        methods: The methods whose maps are computed.
        results: The folder of the galleries.

    Raises:
        BenchError: If a gallery can't be computed.
    """
    names = []
    for suite, folders in parts.items():
        for part, folder in folders.items():
            if not _has_owners(reading.read_manifest(folder)):
                names.append((suite, part))
    galleries = {}
    title = f"Computing maps for the galleries of {plural(len(names), 'part')}"
    num_processes = min(num_cores(), len(names))
    if num_processes < 2:
        with progress(title):
            for suite, part in names:
                folder = parts[suite][part]
                galleries[suite, part] = _gallery(suite, part, folder, methods, results)
        return galleries
    with (
        progress(title),
        ProcessPoolExecutor(num_processes, get_context("spawn"), _take_one_core) as processes,
    ):
        futures = {}
        for suite, part in names:
            futures[suite, part] = processes.submit(
                _gallery, suite, part, parts[suite][part], methods, results
            )
        try:
            for name, future in futures.items():
                galleries[name] = future.result()
        except BrokenProcessPool as error:
            raise BenchError(
                "A process that computed maps ended early, probably because memory ran out. Close "
                "other programs and run the command again."
            ) from error
        finally:
            processes.shutdown(cancel_futures=True)  # after a failure no further gallery begins
    return galleries


def _take_one_core() -> None:
    """Let torch compute with one thread, because every core has a process."""
    import torch

    torch.set_num_threads(1)


def _needs_no_map(metric: str) -> bool:
    """Return whether a metric is of the layer, the same for all methods, and needs nothing else."""
    spec = plugins.load("metric", metric).spec
    return spec.of == "layer" and not spec.needs


def _gallery(suite: str, part: str, folder: Path, names: Collection[str], results: str) -> Path:
    """Compute the maps of IMAGES images of a part, and return their run folder below
    `results`.

    The networks are the first one of NETWORKS families.
    """
    manifest = reading.read_manifest(folder)
    first_of_family = {family(name): name for name in reversed(manifest.models)}
    networks = list(first_of_family.values())[::-1][:NETWORKS]
    methods = [name for name in names if name in manifest.methods]
    # A run needs a metric. This one needs no map, since the page shows the published values.
    metric = next(name for name in plugins.names("metric") if _needs_no_map(name))
    settings = {
        "run": f"{suite}-{part}",
        "results": results,
        "model": ",".join(networks),
        "runtime.repeats": 0,
        "method": f"[{','.join(methods)}]",
        "metric": f"[{metric}]",
        "pictures.gallery": IMAGES,
    }
    unused_metrics = [name for name in manifest.config.metric if name != metric]
    replaced = [*CHANGED, *(f"metric.{name}" for name in unused_metrics)]
    pattern = re.compile(rf"({'|'.join(map(re.escape, replaced))})(=|\.params)")
    words = [word for word in Suite.of(suite).part(part).overrides if not pattern.match(word)]
    words += [word for word in QUIET if not word.startswith("pictures.gallery")]
    words += [f"{name}={value}" for name, value in settings.items()]
    # The command shows the progress of all galleries together. The notes of a gallery's few images
    # aren't those of the published values.
    with without_lines():
        code, lines, run = compute(words)
    if code:
        raise BenchError("\n".join(lines))
    return run
