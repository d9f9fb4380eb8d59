"""All records of a run in memory, metric by metric: 16 bytes a row, where a table of the rows takes
over 100. What rows have in common, the image with its classes, stands once in a table of keys;
names are codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from axiom_bench.columns import OBJECT, OK, RECORD_COLUMNS, WHOLE_SET

JOB = ("experiment", "model", "layer", "data")
KEY = (*JOB, "image_id", "target_class", "predicted_class")
_NAMED = (*JOB, "image_id", "method", "metric", "status")  # columns of names
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one metric, in the records' order: places in `Records.keys`, `.methods` and
    `.statuses`.
    """

    keys: NDArray[np.int32]
    methods: NDArray[np.int16]
    values: NDArray[np.float64]
    statuses: NDArray[np.int16]

    def where(self, chosen: NDArray[Any] | slice) -> Block:
        """These rows alone: by a mask, or by their places."""
        return Block(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Records:
    """keys: the columns KEY, a row for each image and explained class of a place, in the order in
    which they come first; names are categories, of image ids in the order of their letters.
    first_ok: of each key the place, among all rows, of the first with status ok; -1 where none has.
    blocks: {metric: its rows}. methods, statuses: names by code.
    """

    keys: pd.DataFrame
    first_ok: Integers
    blocks: Mapping[str, Block]
    methods: tuple[str, ...]
    statuses: tuple[str, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Records:
        """Of a table with the columns of records. Categories keep their order, other names have
        that of their letters; a column that the table lacks is empty, or -1.
        """
        columns: dict[str, Any] = {"value": frame["value"].to_numpy(dtype=np.float64)}
        for name in KEY[-2:]:
            columns[name] = pa.array(
                frame[name] if name in frame else [-1] * len(frame), pa.int32()
            )
        for name in _NAMED:
            names = frame[name] if name in frame else pd.Series("", frame.index)
            columns[name] = pa.array(names.astype("category"))
        builder = Builder()
        builder.add(pa.table(columns))
        return builder.records()

    def __len__(self) -> int:
        return sum(len(block.keys) for block in self.blocks.values())

    @property
    def empty(self) -> bool:
        """Whether there is no row."""
        return not len(self)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All names of values, in order."""
        return tuple(self.blocks)

    @cached_property
    def ok(self) -> int:
        """The code of the status ok; -1 where no row has it."""
        return self.statuses.index(OK) if OK in self.statuses else -1

    @cached_property
    def of_whole_set(self) -> NDArray[np.bool_]:
        """(keys,) whether a key is of values of a whole data set."""
        return np.asarray(self.keys["image_id"] == WHOLE_SET)

    @cached_property
    def of_images(self) -> pd.DataFrame:
        """The keys of single images."""
        return self.keys[~self.of_whole_set]

    def frame(self, metrics: Iterable[str] | None = None) -> pd.DataFrame:
        """The rows of these metrics as a table of columns.RECORD_COLUMNS, names as categories,
        metric after metric; None of all, which takes much memory in a large run. A metric that
        isn't there has no rows.
        """
        names = [
            name for name in (self.metrics if metrics is None else metrics) if name in self.blocks
        ]
        blocks = [self.blocks[name] for name in names] or [_EMPTY]
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in vars(_EMPTY)
        }
        places = np.array([self.metrics.index(name) for name in names], dtype=int)
        table = self.keys.take(columns["keys"]).reset_index(drop=True)
        table = table.assign(
            method=_category(columns["methods"], self.methods),
            metric=_category(
                np.repeat(places, [len(self.blocks[name].keys) for name in names]), self.metrics
            ),
            value=columns["values"],
            status=_category(columns["statuses"], self.statuses),
        )
        return table[list(RECORD_COLUMNS)]

    def rows(self, metrics: Iterable[str]) -> pd.DataFrame:
        """As `frame`, of single images alone."""
        table = self.frame(metrics)
        return table[table["image_id"] != WHOLE_SET]

    def methods_of(self, metric: str) -> tuple[str, ...]:
        """The methods with rows of a metric."""
        codes = np.flatnonzero(
            np.bincount(self.blocks[metric].methods, minlength=len(self.methods))
        )
        return tuple(self.methods[code] for code in codes)

    def measured(self, apart: str | None = None, with_value: bool = False) -> tuple[str, ...]:
        """The metrics with rows of single images; apart: the method whose rows don't count.
        with_value: only rows with status ok do.
        """
        code = self.methods.index(apart) if apart in self.methods else -1
        measured = []
        for name, block in self.blocks.items():
            counts = ~self.of_whole_set[block.keys] & (block.methods != code)
            if (counts & (block.statuses == self.ok) if with_value else counts).any():
                measured.append(name)
        return tuple(measured)

    def where(self, keys: NDArray[np.bool_]) -> Records:
        """The rows of these keys alone, (keys,); names stay."""
        new = np.cumsum(keys, dtype=np.int32) - 1
        parts = {name: block.where(keys[block.keys]) for name, block in self.blocks.items()}
        blocks = {name: replace(block, keys=new[block.keys]) for name, block in parts.items()}
        table = self.keys[keys].reset_index(drop=True)
        return replace(self, keys=table, first_ok=self.first_ok[keys], blocks=blocks)

    def counts(self, metrics: Iterable[str]) -> dict[str, int]:
        """{status: how many rows of these metrics have it}, those that no row has left out."""
        total = np.zeros(len(self.statuses), dtype=np.int64)
        for name in metrics:
            if name in self.blocks:
                total += np.bincount(self.blocks[name].statuses, minlength=len(total))
        return {name: int(count) for name, count in zip(self.statuses, total, strict=True) if count}


class Builder:
    """Makes `Records` of tables, one after the other."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
        self._keys: dict[tuple[int, ...], int] = {}
        self._first_ok: list[int] = []
        self._parts: dict[int, list[Block]] = {}
        self._count = 0

    def add(self, table: pa.Table) -> None:
        """table: the columns of records, of names (see _NAMED) as dictionaries."""
        if not len(table):
            return
        columns = {name: self._coded(name, table[name].combine_chunks()) for name in _NAMED}
        columns |= {name: table[name].to_numpy() for name in (*KEY[-2:], "value")}
        local, first = _local_keys(columns)
        new = zip(*(columns[name][first].tolist() for name in KEY), strict=True)
        keys = np.array(
            [self._keys.setdefault(key, len(self._keys)) for key in new], dtype=np.int32
        )
        self._first_ok += [-1] * (len(self._keys) - len(self._first_ok))
        is_ok = columns["status"] == self._codes["status"].get(OK, -1)
        has_value = np.flatnonzero(is_ok & np.isfinite(columns["value"]))
        place = np.full(len(keys), -1)
        place[local[has_value[::-1]]] = self._count + has_value[::-1]
        for key, own in zip(keys.tolist(), place.tolist(), strict=True):
            if own >= 0 and self._first_ok[key] < 0:
                self._first_ok[key] = own
        self._count += len(table)
        self._split(
            columns["metric"],
            Block(keys[local], columns["method"], columns["value"], columns["status"]),
        )

    def _coded(self, name: str, column: pa.DictionaryArray) -> NDArray[Any]:
        """The rows' codes, the same for each name in all tables."""
        codes = self._codes[name]
        own = [codes.setdefault(str(entry), len(codes)) for entry in column.dictionary.to_pylist()]
        return np.array(own, dtype=np.int16 if name in _NAMED[-3:] else np.int32)[
            column.indices.to_numpy()
        ]

    def _split(self, metrics: NDArray[np.int16], rows: Block) -> None:
        order = np.argsort(metrics, kind="stable")
        in_order = metrics[order]
        starts = np.flatnonzero(np.diff(in_order, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            self._parts.setdefault(int(in_order[start]), []).append(rows.where(order[start:end]))

    def records(self) -> Records:
        """What was added. The builder is used up: its parts are freed one by one."""
        blocks = {}
        for name, code in self._codes["metric"].items():
            if parts := self._parts.pop(code, None):
                columns = zip(*(vars(part).values() for part in parts), strict=True)
                blocks[name] = Block(*map(np.concatenate, columns))
        rows = np.array(list(self._keys), dtype=np.int64).reshape(len(self._keys), len(KEY))
        keys = pd.DataFrame(rows, columns=list(KEY))
        for name in JOB:
            keys[name] = _category(keys[name].to_numpy(), tuple(self._codes[name]))
        ids = np.array(list(self._codes["image_id"]), dtype=object)
        letters = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        rank = np.argsort(letters)
        keys["image_id"] = _category(
            rank[keys["image_id"].to_numpy()], ids[letters].tolist(), ordered=False
        )
        keys = keys.astype(dict.fromkeys(KEY[-2:], np.int32))
        methods, statuses = (tuple(self._codes[name]) for name in ("method", "status"))
        return Records(keys, np.array(self._first_ok, dtype=np.int64), blocks, methods, statuses)


def _local_keys(columns: Mapping[str, Any]) -> tuple[Integers, Integers]:
    """(the number of each row's key among these rows, the first row of each key), by first
    appearance.
    """
    code = np.zeros(len(columns["value"]), dtype=np.int64)
    for name in KEY:
        own = pd.factorize(columns[name])[0] if name in KEY[-2:] else columns[name]
        if (count := int(own.max()) + 1) > 1:
            code = code * count + own
    local = pd.factorize(code)[0]
    return local, np.flatnonzero(np.diff(np.maximum.accumulate(local), prepend=-1))


def _category(codes: NDArray[Any], names: Sequence[str], ordered: bool = True) -> Any:
    """With codes of the type that pandas relies on for so many names."""
    kind = next(kind for kind in (np.int8, np.int16, np.int32) if len(names) < np.iinfo(kind).max)
    return pd.Categorical.from_codes(
        codes.astype(kind), pd.Index(list(names), dtype=str), ordered=ordered
    )


_EMPTY = Block(np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0), np.zeros(0, np.int16))

TENTH = 10  # a method that lacks more than one image in so many is not compared


def compared_columns(has: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(the places of the methods that are compared, the rows that all of them have). has: (rows,
    methods), whether a method has a value for a row. A method that lacks more than a tenth of the
    rows that any method has isn't compared: it could win by saying nothing about difficult images,
    and would leave few for the others.
    """
    union = has.any(axis=1)
    lacking = union.sum() - has.sum(axis=0)
    columns = np.flatnonzero(has.any(axis=0) & (TENTH * lacking <= union.sum())).astype(np.int64)
    return columns, np.asarray(has[:, columns].all(axis=1) & (len(columns) > 0))


PLACE = ["model", "layer", "data"]
NAMES = [*PLACE, "method", "metric"]  # of a value of the whole data set


@dataclass(frozen=True, eq=False)
class RowLayout:
    """The rows of all matrices of a setting, in the order in which the records first have a value
    of them. row_of_key: (keys,) -1 for a key of another setting, or without a value. images:
    (rows,) the number of each row's image.
    """

    row_of_key: Integers
    images: Integers


@dataclass(frozen=True, eq=False)
class Matrix:
    """values: (rows, methods), NaN where a row has none with status ok. images: (rows,) the number
    of each row's image. methods: those that have a value, in the records' order.
    """

    values: Floats
    images: Integers
    methods: tuple[str, ...]


def image_numbers(ids: pd.Series | pd.Index) -> Integers:
    """(rows,) the number of each row's image, from its id: objects of one image have its number."""
    codes, names = (
        (ids.cat.codes.to_numpy(), ids.cat.categories) if hasattr(ids, "cat") else pd.factorize(ids)
    )
    of_names = pd.factorize(pd.Index(names).map(lambda name: str(name).partition(OBJECT)[0]))[0]
    return of_names.astype(np.int64)[codes]


def layouts(
    records: Records, chosen: NDArray[np.bool_] | None = None
) -> dict[tuple[str, ...], RowLayout]:
    """{(model, layer, data): the rows with a value of an image there}. chosen: (keys,) those that
    count; None for all. A value of a whole data set is in none.
    """
    counts = (records.first_ok >= 0) & ~records.of_whole_set & (True if chosen is None else chosen)
    keys = records.keys[counts]
    return {
        tuple(map(str, place)): _layout(records, group)
        for place, group in keys.groupby(PLACE, observed=True)
    }


def _layout(records: Records, keys: pd.DataFrame) -> RowLayout:
    keys = keys.iloc[np.argsort(records.first_ok[keys.index], kind="stable")]
    image = pd.factorize(keys["image_id"])[0].astype(np.int64)
    target = pd.factorize(keys["target_class"])[0].astype(np.int64)
    row, unique = pd.factorize(image * (target.max(initial=0) + 1) + target)
    row_of_key = np.full(len(records.keys), -1, dtype=np.int64)
    row_of_key[keys.index] = row
    images = np.zeros(len(unique), dtype=np.int64)
    images[row] = image_numbers(keys["image_id"].astype(object))
    return RowLayout(row_of_key, images)


def matrix(records: Records, layout: RowLayout | None, metric: str) -> Matrix | None:
    """One metric's; None where no row of the layout has a value, and for no layout. Of two values
    of a row and method the later counts.
    """
    block = records.blocks.get(metric)
    if block is None or layout is None:
        return None
    row = layout.row_of_key[block.keys]
    use = (block.statuses == records.ok) & (row >= 0)
    if not use.any():
        return None
    methods = block.methods[use]
    present = np.flatnonzero(np.bincount(methods, minlength=len(records.methods)))
    column = np.zeros(len(records.methods), dtype=np.int64)
    column[present] = np.arange(len(present))
    values = np.full((len(layout.images), len(present)), np.nan)
    values[row[use], column[methods]] = block.values[use]
    return Matrix(values, layout.images, tuple(records.methods[code] for code in present))
