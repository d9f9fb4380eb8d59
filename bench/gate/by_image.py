"""Find the images of a run whose values moved most, with their maps before and after.

The gate's page shows them, so that a reviewer sees what moved a mean.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.gate.compare import (
    AFTER_SUFFIX,
    IMAGE_KEY,
    Place,
    Rules,
    SameBits,
    compare,
    distance,
)
from axiom_bench.gate.findings import Finding
from axiom_bench.records import store
from axiom_bench.statistics.run_folder import RunFolder

FINDINGS = 6  # the number of findings whose images are shown
IMAGES = 4  # the number of images per finding
WITH_MAPS = 2  # the number of images with maps per finding
SAME = Rules(IMAGE_KEY, lambda _: [SameBits("value")])
VALUE_STATISTICS = ("mean", "median")  # the statistics of findings that have values by image

# (model, layer, data, image id, class, method) -> (picture, map)
Maps = dict[tuple[str | int, ...], tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class MovedImage:
    """One image of one row. Pictures are WebP as the run stored them (`records.store`)."""

    row: Place
    image_id: str
    target_class: int
    before: float  # the value in the baseline's run; NaN if there is none
    after: float  # the value in the run; NaN if there is none
    picture: bytes | None = None
    map_before: bytes | None = None
    map_after: bytes | None = None


def most_moved_images(
    findings: Sequence[Finding], earlier: RunFolder, current: RunFolder
) -> Iterator[MovedImage]:
    """Yield the images that moved most.

    They are IMAGES images of each of the FINDINGS findings that moved furthest beyond their limits,
    and at least WITH_MAPS of those that both galleries contain.

    Args:
        findings: The findings of the comparison.
        earlier: The run of the baseline.
        current: The run that is compared with it.

    Yields:
        The images, by finding, the furthest first.
    """
    value_findings = [
        finding
        for finding in findings
        if finding.row is not None and finding.what in VALUE_STATISTICS
    ]
    value_findings.sort(key=lambda finding: -finding.size)
    rows = [finding.place for finding in value_findings[:FINDINGS]]
    if not rows:
        return
    metrics = {row[-1] for row in rows}
    before = _values(earlier, metrics)
    after = _values(current, metrics)
    differences = {difference.place: difference.rows for difference in compare(before, after, SAME)}
    earlier_maps = _maps(earlier)
    current_maps = _maps(current)
    for row in rows:
        if row not in differences:
            continue
        images = differences[row].assign(moved=distance(differences[row]))
        # Images with a value on only one side have moved infinitely far and come first.
        furthest = images[images["moved"] > 0].sort_values("moved", ascending=False, kind="stable")
        values = furthest[["image_id", "target_class", "value", "value" + AFTER_SUFFIX]]
        model, layer, data, method, _ = row
        number_with_maps = 0
        for rank, (image, target, value_before, value_after) in enumerate(
            zip(*(values[name].tolist() for name in values), strict=True)
        ):
            key = (model, layer, data, image, int(target), method)
            old = earlier_maps.get(key)
            new = current_maps.get(key)
            has_maps = old is not None and new is not None
            if rank < IMAGES or (has_maps and number_with_maps < WITH_MAPS):
                yield MovedImage(
                    row=row,
                    image_id=image,
                    target_class=int(target),
                    before=value_before,
                    after=value_after,
                    picture=(new or old or (None,))[0],
                    map_before=old and old[1],
                    map_after=new and new[1],
                )
                number_with_maps += has_maps


def _values(run: RunFolder, metrics: Collection[str]) -> pd.DataFrame:
    """Return the values of these metrics by image, NaN unless the status is "ok"."""
    rows = run.records.rows(metrics)
    return rows[[*IMAGE_KEY]].assign(value=rows["value"].where(rows["status"] == OK))


def _maps(run: RunFolder) -> Maps:
    """Return the pictures and maps of the run's gallery."""
    maps: Maps = {}
    # Pictures decide nothing, so a gallery that is missing or can't be read counts as empty.
    with suppress(BenchError):
        for entry in store.read_gallery(run.path, run.manifest):
            place = [entry[name] for name in ("model", "layer", "data", "image_id", "target_class")]
            for method, heatmap in zip(entry["methods"] or (), entry["maps"] or (), strict=False):
                maps[*place, method] = (entry["picture"], heatmap)
    return maps
