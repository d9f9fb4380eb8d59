"""What the records say about one image under each method: the value, and the method's rank on this image."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple, cast

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.text import CONSTRUCTED
from axiom_bench.statistics.metadata import Setting, Value, rows_at
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


class Measured(NamedTuple):
    """A value of one image and method. text: as people read it, or the status in words where there is no value. rank:
    among the image's methods, 1 is best; None without a value, and where the method's own formula makes the value 0."""

    value: float | None
    text: str
    rank: int | None


Image = tuple[str, int]  # image id and explained class


def shown_metrics(run: RunFolder) -> tuple[Value, ...]:
    """The metrics of the headline and of the overview table that say which map is better, for single images."""
    present = run.records.measured(METHOD_FREE)
    names = dict.fromkeys((*options_of(run).headline, *options_of(run).columns))
    values = (run.metadata.value(name) for name in names if name in present)
    return tuple(value for value in values if value.has_direction)


def measured(
    run: RunFolder, setting: Setting, metrics: Collection[Value], image_ids: Collection[str]
) -> dict[Image, dict[str, dict[str, Measured]]]:
    """{image: {metric: {method: Measured}}} of some images of one setting."""
    shown = run.records.where(run.records.keys["image_id"].isin(list(image_ids)).to_numpy())
    rows = rows_at(shown.frame(value.name for value in metrics), setting)
    rows = rows[rows["method"] != METHOD_FREE]
    directions = {value.name: value.better for value in metrics}
    result: dict[Image, dict[str, dict[str, Measured]]] = {}
    columns = ("image_id", "target_class", "metric", "method", "value", "status")
    plain = pd.DataFrame({name: rows[name].astype(object) for name in columns})
    for key, own in plain.groupby(["image_id", "target_class", "metric"], sort=False):
        image_id, target, metric = cast(tuple[str, int, str], key)
        values = dict(zip(own["method"], own["value"].where(own["status"] == OK), strict=True))
        statuses = dict(zip(own["method"], own["status"], strict=True))
        constructed = run.metadata.by_construction(metric)
        ranks = ranked({name: value for name, value in values.items() if name not in constructed}, directions[metric])
        result.setdefault((image_id, target), {})[metric] = {
            method: _measured(values[method], statuses[method], ranks.get(method), method in constructed)
            for method in values
        }
    return result


def _measured(value: float, status: str, rank: int | None, is_constructed: bool) -> Measured:
    if not math.isfinite(value):
        return Measured(None, status.replace("_", " "), None)
    return Measured(float(f"{value:.6g}"), number(value) + CONSTRUCTED * is_constructed, rank)


def ranked(values: Mapping[str, float], better: str) -> dict[str, int]:
    """{method: 1 + how many methods are better}, for those with a finite value. Values that print the same tie: three
    digits, and float32's rounding. better: "lower" or "higher".

    >>> ranked({"a": 0.5, "b": 0.1, "c": 0.50001, "d": float("nan")}, "lower")
    {'a': 2, 'b': 1, 'c': 2}
    """
    sign = 1 if better == "lower" else -1
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    texts = {name: number(value) for name, value in finite.items()}
    return {
        name: 1 + sum(sign * other < sign * value and texts[peer] != texts[name] for peer, other in finite.items())
        for name, value in finite.items()
    }
