"""The images that moved most: of the largest findings, their values and their maps before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.gate.by_image import ByImage
from axiom_bench.gate.findings import KEY, Finding, Row
from axiom_bench.records import gallery
from axiom_bench.statistics.run_folder import RunFolder

FINDINGS, IMAGES, WITH_MAPS = 6, 4, 2  # of how many findings, how many images of each, and how many with maps
OF_VALUES = ("mean", "median", "values")  # what a finding is of that has values by image

# {(model, layer, data, image id, class, method): (picture, map)}
Maps = Mapping[tuple[str, str, str, str, int, str], tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class MovedImage:
    """One image of one row. before, after: its value, NaN without one. picture, map_before, map_after: WebP as the run
    stored them (`records.gallery`), None where a run has none."""

    row: Row
    image_id: str
    target_class: int
    before: float
    after: float
    picture: bytes | None = None
    map_before: bytes | None = None
    map_after: bytes | None = None


def most_moved(
    findings: Sequence[Finding], before: ByImage, current: RunFolder, earlier: RunFolder | None
) -> Iterator[MovedImage]:
    """IMAGES of each of the FINDINGS that moved furthest beyond what was allowed. earlier: the run of the baseline, for
    its maps."""
    of_values = [finding for finding in findings if finding.row is not None and finding.what in OF_VALUES]
    chosen = sorted(of_values, key=lambda finding: -finding.size)[:FINDINGS]
    if not chosen:
        return
    after = ByImage.of(current, {finding.row[-1] for finding in chosen if finding.row is not None})
    maps = (_maps(earlier), _maps(current))
    for finding in chosen:
        assert finding.row is not None
        yield from _of_finding(finding.row, before.values, after.values, maps)


def _of_finding(row: Row, before: pd.DataFrame, after: pd.DataFrame, maps: Sequence[Maps]) -> Iterator[MovedImage]:
    """The IMAGES that moved most, and after them those WITH_MAPS that moved most of the images in both galleries."""
    with_maps = 0
    for place, (image, target, a, b) in enumerate(_differing(before, after, row)):
        old, new = (side.get((row[0], row[1], row[2], image, target, row[3])) for side in maps)
        has_maps = old is not None and new is not None
        if place < IMAGES or (has_maps and with_maps < WITH_MAPS):
            picture = new[0] if new else old[0] if old else None
            yield MovedImage(row, image, target, a, b, picture, old[1] if old else None, new[1] if new else None)
            with_maps += has_maps


def _differing(before: pd.DataFrame, after: pd.DataFrame, row: Row) -> Iterable[tuple[str, int, float, float]]:
    """(image id, class, before, after) of the images whose values differ, the furthest first; before them those that
    have a value on one side alone."""
    both = _of_row(before, row).merge(_of_row(after, row), on=["image_id", "target_class"], suffixes=("_a", "_b"))
    a, b = both["value_a"].to_numpy(float), both["value_b"].to_numpy(float)
    is_one_sided = np.isfinite(a) != np.isfinite(b)
    movement = np.where(is_one_sided, math.inf, np.nan_to_num(np.abs(a - b)))
    ids, classes = both["image_id"].tolist(), both["target_class"].tolist()
    order = [place for place in np.argsort(-movement, kind="stable") if movement[place] > 0]
    return [(str(ids[place]), int(classes[place]), float(a[place]), float(b[place])) for place in order]


def _of_row(values: pd.DataFrame, row: Row) -> pd.DataFrame:
    is_there = np.logical_and.reduce([values[name].astype(str) == value for name, value in zip(KEY, row, strict=True)])
    return values.loc[is_there, ["image_id", "target_class", "value"]]


def _maps(run: RunFolder | None) -> Maps:
    """Everything in the run's gallery; empty where there is none, or none that can be read: pictures decide nothing."""
    if run is None:
        return {}
    try:
        return {place: maps for entry in gallery.read(run.path, run.manifest) for place, maps in _of_entry(entry)}
    except BenchError:
        return {}


def _of_entry(entry: Mapping[str, Any]) -> Iterator[tuple[Any, tuple[bytes | None, bytes | None]]]:
    place = (entry["model"], entry["layer"], entry["data"], entry["image_id"], entry["target_class"])
    for method, heatmap in zip(entry["methods"] or (), entry["maps"] or (), strict=False):
        yield (*place, method), (entry["picture"], heatmap)
