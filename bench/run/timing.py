"""The runtime step of a job: measured in one go, so that no table mixes seconds of two moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.evaluation.runtime import measure_runtime
from axiom_bench.records import store as records
from axiom_bench.run import fingerprint
from axiom_bench.run.compute import padded
from axiom_bench.run.job import Job
from axiom_bench.run.pictures import spread_rows


def ensure(job: Job, whole: CutModel, config: Mapping[str, Any], fresh: bool, folder: Path) -> tuple[str, ...]:
    """The job's file of run times, relative to the run folder.

    config: repeats (0: no file) and batch_size. fresh: some of the job was computed just now, so measure all of it.
    """
    if not config["repeats"]:
        return ()
    identity = [f"{config['repeats']} x {config['batch_size']}", *job.contents.values()]
    name = fingerprint.of_file(fingerprint.of_job(job), identity, None, job.methods)
    path = f"runtime/{job.model.name}-{job.model.layer}-{name[:12]}.parquet"
    if fresh or not (folder / path).is_file():
        batch = spread_rows(job, config["batch_size"])
        if batch is None:
            return ()
        batch = padded(batch, config["batch_size"])
        table = measure_runtime(whole, batch.images, batch.targets, job.methods, repeats=config["repeats"])
        records.write(folder / path, table.assign(model=job.model.name, data=job.data.name), schema=None)
    return (path,)
