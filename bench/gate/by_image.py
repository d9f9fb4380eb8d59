"""The images of a run whose values moved most, with their maps before and after."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.gate.compare import BY_IMAGE, NOW, Place, Rules, SameBits, compare, distance
from axiom_bench.gate.findings import Finding
from axiom_bench.records import store
from axiom_bench.statistics.run_folder import RunFolder

FINDINGS, IMAGES, WITH_MAPS = (
    6,
    4,
    2,
)  # of how many findings, how many images of each, and how many with maps
SAME = Rules(BY_IMAGE, lambda _: [SameBits("value")])
OF_VALUES = ("mean", "median")  # what a finding is of that has values by image

# {(model, layer, data, image id, class, method): (picture, map)}
Maps = dict[tuple[str | int, ...], tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class MovedImage:
    """One image of one row. before, after: its value, NaN without one. picture, map_before,
    map_after: WebP as the run stored them (`records.store`), None where a run has none.
    """

    row: Place
    image_id: str
    target_class: int
    before: float
    after: float
    picture: bytes | None = None
    map_before: bytes | None = None
    map_after: bytes | None = None


def most_moved(
    findings: Sequence[Finding], earlier: RunFolder, current: RunFolder
) -> Iterator[MovedImage]:
    """Yield the images that moved most: IMAGES of each of the FINDINGS that moved furthest beyond
    what was allowed, and WITH_MAPS of those in both galleries. earlier: the run of the baseline.
    """
    of_values = [
        finding for finding in findings if finding.row is not None and finding.what in OF_VALUES
    ]
    rows = [each.place for each in sorted(of_values, key=lambda finding: -finding.size)[:FINDINGS]]
    if not rows:
        return
    before, after = (_values(run, {row[-1] for row in rows}) for run in (earlier, current))
    differences = {difference.place: difference.rows for difference in compare(before, after, SAME)}
    maps = [_maps(earlier), _maps(current)]
    for row in (row for row in rows if row in differences):
        images = differences[row].assign(moved=distance(differences[row]))
        furthest = images[images["moved"] > 0].sort_values(
            "moved", ascending=False, kind="stable"
        )  # one-sided ones first
        columns = (
            furthest[name].tolist() for name in ("image_id", "target_class", "value", "value" + NOW)
        )
        with_maps = 0
        for place, (image, target, a, b) in enumerate(zip(*columns, strict=True)):
            old, new = (side.get((*row[:3], image, int(target), row[3])) for side in maps)
            has_maps = old is not None and new is not None
            if place < IMAGES or (has_maps and with_maps < WITH_MAPS):
                picture = (new or old or (None,))[0]
                yield MovedImage(
                    row, image, int(target), a, b, picture, old and old[1], new and new[1]
                )
                with_maps += has_maps


def _values(run: RunFolder, metrics: Collection[str]) -> pd.DataFrame:
    """Return BY_IMAGE and value of these metrics, NaN unless the status is "ok"."""
    rows = run.records.rows(metrics)
    return rows[[*BY_IMAGE]].assign(value=rows["value"].where(rows["status"] == OK))


def _maps(run: RunFolder) -> Maps:
    """Everything in the run's gallery; empty where there is none, or none that can be read:
    pictures decide nothing.
    """
    maps: Maps = {}
    with suppress(BenchError):
        for entry in store.read_gallery(run.path, run.manifest):
            place = [entry[name] for name in ("model", "layer", "data", "image_id", "target_class")]
            for method, heatmap in zip(entry["methods"] or (), entry["maps"] or (), strict=False):
                maps[*place, method] = entry["picture"], heatmap
    return maps
