"""Combine several runs into one: a manifest that lists the files of all of them, at their places. A
value that several runs have is taken from the first. Runs aren't combined if one name has two
meanings, or one measurement two values.
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
from axiom_bench.records.entries import CombinedRun, FailureEntry, Free, JobEntry, Manifest, Numbers
from axiom_bench.records.record_files import Values

# A float32 value may differ by this between devices and batch sizes: absolute for values up to 1,
# relative for larger ones.
SAME = 1e-5
PACKAGE = __name__.partition(".")[0]
KEY = ("image_id", "target_class", "method", "metric")
# These facts of a model, and settings of its configuration, must be the same in all runs.
MODEL_FACTS = ("weights_sha256", "output")
MODEL_SETTINGS = (
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
    """Write the manifest of a combination into a folder, and return it.

    With `compared`, two runs must agree in all values that both have. Otherwise the values of the
    first run count, as for runs of different machines.

    Raise BenchError if a run isn't complete or can't be read, if two runs disagree, or if the
    folder holds something else.
    """
    distinct_folders = {path.resolve(): path for path in folders}.values()
    runs = [Run(path, reading.read_manifest(path)) for path in distinct_folders]
    if folder.resolve() in {run.folder.resolve() for run in runs}:
        raise BenchError(f"{folder} is one of the runs; give --output a folder of its own.")
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give another --output.")
    # a combination is only a manifest, and may be written again; a run's values may not get lost
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
    combined = _combined_manifest(runs, folder.resolve(), compared)
    artefacts.write(folder, combined)
    return combined


def default_folder(folders: Sequence[Path]) -> Path:
    """Return `combined` in the folder that all the runs are in."""
    return Path(os.path.commonpath([path.resolve().parent for path in folders])) / "combined"


def _combined_manifest(runs: Sequence[Run], folder: Path, compared: bool) -> Manifest:
    """Return the manifest of all runs, with files named relative to `folder`."""
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    # the last entry counts, so that the first run's title does if two titles differ
    facts = artefacts.merge_facts(reversed(manifests))
    versions = {}
    for name, version in first.versions.items():
        if all(manifest.versions.get(name) == version for manifest in manifests):
            versions[name] = version
    # in the order in which the runs have them
    names: dict[str, dict[str, None]] = {"methods": {}, "metrics": {}, "models": {}, "data": {}}
    axes: dict[str, Free] = {}
    for manifest in manifests:
        for group, names_of_group in names.items():
            names_of_group.update(dict.fromkeys(getattr(manifest, group)))
    for manifest in reversed(manifests):
        axes.update(manifest.axes)
    commits = {manifest.git_commit for manifest in manifests}
    hashes: dict[str, str] = {}
    seconds: Numbers = {}
    work: Numbers = {}
    failures: list[FailureEntry] = []
    for run in runs:
        for name, sha256 in run.manifest.sha256.items():
            hashes[_relative(run.folder / name, folder)] = sha256
        for job, stages in run.manifest.seconds.items():
            seconds[f"{job} ({_label(run)})"] = stages
        for job, quantities in run.manifest.work.items():
            work[f"{job} ({_label(run)})"] = quantities
        for failure in run.manifest.failures:
            failures.append(failure.model_copy(update={"job": f"{failure.job} ({_label(run)})"}))
    experiments = dict.fromkeys(str(manifest.experiment) for manifest in manifests)
    entries = {
        "experiment": " + ".join(experiments),
        "run": ", ".join(_label(run) for run in runs),
        "created": max(manifest.created for manifest in manifests),
        "runs": [_about(run, folder) for run in runs],
        "overrides": [],
        "config": first.config,
        "methods": {name: facts.methods[name] for name in names["methods"]},
        "metrics": {name: facts.metrics[name] for name in names["metrics"]},
        "models": {name: facts.models[name] for name in names["models"]},
        "data": {name: facts.data[name] for name in names["data"]},
        "axes": axes,
        "device": artefacts.common_value(manifest.device for manifest in manifests),
        "precision": artefacts.common_value(manifest.precision for manifest in manifests),
        "versions": versions,
        "git_commit": first.git_commit if len(commits) == 1 else None,
        "jobs": list(_jobs(runs, folder, compared)),
        **{kind: list(_listed(runs, folder, kind)) for kind in artefacts.listed_kinds()},
        artefacts.HASHES: hashes,
        "seconds": seconds,
        "work": work,
        "failures": failures,
    }
    return Manifest.model_validate(entries, context=True)


def _label(run: Run) -> str:
    """Return the text that names a run in a combination."""
    return f"{run.manifest.experiment}/{run.manifest.run}"


def _about(run: Run, folder: Path) -> CombinedRun:
    """Return the entry of a run in a combination."""
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
    """Yield the jobs of all runs, each with the values that no job before it has. Raise BenchError
    if two values that are compared differ.
    """
    jobs_by_name: dict[str, list[tuple[Run, JobEntry]]] = {}
    for run in runs:
        for job in run.manifest.jobs:
            values: Values = job.values
            earlier_jobs = jobs_by_name.setdefault(job.job, [])
            for earlier_run, earlier in earlier_jobs:
                new_values = record_files.without_values(values, earlier.values)
                same = record_files.without_values(values, new_values)
                if compared:
                    _check_values((earlier_run, earlier), (run, job), same)
                values = record_files.without_values(values, same)
            earlier_jobs.append((run, job))
            records = [_relative(run.folder / name, folder) for name in job.records]
            yield job.model_copy(update={"records": records, "values": values})


def _listed(runs: Sequence[Run], folder: Path, kind: str) -> Iterator[str]:
    """Yield the files of one kind. Pictures of a model and layer are those of the first run that
    has them.
    """
    earlier_settings: set[tuple[str, ...]] = set()
    for run in runs:
        run_settings = set()
        for name in run.manifest.files(kind):
            setting = _setting_of_pictures(run.folder / name, kind)
            if setting not in earlier_settings:
                if setting:
                    run_settings.add(setting)
                yield _relative(run.folder / name, folder)
        earlier_settings |= run_settings


def _setting_of_pictures(path: Path, kind: str) -> tuple[str, ...]:
    """Return the model and layer of pictures, and also the data set of a gallery; empty for other
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
    """Return the name of a file in the combined manifest: relative to its folder, absolute on
    another drive.
    """
    target = path.resolve()
    try:
        return Path(os.path.relpath(target, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return target.as_posix()


def _check_names(runs: Sequence[Run]) -> None:
    """Raise BenchError if two runs have different models, data sets, methods or metrics of one
    name.
    """
    seen: dict[tuple[str, str], tuple[Path, object]] = {}
    for folder, manifest in runs:
        for subject, name, value in _facts(manifest):
            first_folder, first_value = seen.setdefault((subject, name), (folder, value))
            if first_value == value:
                continue
            raise BenchError(
                f"{subject} has another {name} in {folder} ({_short(value)}) than in "
                f"{first_folder} ({_short(first_value)}); run one of them again under a name of "
                "its own, or leave it out."
            )


def _short(value: object) -> str:
    """Return a value as a text of about 40 characters."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_values(first: tuple[Run, JobEntry], second: tuple[Run, JobEntry], same: Values) -> None:
    """Raise BenchError if two runs' jobs of one model, layer and data set disagree in a value.

    `same` has the values that both jobs have. Values that differ by less than SAME are equal, and
    NaN equals NaN of the same status.
    """
    rows = [_rows_of(run, job, same) for run, job in (first, second)]
    if not any(map(len, rows)):
        return
    columns = [*KEY, "value", "status"]
    both = rows[0][columns].merge(
        rows[1][columns], on=list(KEY), how="outer", suffixes=("_1", "_2")
    )
    is_close = np.isclose(both["value_1"], both["value_2"], rtol=SAME, atol=SAME, equal_nan=True)
    differing = both[~is_close | (both["status_1"] != both["status_2"])]
    if differing.empty:
        return
    row = differing.iloc[0]
    subject = f"image {row['image_id']}, class {row['target_class']}"
    if row["image_id"] == WHOLE_SET:
        subject = "the whole data set"
    method = "" if row["method"] == LAYER else f" of {row['method']}"
    sides = []
    for number in (1, 2):
        status = row[f"status_{number}"]
        # a run that lacks the row has NaN in place of a status
        has_row = isinstance(status, str)
        sides.append(f"{row[f'value_{number}']:.6g} ({status})" if has_row else "no value")
    more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
    raise BenchError(
        f"Two values of {row['metric']}{method}, {first[1].job}, {subject}: {sides[0]} in "
        f"{first[0].folder} and {sides[1]} in {second[0].folder}{more}; leave one of the runs "
        "out, or the method or metric out of one."
    )


def _facts(manifest: Manifest) -> Iterator[tuple[str, str, object]]:
    """Yield (its subject, the name of the fact, its value) of each fact that must be the same in
    all runs.
    """
    for name, model in manifest.models.items():
        for key in MODEL_FACTS:
            yield f"The model {name}", key, getattr(model, key)
    for name, data in manifest.data.items():
        yield f"The data set {name}", "fingerprint", data.fingerprint
    for name, method in manifest.methods.items():
        for key in ("target", "params"):
            yield f"The method {name}", key, getattr(method, key)
    for job in manifest.jobs:
        config = job.config
        # the file of an architecture may be in any folder
        architecture = PurePath(str(config.model.get("architecture"))).name
        model_config = config.model | {"architecture": architecture}
        for key in MODEL_SETTINGS:
            yield f"The model {model_config.get('name')}", key, model_config.get(key)
        yield f"The data set {config.data.get('name')}", "target", config.target
        yield f"The data set {config.data.get('name')}", "normalise", config.normalise
        for name, metric in config.metric.items():
            for key in ("_target_", "params"):
                yield f"The metric {name}", key, metric.get(key)


def _rows_of(run: Run, job: JobEntry, same: Values) -> pd.DataFrame:
    """Return the rows of a job's values that both jobs have: those of images, then those of the
    whole data set.
    """
    values = {}
    metrics: set[str] = set()
    for method, same_metrics in same.items():
        values[method] = {metric: job.values[method][metric] for metric in same_metrics}
        metrics.update(same_metrics)
    counted = JobEntry(job=job.job, records=job.records, values=values)
    images = reading.read_records(run.folder, Manifest(jobs=[counted], sha256=run.manifest.sha256))
    images = images.astype(dict.fromkeys(("method", "metric", "status"), str))
    place = images[PLACE].drop_duplicates().astype(str)
    stored = reading.read_whole_set(run.folder, run.manifest).merge(place, on=PLACE)
    names = [
        name for name, about in run.manifest.metrics.items() if (about.metric or name) in metrics
    ]
    stored = stored[stored["method"].isin(list(same)) & stored["metric"].isin(names)]
    whole_set = stored.assign(image_id=WHOLE_SET, target_class=-1)
    both = pd.concat([images, whole_set], ignore_index=True)
    return both.astype({"value": float})
