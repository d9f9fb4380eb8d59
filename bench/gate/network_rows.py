"""Rows of a baseline that are of no metric: the network's accuracy and run times.

Run times are ratios to one forward pass of the same job, never seconds, which belong to a machine. The run measures
each step in rounds of which the first step is a plain forward pass of the same batch (`evaluation/method_costs.py`); a
ratio is the median over the rounds.
"""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.errors import BenchError
from axiom_bench.gate.limits import tolerance
from axiom_bench.statistics.run_folder import RunFolder

ACCURACY, PREFIX = "network accuracy", "run time"  # no metric's name has a space
PLACE = ["model", "layer", "data"]
STEPS = {"method": PREFIX, "trace": f"{PREFIX} of the trace", "ablation_drops": f"{PREFIX} of the ablation drops"}
FLOOR = 0.25  # forward passes: a step shorter than that is mostly the noise of its measurement


def is_run_time(metric: str) -> bool:
    """Whether a row of a baseline holds a run time."""
    return metric.startswith(PREFIX)


def run_times(run: RunFolder, allowed: str) -> pd.DataFrame:
    """A row for each step with the columns of a baseline: n is the number of images in the batch, mean and median are
    the time over that of a forward pass. allowed: as "50%". Raises BenchError where the run measured none."""
    rule = f"median:{allowed}"
    try:
        tolerance(rule, PREFIX)
    except BenchError as error:
        raise BenchError(f"how far run times may move is {allowed!r}; write a share, as 50%.") from error
    steps = run.runtime[run.runtime["step"].isin(STEPS)]
    if steps.empty:
        raise BenchError(f"{run.path} has no run times; run the same command with runtime.repeats=5.")
    table = steps[[*PLACE, "method"]].astype(str)
    ratio = steps["forwards"].astype(float)
    return table.assign(
        metric=steps["step"].astype(str).map(STEPS), n=steps["batch_size"].astype(int), mean=ratio, median=ratio,
        statuses="", tolerance=rule,
    )  # fmt: skip


def timed_device(run: RunFolder) -> str:
    """The names of the devices that were timed: ratios of two kinds of devices can't be compared."""
    return ", ".join(sorted(set(map(str, run.runtime["device"])))) if "device" in run.runtime else ""


def accuracies(run: RunFolder) -> pd.DataFrame:
    """A row for each model, layer and data set with the columns of a baseline, over the images whose classes are known.

    The records have the predicted class of each row, by which a report tells correct rows from wrong ones; where it
    changes, no metric's value does. With target=predicted it is 1: the predicted class is the explained one.
    """
    columns = [*PLACE, "image_id", "target_class", "predicted_class"]
    explained = run.records.of_images[columns].drop_duplicates()
    target, predicted = explained["target_class"], explained["predicted_class"]
    known = explained.assign(correct=target == predicted)[(target > UNKNOWN_CLASS) & (predicted > UNKNOWN_CLASS)]
    images = known.groupby([*PLACE, "image_id"], observed=True)["correct"].any().astype(float).reset_index()
    table = images.groupby(PLACE, observed=True)["correct"].agg(n="count", mean="mean", median="median").reset_index()
    return table.astype(dict.fromkeys(PLACE, str)).assign(
        method=LAYER, metric=ACCURACY, statuses="", tolerance="mean:0.005"
    )
