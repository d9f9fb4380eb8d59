"""Values of runs that others stand beside, committed with the code: run folders as small as can be.

A published run has one record file for each job, with values in float32 and of BITS bits, and no
pictures. It is read, combined and reported as any other: `axiom-bench report RUN
results/reference/SUITE/PART`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, reading, record_files, store
from axiom_bench.records.entries import AddedEntry, ConfigEntry, DataEntry, JobEntry, Manifest

BITS = 17  # of a value: to 4e-6 of it, less than what combining runs takes for the same
KEPT = (  # of the manifest
    "created", "experiment", "run", "versions", "git_commit", "device", "hardware", "precision", "methods", "models",
    "data", "axes", "work", "failures",
)  # fmt: skip
DECIDING = (
    "suite_part",
    "target",
    "normalise",
    "shard_size",
    "model",
    "data",
    "device",
)  # of a configuration
PLACES = {
    "model": ("architecture", "weights", "weights_folder"),
    "data": ("root", "cache"),
}  # on one machine
ORDER = ("metric", "method", "image_id", "target_class")  # in which rows are smallest


def publish(folder: Path, target: Path, metrics: Collection[str], note: str = "") -> None:
    """Writes the values of these metrics of a run folder, all that its manifest counts, into
    another folder. note: of the images, told by every page of them. Raises BenchError where the run
    isn't complete or can't be read, or the other folder can't be written.
    """
    manifest = reading.read_manifest(folder)
    kept = manifest.model_dump(include={*KEPT})
    if note:
        kept["data"] = {name: _with_note(about, note) for name, about in manifest.data.items()}
    jobs = [
        _job(target, manifest, job, metrics, _rows(folder, manifest, job, metrics))
        for job in manifest.jobs
    ]
    records = [name for job in jobs for name in job.records]
    old = [
        f"{record_files.RECORDS}/{path.name}"
        for path in (target / record_files.RECORDS).glob("*.parquet")
    ]
    published = Manifest.model_validate(
        {
            **{key: kept[key] for key in KEPT if key in kept},
            **{kind: [] for kind in artefacts.listed()},
            "records": records,
            "config": _config(manifest.config, metrics) | {"report": manifest.config.report},
            "metrics": {
                name: about for name, about in manifest.metrics.items() if about.metric in metrics
            },
            "jobs": jobs,
            "overrides": [],
        }
    )
    artefacts.write(target, published)
    record_files.remove(target, set(old) - set(records))


def _with_note(data: DataEntry, note: str) -> DataEntry:
    """Return the entry of a data set with a note before its own."""
    return data.model_copy(update={"notes": list(dict.fromkeys([note, *data.notes]))})


def add(folder: Path, target: Path, method: str) -> None:
    """Adds a method's values of a run folder to published ones, whose values stay as they are; the
    manifest's `added` says what computed the new ones. Raises BenchError as `publish`, and for a
    method that is published already.
    """
    manifest, published = reading.read_manifest(folder), reading.read_manifest(target)
    if method in published.methods:
        raise BenchError(
            f"{target} has values of {method} already; publish all methods of the suite anew."
        )
    metrics = {about.metric for about in published.metrics.values()}
    made = {
        job.job: job.model_copy(update={"values": {method: job.values[method]}})
        for job in manifest.jobs
    }
    jobs: list[JobEntry] = []
    for job in published.jobs:
        new = made[job.job]
        rows = pd.concat(
            [_rows(target, published, job, metrics), _rows(folder, manifest, new, metrics)]
        )
        both = job.model_copy(update={"values": dict(sorted((job.values | new.values).items()))})
        jobs.append(_job(target, published, both, metrics, rows))
    records = [name for job in jobs for name in job.records]
    methods = dict(sorted((published.methods | {method: manifest.methods[method]}).items()))
    added = published.added | {method: added_by(manifest)}
    changed = {"methods": methods, "jobs": jobs, "records": records, "added": added}
    artefacts.write(target, published.model_copy(update=changed))
    record_files.remove(target, {*published.records} - {*records})


def added_by(manifest: Manifest) -> AddedEntry:
    """Return the entry of a method that the command of this manifest computed."""
    return AddedEntry(
        created=manifest.created,
        git_commit=manifest.git_commit,
        hardware=manifest.hardware,
        versions=manifest.versions,
    )


def commits(manifest: Manifest) -> str:
    """What computed published values: "commit a62805a2, of equal_shares 7b050d5a (2026-11-24)"."""
    texts = (
        f", of {name} {str(about.git_commit or '?')[:8]} ({str(about.created)[:10]})"
        for name, about in manifest.added.items()
    )
    return f"commit {str(manifest.git_commit)[:8]}{''.join(texts)}"


def _of_metrics(job: JobEntry, metrics: Collection[str]) -> dict[str, dict[str, str]]:
    keys = {
        method: {name: key for name, key in of.items() if name in metrics}
        for method, of in job.values.items()
    }
    return {method: of for method, of in keys.items() if of}


def _rows(
    folder: Path, manifest: Manifest, job: JobEntry, metrics: Collection[str]
) -> pd.DataFrame:
    """One job's values of these metrics."""
    of_job = job.model_copy(update={"values": _of_metrics(job, metrics)})
    counted = Manifest(experiment=manifest.experiment, jobs=[of_job], sha256=manifest.sha256)
    return reading.read_records(folder, counted)


def _job(
    target: Path, manifest: Manifest, job: JobEntry, metrics: Collection[str], rows: pd.DataFrame
) -> JobEntry:
    """Write one job's values, and return its entry in the manifest."""
    values = _of_metrics(job, metrics)
    rows = rows.astype(dict.fromkeys(("metric", "method"), str)).sort_values(
        list(ORDER), kind="stable"
    )
    rows["value"] = rounded(rows["value"].to_numpy())
    names: dict[str, list[str]] = {}
    for name, about in manifest.metrics.items():
        if about.metric in metrics:
            names.setdefault(about.metric, []).append(name)
    notes = {"names": names, "curves": {}, "axes": {}, "id": ""}
    shard = record_files.key(published=job.job, values=values)
    packing = {"compression": "zstd", "compression_level": 19, "use_byte_stream_split": ["value"]}
    file = record_files.write(
        target, shard, values, rows, pd.DataFrame(), notes, schema=store.COMPACT, **packing
    )
    config = ConfigEntry.model_validate(_config(job.config, metrics))
    return JobEntry.model_validate(
        {
            **job.model_dump(include={"job", "images", "left_out"}),
            "config": config,
            "records": [file.name],
            "values": values,
        }
    )


def _config(config: ConfigEntry, metrics: Collection[str]) -> dict[str, Any]:
    """What of a configuration decides values, but for the methods, of which the manifest tells the
    same; of paths the last part.
    """
    calls = {
        name: {key: entry.get(key) for key in ("_target_", "params")}
        for name, entry in config.metric.items()
        if name in metrics
    }
    settings = config.model_dump()
    deciding = {key: settings[key] for key in DECIDING if key in settings}
    for group, names in PLACES.items():
        of_group = deciding.get(group) or {}
        last = {
            name: PurePath(of_group[name]).name
            for name in names
            if isinstance(of_group.get(name), str)
        }
        deciding |= {group: {**of_group, **last}} if of_group else {}
    return deciding | {"metric": calls}


def rounded(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values as they are published: float32 of BITS bits."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent), dtype=np.float32)
