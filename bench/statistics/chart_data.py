"""What charts show of a run: groups of values for boxes, mean curves, and methods in the plane of two axiom errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.records import reading
from axiom_bench.statistics.bootstrap import NORMAL, Floats
from axiom_bench.statistics.labels import Setting, counts_text, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


class BoxGroup(NamedTuple):
    """values: (rows,) of single images with status ok, at least one, in the records' order. keys: (rows,) places in
    `Records.keys`. images: how many images these are of."""

    values: Floats
    keys: NDArray[np.int32]
    images: int


def groups_of(run: RunFolder, metric: str, methods: Collection[str]) -> dict[Setting, dict[str, BoxGroup]]:
    """The groups with values of these methods: settings in the run's order, methods in the records'."""
    records = run.records
    if metric not in records.blocks:
        return {}
    block, image = records.blocks[metric], np.asarray(records.keys["image_id"].cat.codes)
    is_chosen = np.array([name in methods for name in records.methods])
    block = block.where((block.statuses == records.ok) & is_chosen[block.methods] & ~records.of_whole_set[block.keys])
    setting = records.keys.groupby(list(Setting._fields), observed=True).ngroup().to_numpy()
    code = setting[block.keys] * len(records.methods) + block.methods
    few = len(run.settings) * len(records.methods) <= np.iinfo(np.int16).max
    order = np.argsort(code.astype(np.int16) if few else code, kind="stable")  # small numbers are sorted in linear time
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    found: dict[Setting, dict[str, BoxGroup]] = {}
    for rows in np.split(order, starts[1:]) if len(order) else ():
        place, method = divmod(int(code[rows[0]]), len(records.methods))
        keys = block.keys[rows]
        group = BoxGroup(block.values[rows], keys, int(np.count_nonzero(np.bincount(image[keys]))))
        found.setdefault(run.settings[place], {})[records.methods[method]] = group
    return found


def counts_in(groups: Iterable[BoxGroup]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups."""
    counts = [(group.images, len(group.values)) for group in groups]
    return counts_text(*zip(*counts, strict=True))


@dataclass(frozen=True)
class MeanCurve:
    """One curve of one method in one setting: the mean over `rows` rows of `images` images, and half the width of its
    95 % confidence interval at each point, by image (see `summary.summarise`). NaN for one image."""

    setting: Setting
    curve: str
    method: str
    images: int
    rows: int
    mean: Floats
    half_width: Floats


@dataclass(frozen=True)
class _Sums:
    """What files add up to, at each point (n,): sums over images of T_i, T_i^2 and T_i n_i, where T_i is the sum of an
    image's n_i rows; and sums of 1, n_i and n_i^2."""

    images: int
    rows: int
    squared_rows: int
    total: Floats
    squared: Floats
    crossed: Floats

    @classmethod
    def of(cls, image_ids: NDArray[np.object_], points: Floats) -> _Sums:
        """points: (N, n). All rows of an image are in one file."""
        _, image = np.unique(image_ids, return_inverse=True)
        count = np.bincount(image)
        totals = np.zeros((len(count), points.shape[1]))
        np.add.at(totals, image, points)
        squared_rows = int((count**2).sum())
        return cls(len(count), len(points), squared_rows, totals.sum(0), (totals**2).sum(0), count @ totals)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def mean_and_error(self) -> tuple[Floats, Floats]:
        """The mean over rows and its standard error by image, (n,) each; see `summary.summarise` for the formula."""
        mean = self.total / self.rows
        squares = np.clip(self.squared - 2 * mean * self.crossed + mean**2 * self.squared_rows, 0, None)
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean, np.sqrt(np.float64(self.images) / (self.images - 1) * squares) / self.rows


def mean_curves(run: RunFolder, names: Iterable[str]) -> list[MeanCurve]:
    """The curves of these names, in the order of the run's settings and methods; only rows with status "ok" count.

    Raises BenchError for a file that can't be read.
    """
    wanted = list(names)
    parts: dict[tuple[Setting, str, str], list[_Sums]] = defaultdict(list)
    for part in reading.read_curves(run.path, run.manifest, wanted) if wanted else ():
        for method, curve, image_ids, points in _groups(part.table):
            parts[Setting(part.model, part.layer, part.data), curve, method].append(_Sums.of(image_ids, points))
    methods = {name: place for place, name in enumerate(run.manifest.get("methods") or ())}
    settings = {setting: place for place, setting in enumerate(run.settings)}
    curves = []
    for key in sorted(
        parts,
        key=lambda key: (settings.get(key[0], len(settings)), wanted.index(key[1]), methods.get(key[2], len(methods))),
    ):
        first, *others = parts[key]
        sums = sum(others, start=first)
        mean, error = sums.mean_and_error()
        curves.append(MeanCurve(*key, sums.images, sums.rows, mean, NORMAL * error))
    return curves


