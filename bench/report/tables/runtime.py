"""Run time by step: the trace, all ablation drops, and each method beyond the trace."""

from __future__ import annotations

from typing import Any

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.statistics.numbers import NOTHING
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

HEADER = ("Step", "Method", "ms/image", "Forwards", "Trunk fwd / bwd", "Head fwd / bwd", "Peak MiB", "Batch", "Device")
STEPS = ("forward", "trace", "ablation_drops", "method")
NOTE = (
    "Each step on a fresh trace. Forwards: its time in plain forward passes of the model, measured in turn. "
    "fwd / bwd: passes through trunk and head, counted per image. A dash: not known on this device."
)


def runtime_table(run: RunFolder) -> Table:
    """One group for each model and layer; a sentence where nothing was timed."""
    order = run.runtime.assign(step=pd.Categorical(run.runtime["step"], STEPS, ordered=True))
    order = order.sort_values(["model", "layer", "step", "method"])
    groups = [
        Group(f"{model} {layer}", tuple(_row(run, entry) for entry in rows.to_dict("records")))
        for (model, layer), rows in order.groupby(["model", "layer"], observed=True)
    ]
    notes = (NOTE,) if groups else ("Run time wasn't measured in this run.",)
    return Table("runtime", "Run time", HEADER, tuple(groups), notes, text_columns=2, text_last=True)


def _row(run: RunFolder, entry: dict[Any, Any]) -> tuple[Cell, ...]:
    memory = entry["peak_memory_bytes"]
    passes = ((entry[f"{part}_forward"], entry[f"{part}_backward"]) for part in ("trunk", "head"))
    return (
        Cell(str(entry["step"]).replace("_", " ")),
        Cell(NOTHING if entry["method"] == METHOD_FREE else run.metadata.method_title(str(entry["method"]))),
        numeric(entry["milliseconds_per_image"]),
        numeric(entry["forwards"]),
        *(Cell(f"{forward:g} / {backward:g}", numbers=(forward, backward)) for forward, backward in passes),
        numeric(memory / 2**20, NOTHING if pd.isna(memory) else f"{memory / 2**20:,.0f}"),
        count(entry["batch_size"]),
        Cell(str(entry["device"])),
    )
