"""The images of a run whose values moved most, with their maps before and after."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.gate.findings import KEY, Finding, Row
from axiom_bench.records import store
from axiom_bench.statistics.run_folder import RunFolder


def values_of(run: RunFolder, metrics: Collection[str]) -> pd.DataFrame:
    """Return KEY, image_id, target_class and value of these metrics, NaN unless the status is "ok"."""
    rows = run.records.rows(metrics)
    return rows[[*KEY, "image_id", "target_class"]].assign(value=rows["value"].where(rows["status"] == OK))


FINDINGS, IMAGES, WITH_MAPS = 6, 4, 2  # of how many findings, how many images of each, and how many with maps
OF_VALUES = ("mean", "median")  # what a finding is of that has values by image

# {(model, layer, data, image id, class, method): (picture, map)}
Maps = dict[tuple[str | int, ...], tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class MovedImage:
    """One image of one row. before, after: its value, NaN without one. picture, map_before, map_after: WebP as the run
    stored them (`records.store`), None where a run has none."""

    row: Row
    image_id: str
    target_class: int
    before: float
    after: float
    picture: bytes | None = None
    map_before: bytes | None = None
    map_after: bytes | None = None


def most_moved(findings: Sequence[Finding], earlier: RunFolder, current: RunFolder) -> Iterator[MovedImage]:
    """Yield the images that moved most: IMAGES of each of the FINDINGS that moved furthest beyond what was allowed, and
    WITH_MAPS of those in both galleries. earlier: the run of the baseline."""
    of_values = [finding for finding in findings if finding.row is not None and finding.what in OF_VALUES]
    rows = [each.place for each in sorted(of_values, key=lambda finding: -finding.size)[:FINDINGS]]
    if not rows:
        return
    metrics = {row[-1] for row in rows}
    before, after = (values_of(run, metrics) for run in (earlier, current))
    maps = [_maps(earlier), _maps(current)]
    for row in rows:
        both = moved_rows(rows_at(before, row), rows_at(after, row))
        furthest = both[both["moved"] > 0].sort_values("moved", ascending=False, kind="stable")  # first one-sided ones
        columns = (furthest[name].tolist() for name in ("image_id", "target_class", "value", "value_now"))
        with_maps = 0
        for place, (image, target, a, b) in enumerate(zip(*columns, strict=True)):
            old, new = (side.get((*row[:3], image, int(target), row[3])) for side in maps)
            has_maps = old is not None and new is not None
            if place < IMAGES or (has_maps and with_maps < WITH_MAPS):
                picture = (new or old or (None,))[0]
                yield MovedImage(row, image, int(target), a, b, picture, old and old[1], new and new[1])
                with_maps += has_maps


def moved_rows(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The rows of images that both sides have, with what the other side has as value_now, status_now; and how far each
    value moved, infinite where one side alone has a value."""
    on = [*KEY, "image_id", "target_class"]
    text = dict.fromkeys([*KEY, "image_id"], str)
    both = before.astype(text).merge(after.astype(text), on=on, suffixes=("", "_now"))
    a, b = (both[name].to_numpy(np.float64) for name in ("value", "value_now"))
    moved = np.where(a == b, 0.0, np.nan_to_num(np.abs(a - b)))  # equal infinities don't differ
    return both.assign(moved=np.where(np.isfinite(a) != np.isfinite(b), math.inf, moved))


def rows_at(rows: pd.DataFrame, names: Row) -> pd.DataFrame:
    """The rows that have these names in the first columns of KEY."""
    has_names = [rows[column].astype(str) == name for column, name in zip(KEY, names, strict=False)]
    return rows[np.logical_and.reduce(has_names)]


def _maps(run: RunFolder) -> Maps:
    """Everything in the run's gallery; empty where there is none, or none that can be read: pictures decide nothing."""
    maps: Maps = {}
    with suppress(BenchError):
        for entry in store.read_gallery(run.path, run.manifest):
            place = [entry[name] for name in ("model", "layer", "data", "image_id", "target_class")]
            for method, heatmap in zip(entry["methods"] or (), entry["maps"] or (), strict=False):
                maps[*place, method] = entry["picture"], heatmap
    return maps
