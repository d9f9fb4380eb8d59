"""Several runs as one: a manifest that counts the files of all of them, where they are. A value
that several runs hold is taken from the first; runs in which one name has two meanings, or one
measurement two values, aren't combined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, reading, record_files, running, store
from axiom_bench.records.by_metric import PLACE
from axiom_bench.records.entries import CombinedRun, FailureEntry, JobEntry, Manifest
from axiom_bench.records.record_files import Values

# A float32 value may differ by this, absolute for values up to 1 and relative above, between
# devices and batch sizes.
SAME = 1e-5
PACKAGE = __name__.partition(".")[0]
KEY = ("image_id", "target_class", "method", "metric")
OF_A_MODEL = ("weights_sha256", "output")
OF_ITS_CONFIG = (
    "architecture",
    "kwargs",
    "resize",
    "crop",
    "mean",
    "std",
    "interpolation",
    "reshape",
)


class Run(NamedTuple):
    """A run folder and its manifest."""

    folder: Path
    manifest: Manifest


def combine(folders: Sequence[Path], folder: Path, compared: bool = True) -> Manifest:
    """Write the manifest of a combination into a folder; the manifest. compared: whether two runs
    may disagree in no value; False where they are of different machines, so that the first run's
    count. Raises BenchError for a run that isn't complete or can't be read, where two runs
    disagree, and for a folder that holds something else.
    """
    runs = [
        Run(path, reading.read_manifest(path))
        for path in {path.resolve(): path for path in folders}.values()
    ]
    if folder.resolve() in {run.folder.resolve() for run in runs}:
        raise BenchError(f"{folder} is one of the runs; give --output a folder of its own.")
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give another --output.")
    if (folder / artefacts.NAME).exists() and not artefacts.read(folder).is_combined:
        raise BenchError(f"{folder} is a run folder, which isn't replaced; give another --output.")
    for run in runs:
        running.check_ended(run.folder, run.manifest)
        if run.manifest.is_combined:
            raise BenchError(
                f"{run.folder} is itself a combination; give the runs that it combines."
            )
        jobs = run.manifest.jobs
        if not jobs or not all("values" in job.model_fields_set for job in jobs):
            raise BenchError(f"{run.folder} lacks the records of a job; run its command again.")
    _check_names(runs)
    combined = _combined(runs, folder.resolve(), compared)
    artefacts.write(folder, combined)
    return combined


def default_folder(folders: Sequence[Path]) -> Path:
    """`combined` in the folder that all the runs are in."""
    return Path(os.path.commonpath([path.resolve().parent for path in folders])) / "combined"


def _combined(runs: Sequence[Run], folder: Path, compared: bool) -> Manifest:
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    facts = artefacts.merge_facts(
        reversed(manifests)
    )  # the last counts: where two titles differ, the first run's
    versions = {
        name: version
        for name, version in first.versions.items()
        if all(other.versions.get(name) == version for other in manifests)
    }
    commits = {manifest.git_commit for manifest in manifests}
    hashes: dict[str, str] = {}
    failures: list[FailureEntry] = []
    for run in runs:
        hashes |= {
            _relative(run.folder / name, folder): sha256
            for name, sha256 in run.manifest.sha256.items()
        }
        for failure in run.manifest.failures:
            failures.append(failure.model_copy(update={"job": f"{failure.job} ({_label(run)})"}))
    return Manifest.model_validate(
        {
            "experiment": " + ".join(
                dict.fromkeys(str(manifest.experiment) for manifest in manifests)
            ),
            "run": ", ".join(_label(run) for run in runs),
            "created": max(manifest.created for manifest in manifests),
            "runs": [_about(run, folder) for run in runs],
            "overrides": [],
            "config": first.config,
            "methods": {
                name: facts.methods[name] for manifest in manifests for name in manifest.methods
            },
            "metrics": {
                name: facts.metrics[name] for manifest in manifests for name in manifest.metrics
            },
            "models": {
                name: facts.models[name] for manifest in manifests for name in manifest.models
            },
            "data": {name: facts.data[name] for manifest in manifests for name in manifest.data},
            "axes": {
                name: axes
                for manifest in reversed(manifests)
                for name, axes in manifest.axes.items()
            },
            "device": artefacts.common(manifest.device for manifest in manifests),
            "precision": artefacts.common(manifest.precision for manifest in manifests),
            "versions": versions,
            "git_commit": first.git_commit if len(commits) == 1 else None,
            "jobs": list(_jobs(runs, folder, compared)),
            **{kind: list(_listed(runs, folder, kind)) for kind in artefacts.listed()},
            artefacts.HASHES: hashes,
            "seconds": {
                f"{job} ({_label(run)})": each
                for run in runs
                for job, each in run.manifest.seconds.items()
            },
            "work": {
                f"{job} ({_label(run)})": each
                for run in runs
                for job, each in run.manifest.work.items()
            },
            "failures": failures,
        },
        context=True,
    )


def _label(run: Run) -> str:
    return f"{run.manifest.experiment}/{run.manifest.run}"


def _about(run: Run, folder: Path) -> CombinedRun:
    manifest = run.manifest
    return CombinedRun(
        folder=_relative(run.folder, folder),
        experiment=manifest.experiment,
        run=manifest.run,
        created=manifest.created,
        overrides=manifest.overrides,
        device=manifest.device,
        precision=manifest.precision,
        versions=manifest.versions,
        git_commit=manifest.git_commit,
        models=list(manifest.models),
        data=list(manifest.data),
    )


def _jobs(runs: Sequence[Run], folder: Path, compared: bool) -> Iterator[JobEntry]:
    """Yield the jobs of all runs, each with the values that none before it has. Raises BenchError
    if two values that are compared differ.
    """
    before: dict[str, list[tuple[Run, JobEntry]]] = {}
    for run in runs:
        for job in run.manifest.jobs:
            values: Values = job.values
            for other, earlier in before.get(job.job, ()):
                same = record_files.without(values, record_files.without(values, earlier.values))
                if compared:
                    _check_values((other, earlier), (run, job), same)
                values = record_files.without(values, same)
            before.setdefault(job.job, []).append((run, job))
            records = [_relative(run.folder / name, folder) for name in job.records]
            yield job.model_copy(update={"records": records, "values": values})


def _listed(runs: Sequence[Run], folder: Path, kind: str) -> Iterator[str]:
    """The files of one kind; of pictures those of the first run that has the model and layer."""
    places: set[tuple[str, ...]] = set()
    for run in runs:
        of_run = set()
        for name in run.manifest.files(kind):
            place = _place_of_pictures(run.folder / name, kind)
            if place not in places:
                of_run |= {place} if place else set()
                yield _relative(run.folder / name, folder)
        places |= of_run


def _place_of_pictures(path: Path, kind: str) -> tuple[str, ...]:
    """The model and layer, and of a gallery the data set too, that pictures are of; empty for other
    files.
    """
    if kind == "gallery":
        rows = store.read_table(path, store.GALLERY).select(PLACE).slice(0, 1).to_pylist()
        return tuple(map(str, rows[0].values())) if rows else ()
    if kind != "pictures":
        return ()
    arrays = store.read_arrays(path)
    try:
        return str(arrays["model"]), str(arrays["layer"])
    except KeyError as error:
        raise BenchError(
            f"The pictures {path} can't be used ({error}); run the same command again."
        ) from error


def _relative(path: Path, folder: Path) -> str:
    """As the combined manifest names it: relative to its folder, absolute on another drive."""
    target = path.resolve()
    try:
        return Path(os.path.relpath(target, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return target.as_posix()


def _check_names(runs: Sequence[Run]) -> None:
    """Raises BenchError where two runs have another model, data set, method or metric under one
    name.
    """
    seen: dict[tuple[str, str], tuple[Path, object]] = {}
    for folder, manifest in runs:
        for thing, name, value in _facts(manifest):
            other, before = seen.setdefault((thing, name), (folder, value))
            if before != value:
                now, then = (
                    text if len(text) <= 40 else f"{text[:40]}..."
                    for text in (str(value), str(before))
                )
                raise BenchError(
                    f"{thing} has another {name} in {folder} ({now}) than in {other} ({then}); "
                    "run one of them again under a name of its own, or leave it out."
                )


def _check_values(first: tuple[Run, JobEntry], second: tuple[Run, JobEntry], same: Values) -> None:
    """Raises BenchError where two runs' jobs of one model, layer and data set disagree in a value.
    same: the values that both jobs have. Values that differ by less than SAME are equal; NaN equals
    NaN of one status.
    """
    rows = [_rows_of(run, job, same) for run, job in (first, second)]
    if not any(map(len, rows)):
        return
    columns = [*KEY, "value", "status"]
    both = rows[0][columns].merge(
        rows[1][columns], on=list(KEY), how="outer", suffixes=("_1", "_2")
    )
    close = np.isclose(both["value_1"], both["value_2"], rtol=SAME, atol=SAME, equal_nan=True)
    differing = both[~close | (both["status_1"] != both["status_2"])]
    if differing.empty:
        return
    row = differing.iloc[0]
    of_image = f"image {row['image_id']}, class {row['target_class']}"
    what = "the whole data set" if row["image_id"] == WHOLE_SET else of_image
    of_method = "" if row["method"] == LAYER else f" of {row['method']}"
    sides = [
        f"{row[f'value_{i}']:.6g} ({row[f'status_{i}']})"
        if isinstance(row[f"status_{i}"], str)
        else "no value"
        for i in (1, 2)
    ]
    more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
    raise BenchError(
        f"Two values of {row['metric']}{of_method}, {first[1].job}, {what}: {sides[0]} in "
        f"{first[0].folder} and {sides[1]} in {second[0].folder}{more}; leave one of the runs "
        "out, or the method or metric out of one."
    )


def _facts(manifest: Manifest) -> Iterator[tuple[str, str, object]]:
    """Yield (its subject, the name of the fact, its value) of each fact that must be the same in
    all runs.
    """
    for name, model in manifest.models.items():
        yield from ((f"The model {name}", key, getattr(model, key)) for key in OF_A_MODEL)
    for name, data in manifest.data.items():
        yield f"The data set {name}", "fingerprint", data.fingerprint
    for name, method in manifest.methods.items():
        yield from (
            (f"The method {name}", key, getattr(method, key)) for key in ("target", "params")
        )
    for job in manifest.jobs:
        config = job.config
        own = config.model | {
            "architecture": PurePath(str(config.model.get("architecture"))).name
        }  # in any folder
        yield from ((f"The model {own.get('name')}", key, own.get(key)) for key in OF_ITS_CONFIG)
        yield f"The data set {config.data.get('name')}", "target", config.target
        yield f"The data set {config.data.get('name')}", "normalise", config.normalise
        for name, metric in config.metric.items():
            yield from (
                (f"The metric {name}", key, metric.get(key)) for key in ("_target_", "params")
            )


def _rows_of(run: Run, job: JobEntry, same: Values) -> pd.DataFrame:
    values = {
        method: {metric: job.values[method][metric] for metric in metrics}
        for method, metrics in same.items()
    }
    counted = JobEntry(job=job.job, records=job.records, values=values)
    images = reading.read_records(run.folder, Manifest(jobs=[counted], sha256=run.manifest.sha256))
    images = images.astype(dict.fromkeys(("method", "metric", "status"), str))
    place = images[PLACE].drop_duplicates().astype(str)
    stored = reading.read_whole_set(run.folder, run.manifest).merge(place, on=PLACE)
    metrics = {metric for of_method in same.values() for metric in of_method}
    names = [
        name for name, about in run.manifest.metrics.items() if (about.metric or name) in metrics
    ]
    stored = stored[stored["method"].isin(list(same)) & stored["metric"].isin(names)]
    both = pd.concat(
        [images, stored.assign(image_id=WHOLE_SET, target_class=-1)], ignore_index=True
    )
    return both.astype({"value": float})
