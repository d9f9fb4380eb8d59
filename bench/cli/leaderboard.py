"""`axiom-bench leaderboard`: the site of all published values, with what this installation adds:
passes and maps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.rank import QUIET, REFERENCE, published
from axiom_bench.cli.submission import verifying
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.judging.card import family
from axiom_bench.records import artefacts, combining, publishing, reading, submissions
from axiom_bench.records.entries import Manifest
from axiom_bench.records.submissions import Submission
from axiom_bench.report.leaderboard import write
from axiom_bench.report.leaderboard.parts import CHANNELS
from axiom_bench.report.options import Options
from axiom_bench.run.composing.suites import Suite

IMAGES, NETWORKS = 4, 2  # of a part, in its gallery
CHANGED = ("model", "data.size", "metric")  # of a part's settings


def leaderboard(output: Path, submitted: Sequence[Path] = ()) -> list[str]:
    """Writes the pages of all published values, with those of submissions beside them: the last
    lines. Raises BenchError for a folder that holds something else than such pages, and for a
    submission of another suite, or that isn't as it was submitted.
    """
    if output.exists() and not output.is_dir():
        raise BenchError(f"{output} is no folder; give another --output.")
    folder = conf_folder().with_name(REFERENCE)
    parts = {
        suite: published(suite)
        for suite in sorted(path.name for path in folder.iterdir() if path.is_dir())
    }
    same = _same_methods(path for folders in parts.values() for path in folders.values())
    of_suite: dict[str, list[tuple[Path, Submission]]] = {}
    for folder in submitted:
        submission = submissions.read(folder)
        verifying.suite_of(folder, submission)
        if changed := submissions.changed(folder, submission):
            raise BenchError(f"{folder} isn't what was submitted: {changed[0]}.")
        of_suite.setdefault(submission.suite, []).append((folder, submission))
    with TemporaryDirectory() as results:
        shown = {
            suite: {
                part: _beside(path, part, of_suite.get(suite, ()), Path(results, suite, part))
                for part, path in each
            }
            for suite, each in ((suite, folders.items()) for suite, folders in parts.items())
        }
        galleries = {
            (suite, part): gallery
            for suite, folders in parts.items()
            for part, path in folders.items()
            if (gallery := _gallery(suite, part, path, same, results))
        }
        first, *_ = write(shown, output, _costs(same), galleries)
    return [f"leaderboard: {first}"]


def _beside(
    published: Path, part: str, submitted: Sequence[tuple[Path, Submission]], combined: Path
) -> Path:
    """The run folder of a part's published values with the submissions' own; each with its title,
    commit and day.
    """
    if not submitted:
        return published
    manifest = combining.combine([published, *(folder / part for folder, _ in submitted)], combined)
    own = reading.read_manifest(published)
    kind = "self-reported" if _has_owners(own) else "submitted"
    methods, added = dict(manifest.methods), dict(own.added)
    for folder, submission in submitted:
        if submission.name in own.methods:
            continue
        added[submission.name] = publishing.added_by(reading.read_manifest(folder / part))
        about = methods[submission.name]
        origin = f"{submission.method}, licence: {submission.licence or 'none'}. {submission.reference}".rstrip()
        titled = {
            "title": f"{about.title or submission.name} ({kind})",
            "note": f"{kind.capitalize()}: {origin}",
        }
        methods[submission.name] = about.model_copy(update=titled)
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


def _has_owners(manifest: Manifest) -> bool:
    """Whether a part's images are read, so that few can verify what is said of them, and none may
    be shown.
    """
    return "root" in manifest.config.data


def _same_methods(folders: Iterable[Path]) -> list[str]:
    """The methods of run folders that this installation has, with the same code and parameters; no
    other is run.
    """
    of_parts = [reading.read_manifest(folder).methods for folder in folders]
    names = sorted(set().union(*of_parts) & set(plugins.names("method")))
    own = {
        name: (method.target, dict(method.params))
        for name in names
        for method in [plugins.load("method", name)]
    }
    published_as = {
        name: [(of[name].target, of[name].params) for of in of_parts if name in of]
        for name in names
    }
    return [name for name in names if all(each == own[name] for each in published_as[name])]


def _costs(names: Iterable[str]) -> dict[str, int]:
    """{method: passes of the whole network for an image, with the trace's}, of those whose YAML
    says it.
    """
    passes = {name: plugins.load("method", name).spec.passes for name in names}
    return {
        name: 1 + pass_count(count, CHANNELS) for name, count in passes.items() if count is not None
    }


def _gallery(
    suite: str, part: str, folder: Path, names: Collection[str], results: str
) -> Path | None:
    """A run folder with the maps of a part's first IMAGES images on the first network of NETWORKS
    families; None where the images aren't drawn, since others have owners. results: a folder.
    """
    manifest = reading.read_manifest(folder)
    if _has_owners(manifest):
        return None
    networks = list({family(name): name for name in reversed(manifest.models)}.values())[::-1][
        :NETWORKS
    ]
    size = int(manifest.config.data["size"])
    kept = min(len(data.ids) for data in manifest.data.values())
    metrics = [name for name in Options.of().headline if name in manifest.config.metric]
    metrics = metrics or [min(manifest.config.metric)]  # a run needs one
    left_out = (
        *CHANGED,
        *(f"metric.{name}" for name in manifest.config.metric if name not in metrics),
    )
    chosen = [
        word
        for word in Suite.of(suite).part(part).overrides
        if not re.match(rf"({'|'.join(map(re.escape, left_out))})(=|\.params)", word)
    ]
    settings = {
        "run": f"{suite}-{part}", "results": results, "model": ",".join(networks), "runtime.repeats": 0,
        "method": f"[{','.join(name for name in names if name in manifest.methods)}]",
        "data.size": math.ceil(IMAGES * size / kept), "metric": f"[{','.join(metrics)}]", "pictures.gallery": IMAGES,
    }  # fmt: skip
    quiet = [word for word in QUIET if not word.startswith("pictures.gallery")]
    code, lines, run = compute(
        [*chosen, *quiet, *(f"{name}={value}" for name, value in settings.items())]
    )
    if code:
        raise BenchError("\n".join(lines))
    return run
