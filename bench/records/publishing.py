"""Published values, which are committed with the code so that other runs can be compared with them.
Their run folders are as small as possible.

A published run has one record file per job, with values in float32 and of BITS bits, and no
pictures. It is read, combined and reported like any other run: `axiom-bench report RUN
results/reference/SUITE/PART`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError, first_names
from axiom_bench.records import artefacts, reading, record_files, store
from axiom_bench.records.entries import AddedEntry, ConfigEntry, JobEntry, Manifest

# A value is exact to 4e-6 of itself, which is less than the difference that combining runs allows.
BITS = 17
KEPT = (  # the entries of the manifest that are published as they are
    "created",
    "experiment",
    "run",
    "versions",
    "git_commit",
    "device",
    "hardware",
    "precision",
    "methods",
    "models",
    "data",
    "axes",
    "work",
    "failures",
)
DECIDING = (  # the settings of a configuration that decide values
    "suite_part",
    "target",
    "normalise",
    "shard_size",
    "model",
    "data",
    "device",
)
PLACES = {  # {settings: those that are paths of one machine}
    "model": ("architecture", "weights", "weights_folder"),
    "data": ("root", "cache"),
}
MOST_NAMES = 3  # methods that were added together, and are listed by name
ORDER = ("metric", "method", "image_id", "target_class")  # rows in this order take least bytes


def publish(folder: Path, target: Path, metrics: Collection[str], note: str = "") -> None:
    """Write the values of these metrics of a run folder, all that its manifest counts, into another
    folder.

    `note` is a note on the images, which every page shows. Raise BenchError if the run isn't
    complete or can't be read, or if the other folder can't be written.
    """
    manifest = reading.read_manifest(folder)
    kept = manifest.model_dump(include={*KEPT})
    if note:
        data = {}
        for name, entry in manifest.data.items():
            notes = list(dict.fromkeys([note, *entry.notes]))
            data[name] = entry.model_copy(update={"notes": notes})
        kept["data"] = data
    jobs = []
    for job in manifest.jobs:
        rows = _rows(folder, manifest, job, metrics)
        jobs.append(_job(target, manifest, job, metrics, rows))
    records = [name for job in jobs for name in job.records]
    old_files = (target / record_files.RECORDS).glob("*.parquet")
    old = {f"{record_files.RECORDS}/{path.name}" for path in old_files}
    entries: dict[str, object] = {key: kept[key] for key in KEPT if key in kept}
    entries |= {kind: [] for kind in artefacts.listed_kinds()}
    entries["records"] = records
    entries["config"] = _config(manifest.config, metrics) | {"report": manifest.config.report}
    entries["metrics"] = {
        name: entry for name, entry in manifest.metrics.items() if entry.metric in metrics
    }
    entries["jobs"] = jobs
    entries["overrides"] = []
    artefacts.write(target, Manifest.model_validate(entries), indent=None)
    # last, so that all files of the old manifest exist until the new one is written
    record_files.remove(target, old - set(records))


def add(folder: Path, target: Path, method: str) -> None:
    """Add a method's values of a run folder to published ones, whose values stay as they are.

    The manifest's `added` has the command that computed the new ones. Raise BenchError as `publish`
    does, and also if the method is published already.
    """
    manifest = reading.read_manifest(folder)
    published = reading.read_manifest(target)
    if method in published.methods:
        raise BenchError(
            f"{target} has values of {method} already; publish all methods of the suite again."
        )
    metrics = {entry.metric for entry in published.metrics.values()}
    new_jobs: dict[str, JobEntry] = {}
    for job in manifest.jobs:
        new_jobs[job.job] = job.model_copy(update={"values": {method: job.values[method]}})
    jobs: list[JobEntry] = []
    for job in published.jobs:
        new_job = new_jobs[job.job]
        published_rows = _rows(target, published, job, metrics)
        new_rows = _rows(folder, manifest, new_job, metrics)
        values = dict(sorted((job.values | new_job.values).items()))
        both = job.model_copy(update={"values": values})
        rows = pd.concat([published_rows, new_rows])
        jobs.append(_job(target, published, both, metrics, rows))
    records = [name for job in jobs for name in job.records]
    methods = dict(sorted((published.methods | {method: manifest.methods[method]}).items()))
    added = published.added | {method: added_by(manifest)}
    changed = {"methods": methods, "jobs": jobs, "records": records, "added": added}
    artefacts.write(target, published.model_copy(update=changed), indent=None)
    # last, so that all files of the old manifest exist until the new one is written
    record_files.remove(target, {*published.records} - {*records})


def added_by(manifest: Manifest) -> AddedEntry:
    """Return the entry of a method that the command of this manifest computed."""
    return AddedEntry(
        created=manifest.created,
        git_commit=manifest.git_commit,
        hardware=manifest.hardware,
        versions=manifest.versions,
    )


def commits_text(manifest: Manifest) -> str:
    """Return the commits that computed published values: "commit a62805a2, of equal_shares 7b050d5a
    (2026-11-24)". Methods that were added together share one.
    """
    names_by_origin: dict[str, list[str]] = {}
    for name, command in manifest.added.items():
        commit = str(command.git_commit or "?")[:8]
        names_by_origin.setdefault(f"{commit} ({str(command.created)[:10]})", []).append(name)
    text = f"commit {str(manifest.git_commit)[:8]}"
    for origin, names in names_by_origin.items():
        text += f", of {first_names(names, MOST_NAMES)} {origin}"
    return text


def _values_of(job: JobEntry, metrics: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the values of a job that are of these metrics."""
    values: dict[str, dict[str, str]] = {}
    for method, keys in job.values.items():
        chosen = {name: key for name, key in keys.items() if name in metrics}
        if chosen:
            values[method] = chosen
    return values


