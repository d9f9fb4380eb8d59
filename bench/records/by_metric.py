"""All records of a run in memory, one block per metric, for the statistics and the report. A row
takes 16 bytes, while a table of the rows takes over 100. The facts that rows share, the image with
its classes, are stored once in a table of keys, and names are codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from axiom_bench.columns import OBJECT, OK, RECORD_COLUMNS, WHOLE_SET

JOB = ("experiment", "model", "layer", "data")
CLASSES = ("target_class", "predicted_class")
KEY = (*JOB, "image_id", *CLASSES)
_NAMED = (*JOB, "image_id", "method", "metric", "status")  # columns of names
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Codes = NDArray[np.signedinteger]  # indices into names


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one metric, in the order of the records. Each field has shape (rows,)."""

    keys: NDArray[np.int32]
    """The row of `Records.keys`."""
    methods: NDArray[np.int16]
    """The index into `Records.methods`."""
    values: NDArray[np.float64]
    statuses: NDArray[np.int16]
    """The index into `Records.statuses`."""

    def select(self, chosen: NDArray[np.bool_] | Integers | slice) -> Block:
        """Return a block of the chosen rows only; `chosen` is a mask, indices or a slice."""
        return Block(
            keys=self.keys[chosen],
            methods=self.methods[chosen],
            values=self.values[chosen],
            statuses=self.statuses[chosen],
        )


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a run: the rows of each metric, and the names and keys that rows refer to."""

    keys: pd.DataFrame
    """The columns KEY. A place (model, layer and data set) has a row per image and explained class,
    in the order in which they first appear. Names are categories; image ids are in the order of
    their letters.
    """
    first_ok: Integers
    """(keys,) the index, among all rows, of the first row of the key with status ok; -1 if none."""
    blocks: Mapping[str, Block]
    """{metric: its rows}."""
    methods: tuple[str, ...]
    """The methods' names by code."""
    statuses: tuple[str, ...]
    """The statuses' names by code."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Records:
        """Return the records of a table with the columns of records.

        Categories keep their order, and other names are sorted by their letters. A column that the
        table lacks is empty, or -1.
        """
        columns: dict[str, object] = {"value": frame["value"].to_numpy(dtype=np.float64)}
        for name in CLASSES:
            classes = frame[name] if name in frame else [-1] * len(frame)
            columns[name] = pa.array(classes, pa.int32())
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
        """True if there is no row."""
        return not len(self)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all values, in order."""
        return tuple(self.blocks)

    @cached_property
    def ok(self) -> int:
        """The code of the status ok; -1 if no row has it."""
        return self.statuses.index(OK) if OK in self.statuses else -1

    @cached_property
    def is_whole_set(self) -> NDArray[np.bool_]:
        """(keys,) True if a key is of values of a whole data set."""
        return np.asarray(self.keys["image_id"] == WHOLE_SET)

    @cached_property
    def image_keys(self) -> pd.DataFrame:
        """The keys of single images."""
        return self.keys[~self.is_whole_set]

    def frame(self, metrics: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the rows of these metrics as a table of columns.RECORD_COLUMNS, metric after
        metric.

        Names are categories. `None` returns the rows of all metrics, which takes much memory in a
        large run. A metric without records has no rows.
        """
        wanted = self.metrics if metrics is None else metrics
        names = [name for name in wanted if name in self.blocks]
        blocks = [self.blocks[name] for name in names] or [_EMPTY]
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in vars(_EMPTY)
        }
        metric_codes = np.array([self.metrics.index(name) for name in names], dtype=int)
        row_counts = [len(self.blocks[name].keys) for name in names]
        table = self.keys.take(columns["keys"]).reset_index(drop=True)
        table = table.assign(
            method=_category(columns["methods"], self.methods),
            metric=_category(np.repeat(metric_codes, row_counts), self.metrics),
            value=columns["values"],
            status=_category(columns["statuses"], self.statuses),
        )
        return table[list(RECORD_COLUMNS)]

    def rows(self, metrics: Iterable[str]) -> pd.DataFrame:
        """Return the rows of single images only, as a table like that of `frame`."""
        table = self.frame(metrics)
        return table[table["image_id"] != WHOLE_SET]

    def methods_of(self, metric: str) -> tuple[str, ...]:
        """Return the methods that have rows of a metric."""
        row_counts = np.bincount(self.blocks[metric].methods, minlength=len(self.methods))
        return tuple(self.methods[code] for code in np.flatnonzero(row_counts))

    def metrics_with_images(
        self, ignored_method: str | None = None, with_value: bool = False
    ) -> tuple[str, ...]:
        """Return the metrics that have rows of single images.

        Rows of the ignored method don't count. With `with_value`, only rows with status ok count.
        """
        code = self.methods.index(ignored_method) if ignored_method in self.methods else -1
        measured = []
        for name, block in self.blocks.items():
            is_counted = ~self.is_whole_set[block.keys] & (block.methods != code)
            if with_value:
                is_counted &= block.statuses == self.ok
            if is_counted.any():
                measured.append(name)
        return tuple(measured)

    def select(self, keys: NDArray[np.bool_]) -> Records:
        """Return the rows of the chosen keys only; `keys` is a mask (keys,). All names stay."""
        new_keys = np.cumsum(keys, dtype=np.int32) - 1
        blocks = {}
        for name, block in self.blocks.items():
            part = block.select(keys[block.keys])
            blocks[name] = replace(part, keys=new_keys[part.keys])
        table = self.keys[keys].reset_index(drop=True)
        return replace(self, keys=table, first_ok=self.first_ok[keys], blocks=blocks)

    def counts(self, metrics: Iterable[str]) -> dict[str, int]:
        """Return {status: the number of rows of these metrics that have it}, without statuses that
        no row has.
        """
        total = np.zeros(len(self.statuses), dtype=np.int64)
        for name in metrics:
            if name in self.blocks:
                total += np.bincount(self.blocks[name].statuses, minlength=len(total))
        return {name: int(count) for name, count in zip(self.statuses, total, strict=True) if count}


class Builder:
    """The maker of `Records` from tables, which are added one after the other."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
        self._keys: dict[tuple[int, ...], int] = {}
        self._first_ok: list[int] = []
        self._parts: dict[int, list[Block]] = {}
        self._count = 0

    def add(self, table: pa.Table) -> None:
        """Add the rows of a table with the columns of records; those of names, see _NAMED, are
        dictionaries.
        """
        if not len(table):
            return
        columns = {name: self._codes_of(name, table[name].combine_chunks()) for name in _NAMED}
        for name in CLASSES:
            columns[name] = table[name].to_numpy()
        values = table["value"].to_numpy()
        # the keys are numbered in this table first: only its distinct keys go through Python
        local_keys, first_rows = _local_keys(columns)
        distinct = zip(*(columns[name][first_rows].tolist() for name in KEY), strict=True)
        keys = np.array(
            [self._keys.setdefault(key, len(self._keys)) for key in distinct], dtype=np.int32
        )
        self._first_ok += [-1] * (len(self._keys) - len(self._first_ok))
        is_ok = columns["status"] == self._codes["status"].get(OK, -1)
        rows_with_value = np.flatnonzero(is_ok & np.isfinite(values))
        # in reverse order, so that the first row of a key is the one that stays
        reversed_rows = rows_with_value[::-1]
        first_in_table = np.full(len(keys), -1)
        first_in_table[local_keys[reversed_rows]] = self._count + reversed_rows
        for key, row in zip(keys.tolist(), first_in_table.tolist(), strict=True):
            if row >= 0 and self._first_ok[key] < 0:
                self._first_ok[key] = row
        self._count += len(table)
        block = Block(
            keys=keys[local_keys],
            methods=columns["method"],
            values=values,
            statuses=columns["status"],
        )
        self._split(columns["metric"], block)

    def _codes_of(self, name: str, column: pa.DictionaryArray) -> Codes:
        """Return the codes of the rows' names; a name has the same code in all tables."""
        codes = self._codes[name]
        table_codes = [
            codes.setdefault(str(text), len(codes)) for text in column.dictionary.to_pylist()
        ]
        # a run may have more images than int16 can count, but not more methods or metrics
        kind = np.int16 if name in _NAMED[-3:] else np.int32
        row_codes: Codes = np.array(table_codes, dtype=kind)[column.indices.to_numpy()]
        return row_codes

    def _split(self, metrics: NDArray[np.int16], rows: Block) -> None:
        """Store the rows of each metric as a part of its block."""
        order = np.argsort(metrics, kind="stable")
        sorted_metrics = metrics[order]
        starts = np.flatnonzero(np.diff(sorted_metrics, prepend=-1)).tolist()
        ends = [*starts[1:], len(order)]
        for start, end in zip(starts, ends, strict=True):
            part = rows.select(order[start:end])
            self._parts.setdefault(int(sorted_metrics[start]), []).append(part)

    def records(self) -> Records:
        """Return the records of all tables. The builder can't be used again: its parts are freed
        one by one.
        """
        blocks = {}
        for name, code in self._codes["metric"].items():
            if parts := self._parts.pop(code, None):
                columns = zip(*(vars(part).values() for part in parts), strict=True)
                blocks[name] = Block(*map(np.concatenate, columns))
        key_codes = np.array(list(self._keys), dtype=np.int64).reshape(len(self._keys), len(KEY))
        keys = pd.DataFrame(key_codes, columns=list(KEY))
        for name in JOB:
            keys[name] = _category(keys[name].to_numpy(), tuple(self._codes[name]))
        # the codes of image ids follow their letters, while those of other names follow the tables
        ids = np.array(list(self._codes["image_id"]), dtype=object)
        by_letters = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        rank = np.argsort(by_letters)
        keys["image_id"] = _category(
            rank[keys["image_id"].to_numpy()], ids[by_letters].tolist(), ordered=False
        )
        keys = keys.astype(dict.fromkeys(CLASSES, np.int32))
        return Records(
            keys=keys,
            first_ok=np.array(self._first_ok, dtype=np.int64),
            blocks=blocks,
            methods=tuple(self._codes["method"]),
            statuses=tuple(self._codes["status"]),
        )


def _local_keys(columns: Mapping[str, Codes]) -> tuple[Integers, Integers]:
    """Return (the number of each row's key among these rows, the first row of each key), by first
    appearance.
    """
    combined: Codes = np.zeros(len(columns["image_id"]), dtype=np.int64)
    for name in KEY:
        codes = pd.factorize(columns[name])[0] if name in CLASSES else columns[name]
        if (count := int(codes.max()) + 1) > 1:
            combined = combined * count + codes
    local_keys = pd.factorize(combined)[0]
    return local_keys, np.flatnonzero(np.diff(np.maximum.accumulate(local_keys), prepend=-1))


def _category(codes: Codes, names: Sequence[str], ordered: bool = True) -> pd.Categorical[str]:
    """Return categories with codes of the type that pandas relies on for this number of names."""
    kind = next(kind for kind in (np.int8, np.int16, np.int32) if len(names) < np.iinfo(kind).max)
    return pd.Categorical.from_codes(
        codes.astype(kind), pd.Index(list(names), dtype=str), ordered=ordered
    )


_EMPTY = Block(np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0), np.zeros(0, np.int16))

