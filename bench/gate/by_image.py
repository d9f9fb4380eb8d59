"""The values by image of a baseline: a Parquet file next to the CSV, which a paired comparison needs. Values are
float32; those of whole data sets have the image id "*" and keep the run's replicates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.gate.findings import KEY, Finding, Row
from axiom_bench.records import files, store
from axiom_bench.statistics.run_folder import RunFolder

ENDING = ".images.parquet"
HEADER = "values by image"  # the header's key
_NAME = pa.dictionary(pa.int32(), pa.string())
VALUES = [*KEY, "image_id", "target_class", "value"]
LINES = [
    *(pa.field(name, _NAME) for name in KEY),
    *(pa.field("image_id", pa.string()), pa.field("target_class", pa.int32()), pa.field("value", pa.float32())),
    pa.field("replicates", pa.list_(pa.float32())),
]


class ByImage(NamedTuple):
    """values: KEY, image_id, target_class and value, NaN unless the status was "ok". whole_sets: KEY, value and
    replicates of values of whole data sets."""

    values: pd.DataFrame
    whole_sets: pd.DataFrame

    @classmethod
    def of(cls, run: RunFolder, metrics: Collection[str] | None = None) -> ByImage:
        """Of a run, as they would come back from a file; of these metrics, None for all."""
        rows = run.records.rows(run.metrics if metrics is None else metrics)
        values = rows[[*KEY, "image_id", "target_class"]].assign(value=rows["value"].where(rows["status"] == OK))
        return cls(values, run.whole_set[[*KEY, "value", "replicates"]])


def path_of(baseline: Path) -> Path:
    """Beside my.csv lies my.images.parquet."""
    return baseline.with_name(f"{baseline.stem}{ENDING}")


def write(run: RunFolder, baseline: Path) -> str:
    """Writes the values of a run beside a baseline; what the header says of them. Raises BenchError where it can't."""
    content = ByImage.of(run)
    sides = content.values.assign(replicates=None), content.whole_sets.assign(image_id="*", target_class=None)
    frames = [side.astype(dict.fromkeys(KEY, str)) for side in sides]
    tables = [pa.Table.from_pandas(frame, pa.schema(LINES), preserve_index=False) for frame in frames]
    store.write(path_of(baseline), pa.concat_tables(tables).unify_dictionaries(), schema=None)
    return described(path_of(baseline))


def described(file: Path) -> str:
    """The file's name and the beginning of its SHA-256, which ties it to the CSV. Raises BenchError where it is
    missing."""
    if not file.is_file():  # reading a device would not end
        raise BenchError(f"there are no values by image beside the baseline: {file} is missing; restore it from git.")
    return f"{file.name}, sha256 {hashlib.sha256(files.content_of(file)).hexdigest()[:16]}"


def read(baseline: Path, expected: str | None) -> ByImage | None:
    """The values beside a baseline; None where its header names none. expected: what the header says. Raises BenchError
    for a file that is missing, another, or damaged."""
    if expected is None:
        return None
    file = path_of(baseline)
    if described(file) != expected:
        raise BenchError(
            f"the values by image in {file} aren't those of {baseline} ({expected[:100]!r}); restore both from git, or "
            "write both with --write --sampled."
        )
    frame = store.read_table(file, pa.schema(LINES)).to_pandas()
    is_whole_set = frame["image_id"] == "*"
    values, whole_sets = frame.loc[~is_whole_set, VALUES], frame.loc[is_whole_set, [*KEY, "value", "replicates"]]
    return ByImage(values.reset_index(drop=True), whole_sets.reset_index(drop=True))


FINDINGS, IMAGES, WITH_MAPS = 6, 4, 2  # of how many findings, how many images of each, and how many with maps
OF_VALUES = ("mean", "median", "values")  # what a finding is of that has values by image

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


def most_moved(
    findings: Sequence[Finding], before: ByImage, current: RunFolder, earlier: RunFolder | None
) -> Iterator[MovedImage]:
    """IMAGES of each of the FINDINGS that moved furthest beyond what was allowed, and after them those WITH_MAPS that
    moved most of the images in both galleries. earlier: the run of the baseline, for its maps."""
    of_values = [finding for finding in findings if finding.row is not None and finding.what in OF_VALUES]
    rows = [each.place for each in sorted(of_values, key=lambda finding: -finding.size)[:FINDINGS]]
    if not rows:
        return
    after, maps = ByImage.of(current, {row[-1] for row in rows}), [_maps(earlier), _maps(current)]
    for row in rows:
        both = moved_rows(rows_at(before.values, row), rows_at(after.values, row))
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


def _maps(run: RunFolder | None) -> Maps:
    """Everything in the run's gallery; empty where there is none, or none that can be read: pictures decide nothing."""
    maps: Maps = {}
    with suppress(BenchError):
        for entry in store.read_gallery(run.path, run.manifest) if run is not None else ():
            place = [entry[name] for name in ("model", "layer", "data", "image_id", "target_class")]
            for method, heatmap in zip(entry["methods"] or (), entry["maps"] or (), strict=False):
                maps[*place, method] = entry["picture"], heatmap
    return maps
