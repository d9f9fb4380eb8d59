"""Run time by step: the trace, all ablation drops, and each method beyond the trace."""

from __future__ import annotations

from typing import Any

import pandas as pd

from axiom_bench.report.numbers import NOTHING, number
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder
from axiom_bench.report.table import Cell, Group, Table, row

HEADER = ("Step", "Method", "ms/image", "Forwards", "Trunk fwd / bwd", "Head fwd / bwd", "Peak MiB", "Batch", "Device")
STEPS = ("forward", "trace", "ablation_drops", "method")
NOTE = (
    "Each step on a fresh trace. Forwards: its time in plain forward passes of the model, measured in turn. "
    "fwd / bwd: passes through trunk and head, counted per image. A dash: the device doesn't tell."
)


def runtime_table(run: RunFolder) -> Table:
    """One group for each model and layer; a sentence where nothing was timed."""
    order = run.runtime.assign(step=pd.Categorical(run.runtime["step"], STEPS, ordered=True))
    order = order.sort_values(["model", "layer", "step", "method"])
    groups = [
        Group(f"{model} {layer}", tuple(_row(one) for one in rows.to_dict("records")))
        for (model, layer), rows in order.groupby(["model", "layer"], observed=True)
    ]
    notes = (NOTE,) if groups else ("Run time wasn't measured in this run.",)
    return Table("runtime", "Run time", HEADER, tuple(groups), notes, text_columns=2, text_last=True)


def _row(one: dict[Any, Any]) -> tuple[Cell, ...]:
    passes = (f"{one[f'{part}_forward']:g} / {one[f'{part}_backward']:g}" for part in ("trunk", "head"))
    method = NOTHING if one["method"] == METHOD_FREE else str(one["method"])
    memory = NOTHING if pd.isna(one["peak_memory_bytes"]) else f"{one['peak_memory_bytes'] / 2**20:,.0f}"
    time, forwards = number(one["milliseconds_per_image"]), number(one["forwards"])
    return row(
        str(one["step"]).replace("_", " "),
        method,
        time,
        forwards,
        *passes,
        memory,
        str(one["batch_size"]),
        one["device"],
    )
