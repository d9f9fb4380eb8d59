"""Do two metrics put the methods in one order? Kendall's tau of every two metrics, with an interval over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from axiom_bench.judging.values import Counts, ImageValues, centres, drawn, signs
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats
from axiom_bench.statistics.coinciding import coinciding

MIN_METHODS = 4  # of fewer, every order is likely by chance
COLUMNS = ("row", "column", "tau", "low", "high", "methods")
CHUNK = 2**22  # of pairs' signs at a time


def disagreement(metrics: Sequence[ImageValues]) -> pd.DataFrame:
    """COLUMNS, a row for every two metrics with MIN_METHODS methods in common that aren't all tied; row: the later.

    metrics: of the same images; one without a direction is left out. Methods are in the order of their mean or median
    over the images where all methods of the metric have values, and those that coincide in all metrics count once. tau
    is 1 where two metrics rank them alike, by what each calls better.
    """
    metrics = [values for values in metrics if values.sign and values.methods]
    names = _distinct(metrics) if metrics else []
    metrics = [values.of([name for name in values.methods if name in names]) for values in metrics]
    if len(metrics) < 2 or len(names) < MIN_METHODS:
        return pd.DataFrame(columns=list(COLUMNS))
    images = len(metrics[0].values)
    has = np.array([[name in values.methods for name in names] for values in metrics])
    tau = _taus(metrics, names, np.ones((1, images), dtype=np.uint8))[0]
    low, high = np.full((2, *tau.shape), np.nan)
    if images >= FEWEST_IMAGES:
        low, high = _interval(_taus(metrics, names, drawn(images)))
    shared = has.astype(int) @ has.T.astype(int)
    rows = [
        (metrics[later].metric, metrics[first].metric, tau[later, first], low[later, first], high[later, first], count)
        for first in range(len(metrics))
        for later in range(first + 1, len(metrics))
        if (count := int(shared[later, first])) >= MIN_METHODS and np.isfinite(tau[later, first])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _distinct(metrics: Sequence[ImageValues]) -> list[str]:
    """All methods; of those that coincide in all metrics the first alone."""
    names = list(dict.fromkeys(name for values in metrics for name in values.methods))
    table = np.full((len(metrics), len(metrics[0].values), len(names)), np.nan)
    for place, values in enumerate(metrics):
        table[place][:, [names.index(name) for name in values.methods]] = values.values
    return [group[0] for group in coinciding(table.reshape(-1, len(names)), names)]


def _interval(resampled: Floats) -> Floats:
    """(2, metrics, metrics): the percentile interval over the resamples that have a tau; NaN where none has."""
    in_order = np.sort(resampled, axis=0)  # NaN last
    last = np.isfinite(in_order).sum(axis=0, keepdims=True) - 1
    places = [np.clip(np.rint(share * last).astype(np.int64), 0, None) for share in (TAIL, 1 - TAIL)]
    return np.concatenate([np.take_along_axis(in_order, place, axis=0) for place in places])


def _taus(metrics: Sequence[ImageValues], names: Sequence[str], weights: Counts) -> Floats:
    """(samples, metrics, metrics)"""
    found = np.full((len(weights), len(metrics), len(names)), np.nan)
    for place, values in enumerate(metrics):
        columns = [names.index(name) for name in values.methods]
        found[:, place, columns] = values.sign * centres(values.common().values, weights, values.lead)
    step = max(1, CHUNK // (len(metrics) * len(names) ** 2))
    return np.concatenate([_tau_matrix(found[start : start + step]) for start in range(0, len(found), step)])


def _tau_matrix(found: Floats) -> Floats:
    """(samples, metrics, methods) -> (samples, metrics, metrics): tau-b over the methods that both metrics have."""
    sign = signs(found)
    first, second = np.triu_indices(found.shape[-1], 1)
    has = (np.isfinite(found[..., first]) & np.isfinite(found[..., second])).astype(np.float32)
    # Sums of signs are exact in float32. untied: of the row's metric, among the pairs that the column's has too.
    untied, both = (
        (first @ second.transpose(0, 2, 1)).astype(float) for first, second in ((abs(sign), has), (sign, sign))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(both / np.sqrt(untied * untied.transpose(0, 2, 1)))