def _rows(
    folder: Path, manifest: Manifest, job: JobEntry, metrics: Collection[str]
) -> pd.DataFrame:
    """Return one job's rows of these metrics."""
    chosen = job.model_copy(update={"values": _values_of(job, metrics)})
    counted = Manifest(experiment=manifest.experiment, jobs=[chosen], sha256=manifest.sha256)
    return reading.read_records(folder, counted)


def _job(
    target: Path, manifest: Manifest, job: JobEntry, metrics: Collection[str], rows: pd.DataFrame
) -> JobEntry:
    """Write one job's values, and return its entry in the manifest."""
    values = _values_of(job, metrics)
    rows = rows.astype(dict.fromkeys(("metric", "method"), str))
    rows = rows.sort_values(list(ORDER), kind="stable")
    rows["value"] = rounded(rows["value"].to_numpy())
    names: dict[str, list[str]] = {}
    for name, entry in manifest.metrics.items():
        if entry.metric in metrics:
            names.setdefault(entry.metric, []).append(name)
    # without a random id, the same values give the same file, which is committed
    file = record_files.write(
        target,
        record_files.key(published=job.job, values=values),
        values,
        rows,
        curves=pd.DataFrame(),
        notes={"names": names, "curves": {}, "axes": {}, "id": ""},
        schema=store.COMPACT,
        compression="zstd",
        compression_level=19,
        use_byte_stream_split=["value"],
    )
    entries: dict[str, object] = job.model_dump(include={"job", "images", "left_out"})
    entries["config"] = ConfigEntry.model_validate(_config(job.config, metrics))
    entries["records"] = [file.name]
    entries["values"] = values
    return JobEntry.model_validate(entries)


def _config(config: ConfigEntry, metrics: Collection[str]) -> dict[str, object]:
    """Return the settings of a configuration that decide values, with only the last part of paths.

    Methods are left out, because the manifest has the same facts of them.
    """
    settings = config.model_dump()
    deciding = {key: settings[key] for key in DECIDING if key in settings}
    for group, names in PLACES.items():
        group_settings = deciding.get(group)
        if not group_settings:
            continue
        last_parts = {}
        for name in names:
            if isinstance(group_settings.get(name), str):
                last_parts[name] = PurePath(group_settings[name]).name
        deciding[group] = {**group_settings, **last_parts}
    deciding["metric"] = {
        name: {key: entry.get(key) for key in ("_target_", "params")}
        for name, entry in config.metric.items()
        if name in metrics
    }
    return deciding


def rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return values as they are published: float32 of BITS bits."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent), dtype=np.float32)
