"""The curves of a run, as one mean with its standard error per method: read file by file, since there may be many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as arrow
import pyarrow.parquet as pq
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
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
    for file in run.manifest.get("curves") or [] if wanted else []:
        setting, table = _read(run.path, file)
        for method, curve, points in _groups(table, wanted):
            sums[setting, curve, method].append(_moments(points))
    added = {key: np.sum(parts, axis=0) for key, parts in sums.items()}
    places = {name: place for place, name in enumerate(wanted)}
    methods = {name: place for place, name in enumerate(run.manifest.get("methods") or ())}
    order = sorted(
        added, key=lambda key: (run.settings.index(key[0]), places[key[1]], methods.get(key[2], len(methods)))
    )
    return [_mean(key, added[key]) for key in order]


def place_of(folder: Path, file: str) -> tuple[Setting, str]:
    """The setting and the method of a file of curves: those of the records of the same name; empty where it has none.

    Raises BenchError where these can't be read.
    """
    records = folder / file.replace("curves/", "records/", 1)
    try:
        first = pq.read_table(records, columns=[*Setting._fields, "method"]).slice(0, 1).to_pylist()
    except (OSError, ValueError) as error:
        raise BenchError(f"The records {records} can't be read ({error}); delete them and run again.") from error
    method = str(first[0].pop("method")) if first else ""
    return Setting(**first[0]) if first else Setting("", "", ""), method


def _read(folder: Path, file: str) -> tuple[Setting, pa.Table]:
    """A file of curves and its setting."""
    try:
        table = pq.read_table(folder / file, columns=["method", "curve", "points", "status"])
    except (OSError, ValueError) as error:
        raise BenchError(f"The curves {folder / file} can't be read ({error}); delete them and run again.") from error
    return place_of(folder, file)[0], table


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