TENTH = 10  # a method that lacks more than one image in ten isn't compared


def compared_columns(has: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (the columns of the methods that are compared, a mask of the rows that all of them
    have).

    `has` (rows, methods) is True if a method has a value for a row. A method that lacks more than a
    tenth of the rows that any method has isn't compared. It could win by saying nothing about
    difficult images, and would leave few rows for the others.
    """
    num_rows = has.any(axis=1).sum()
    lacking = num_rows - has.sum(axis=0)
    is_compared = has.any(axis=0) & (TENTH * lacking <= num_rows)
    columns = np.flatnonzero(is_compared).astype(np.int64)
    return columns, np.asarray(has[:, columns].all(axis=1) & (len(columns) > 0))


PLACE = ["model", "layer", "data"]
NAMES = [*PLACE, "method", "metric"]  # the columns that name a value of the whole data set


@dataclass(frozen=True, eq=False)
class RowLayout:
    """The rows of all matrices of a setting, in the order in which the records first have a value
    of them.
    """

    row_of_key: Integers
    """(keys,) the row; -1 for a key of another setting, or without a value."""
    images: Integers
    """(rows,) the number of each row's image."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """The values of one metric in one setting."""

    values: Floats
    """(rows, methods) NaN if a row has no value with status ok."""
    images: Integers
    """(rows,) the number of each row's image."""
    methods: tuple[str, ...]
    """The methods that have a value, in the records' order."""


def image_numbers(ids: pd.Series | pd.Index) -> Integers:
    """Return (rows,) the number of each row's image, from its id. Objects of one image share its
    number.
    """
    if hasattr(ids, "cat"):
        codes = ids.cat.codes.to_numpy()
        names = ids.cat.categories
    else:
        codes, names = pd.factorize(ids)
    images = pd.Index(names).map(lambda name: str(name).partition(OBJECT)[0])
    numbers: Integers = pd.factorize(images)[0].astype(np.int64)[codes]
    return numbers


def count_images(ids: pd.Series | pd.Index) -> int:
    """Return the number of images of rows, from their ids. Objects of one image count once."""
    return len(np.unique(image_numbers(ids)))


def layouts(
    records: Records, chosen: NDArray[np.bool_] | None = None
) -> dict[tuple[str, ...], RowLayout]:
    """Return {(model, layer, data): the layout of the rows that have a value of an image}.

    `chosen` (keys,) is True for the keys that count; `None` counts all. Values of a whole data set
    are in no layout.
    """
    is_counted = (records.first_ok >= 0) & ~records.is_whole_set
    if chosen is not None:
        is_counted = is_counted & chosen
    places = records.keys[is_counted].groupby(PLACE, observed=True)
    return {tuple(map(str, place)): _layout(records, keys) for place, keys in places}


def _layout(records: Records, keys: pd.DataFrame) -> RowLayout:
    """Return the layout of one setting from its keys."""
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
    """Return the matrix of one metric; `None` if no row of the layout has a value, or without a
    layout.

    If a row and method have two values, the later one counts.
    """
    block = records.blocks.get(metric)
    if block is None or layout is None:
        return None
    row = layout.row_of_key[block.keys]
    is_used = (block.statuses == records.ok) & (row >= 0)
    if not is_used.any():
        return None
    methods = block.methods[is_used]
    present = np.flatnonzero(np.bincount(methods, minlength=len(records.methods)))
    column = np.zeros(len(records.methods), dtype=np.int64)
    column[present] = np.arange(len(present))
    values = np.full((len(layout.images), len(present)), np.nan)
    values[row[is_used], column[methods]] = block.values[is_used]
    return Matrix(values, layout.images, tuple(records.methods[code] for code in present))
