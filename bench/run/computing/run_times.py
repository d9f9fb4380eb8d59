"""The run times of a job, measured in one go, so that no table mixes times of two moments."""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.cutting.passes import by_halves
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.method_costs import measure_runtime
from axiom_bench.evaluation.shard import padded
from axiom_bench.records import store
from axiom_bench.run.computing.pictures import spread_rows
from axiom_bench.run.stages import RUN_TIMES, Step

STAGE = RUN_TIMES


def ensure(step: Step) -> tuple[str, ...]:
    """The job's file of run times, relative to the run folder; measured where it isn't there, or is damaged.

    Settings of runtime: repeats (0: no file) and batch_size.
    """
    job, cut_model, folder = step.facts.job, step.cut_model, step.folder
    repeats, batch_size = step.config["runtime"]["repeats"], step.config["runtime"]["batch_size"]
    if not repeats:
        return ()
    name = step.facts.step("runtime", repeats, batch_size)
    path = f"runtime/{job.file_stem}-{name[:12]}.parquet"
    if not store.is_usable(folder / path, RUNTIME_COLUMNS):
        batch = spread_rows(job, batch_size)
        if batch is None:
            return ()

        def measured(part: Batch, rows: int) -> pd.DataFrame:
            trace = trace_of_batch(cut_model, padded(part, rows))
            return measure_runtime(trace, job.methods, repeats=repeats)

        # On fewer rows where memory asks for it: the table says how many.
        table = next(by_halves(batch, batch_size, cut_model.limits, measured))
        store.write(folder / path, table.assign(model=job.model.name, data=job.data.name), schema=None)
    return (path,)
