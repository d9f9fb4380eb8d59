"""The curves of a run, as one mean with its standard error per method: read file by file, since there may be many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as arrow
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.report.run_folder import RunFolder, Setting

Points = NDArray[np.float64]
NORMAL_95 = 1.959964  # standard errors to either side of a mean


@dataclass(frozen=True)
class MeanCurve:
    """One curve of one method in one setting: the mean over `count` images, and half its 95 % confidence interval."""

    setting: Setting
    curve: str
    method: str
    count: int
    mean: Points
    half_width: Points


def mean_curves(run: RunFolder, names: Iterable[str]) -> list[MeanCurve]:
    """The curves of these names, in the order of the run's settings and methods; only rows with status "ok" count.

    Raises BenchError for a file that can't be read.
    """
    sums: dict[tuple[Setting, str, str], list[Points]] = defaultdict(list)
    wanted = list(names)
    for part in reading.read_curves(run.path, run.manifest, wanted):
        for method, curve, points in _groups(part.table, wanted):
            sums[Setting(part.model, part.layer, part.data), curve, method].append(_moments(points))
    added = {key: np.sum(parts, axis=0) for key, parts in sums.items()}
    places = {name: place for place, name in enumerate(wanted)}
    methods = {name: place for place, name in enumerate(run.manifest.get("methods") or ())}
    order = sorted(
        added, key=lambda key: (run.settings.index(key[0]), places[key[1]], methods.get(key[2], len(methods)))
    )
    return [_mean(key, added[key]) for key in order]


def _groups(table: pa.Table, names: list[str]) -> Iterable[tuple[str, str, Points]]:
    """Method, curve and the points (N, n) of all its images."""
    known = table.filter(arrow.equal(table["status"].cast(pa.string()), OK))
    for curve in names:
        rows = known.filter(arrow.equal(known["curve"].cast(pa.string()), curve))
        for method in arrow.unique(rows["method"].cast(pa.string())).to_pylist():
            own = rows.filter(arrow.equal(rows["method"].cast(pa.string()), method))["points"].combine_chunks()
            yield method, curve, np.asarray(own.flatten()).reshape(len(own), -1)


def _moments(points: Points) -> Points:
    """Count, sum and sum of squares at each point: (3, n), so that files add up."""
    return np.stack([np.full(points.shape[1], len(points)), points.sum(0), (points**2).sum(0)])


def _mean(key: tuple[Setting, str, str], moments: Mapping[int, Any] | Points) -> MeanCurve:
    count, total, squares = np.asarray(moments)
    mean = total / count
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.clip(squares - count * mean**2, 0, None) / (count - 1) / count)
    setting, curve, method = key
    return MeanCurve(setting, curve, method, int(count[0]), mean, NORMAL_95 * spread)
