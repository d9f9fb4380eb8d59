"""Run times in a baseline: ratios to one forward pass of the same job, never seconds, which belong to a machine.

The run measures each step in rounds of which the first step is a plain forward pass of the same batch
(`evaluation/method_costs.py`); a ratio is the median over the rounds.
"""

from __future__ import annotations

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.gate.limits import tolerance
from axiom_bench.statistics.run_folder import RunFolder

PREFIX = "run time"  # no metric's name has a space
NAMES = {"method": PREFIX, "trace": f"{PREFIX} of the trace", "ablation_drops": f"{PREFIX} of the ablation drops"}
FLOOR = 0.25  # forward passes: a step shorter than that is mostly the noise of its measurement


def is_run_time(metric: str) -> bool:
    """Whether a row of a baseline holds a run time."""
    return metric.startswith(PREFIX)


def rows(run: RunFolder, allowed: str) -> pd.DataFrame:
    """A row for each step with the columns of a baseline: n is the number of images in the batch, mean and median are
    the time over that of a forward pass. allowed: as "50%". Raises BenchError where the run measured none."""
    rule = f"median:{allowed}"
    try:
        tolerance(rule, PREFIX)
    except BenchError as error:
        raise BenchError(f"how far run times may move is {allowed!r}; write a share, as 50%.") from error
    steps = run.runtime[run.runtime["step"].isin(NAMES)]
    if steps.empty:
        raise BenchError(f"{run.path} has no run times; run the same command with runtime.repeats=5.")
    table = steps[["model", "layer", "data", "method"]].astype(str)
    ratio = steps["forwards"].astype(float)
    return table.assign(
        metric=steps["step"].astype(str).map(NAMES), n=steps["batch_size"].astype(int), mean=ratio, median=ratio,
        statuses="", tolerance=rule,
    )  # fmt: skip


def device(run: RunFolder) -> str:
    """The names of the devices that were timed: ratios of two kinds of devices can't be compared."""
    return ", ".join(sorted(set(map(str, run.runtime["device"])))) if "device" in run.runtime else ""