def _groups(table: pa.Table) -> Iterator[tuple[str, str, NDArray[np.object_], Floats]]:
    """Method, curve, image ids (N,) and points (N, n) of the rows with status "ok"."""
    names = table.select(["method", "curve"]).cast(pa.schema([("method", pa.string()), ("curve", pa.string())]))
    is_ok = arrow.equal(table["status"].cast(pa.string()), OK)
    for method, curve in pd.MultiIndex.from_frame(names.filter(is_ok).to_pandas()).unique():
        mask = arrow.and_(arrow.equal(names["method"], method), arrow.equal(names["curve"], curve))
        rows = table.filter(arrow.and_(mask, is_ok))
        points = rows["points"].combine_chunks()
        yield method, curve, rows["image_id"].to_numpy(), np.asarray(points.flatten()).reshape(len(rows), -1)


ROW = ["image_id", "target_class"]


class Plane(NamedTuple):
    """points: method -> (mean x, mean y), over the rows where every drawn method has both values. images: how many
    images these `rows` are of; all_rows: rows of the setting."""

    points: pd.DataFrame
    floor: tuple[Floats, Floats] | None
    images: int
    rows: int
    all_rows: int


def axiom_plane(run: RunFolder, setting: Setting, errors: Sequence[str], floor: Sequence[str]) -> Plane | None:
    """The methods on the score's scale by two errors; None where no row has both of every such method.

    errors: the metrics of the axes x and y; without any there is no plane. floor: the metrics of the floor's two
    coordinates, of the same rows; a plane has no floor where a row has none, or none is chosen.
    """
    if not errors:
        return None
    x, y = errors
    rows = rows_at(run.records.rows([x, y, *floor]), setting)
    rows = rows[rows["status"] == OK].astype({"image_id": str})  # pandas can't look up categories in a pair of columns
    on_scale = [name for name in rows["method"].cat.categories if run.metadata.method(name).get("on_score_scale")]
    values = rows[rows["metric"].isin([x, y]) & rows["method"].isin(on_scale)]
    table = values.pivot_table(index=ROW, columns=["method", "metric"], values="value", observed=True)
    both = [name for name in on_scale if (name, x) in table.columns and (name, y) in table.columns]
    table = table[[(name, metric) for name in both for metric in (x, y)]].dropna()
    if table.empty:
        return None
    free = rows[(rows["method"] == METHOD_FREE) & rows["metric"].isin(floor)]
    gaps = free.pivot_table(index=ROW, columns="metric", values="value", observed=True).reindex(table.index).dropna()
    corners = None
    if floor and len(gaps) == len(table) and set(floor) <= set(gaps.columns):
        corners = floor_of_means(*(gaps[name].to_numpy(float) for name in floor))
    means = table.mean().unstack().loc[both, [x, y]]
    images = table.index.get_level_values("image_id").nunique()
    all_rows = run.layouts[setting].images
    return Plane(means, corners, images, len(table), len(all_rows))


def floor_of_means(s0: Floats, c0: Floats) -> tuple[Floats, Floats]:
    """The corners (sensitivity, conservation), each (n + 1,), of the lowest means that n images can reach together.

    From (0, mean c0), where every image has its whole gap in conservation, an image that moves its gap to sensitivity
    adds the step (s0_i, -c0_i) / n; the steepest go first, and no step at all last. s0, c0: (n,), at least 0, both 0
    for an image without a gap.
    """
    slope = np.divide(c0, s0, out=np.where(c0 > 0, np.inf, 0.0), where=s0 > 0)  # sum |d_k| / |S|
    steepest = np.argsort(-slope, kind="stable")
    n = len(s0)
    sensitivity = np.concatenate([[0.0], np.cumsum(s0[steepest]) / n])
    conservation = c0.mean() - np.concatenate([[0.0], np.cumsum(c0[steepest]) / n])
    return sensitivity, conservation.clip(min=0)  # the last corner is 0 but for rounding
