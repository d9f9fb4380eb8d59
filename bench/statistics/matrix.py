"""The values of one metric in one setting as a matrix: rows (an image and an explained class) x methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.records.by_metric import Records
from axiom_bench.statistics.bootstrap import Floats, Integers

PLACE = ["model", "layer", "data"]
NAMES = [*PLACE, "method", "metric"]  # of a value of the whole data set


@dataclass(frozen=True, eq=False)
class RowLayout:
    """The rows of all matrices of a setting, in the order in which the records first have a value of them.

    row_of_key: (keys of the records,) -1 for a key of another setting, or without a value. images: (rows,) the number
    of each row's image.
    """

    row_of_key: Integers
    images: Integers


@dataclass(frozen=True, eq=False)
class Matrix:
    """values: (rows, methods), NaN where a row has none with status ok. images: (rows,) the number of each row's image.
    methods: those that have a value, in the records' order."""

    values: Floats
    images: Integers
    methods: tuple[str, ...]


def layouts(records: Records, chosen: NDArray[np.bool_] | None = None) -> dict[tuple[str, ...], RowLayout]:
    """{(model, layer, data): the rows with a value of an image there}. chosen: (keys,) those that count; None for all.
    A value of a whole data set is in none."""
    counts = (records.first_ok >= 0) & ~records.of_whole_set & (True if chosen is None else chosen)
    keys = records.keys[counts]
    return {tuple(map(str, place)): _layout(records, group) for place, group in keys.groupby(PLACE, observed=True)}


def _layout(records: Records, keys: pd.DataFrame) -> RowLayout:
    keys = keys.iloc[np.argsort(records.first_ok[keys.index], kind="stable")]
    image = pd.factorize(keys["image_id"])[0].astype(np.int64)
    target = pd.factorize(keys["target_class"])[0].astype(np.int64)
    row, unique = pd.factorize(image * (target.max(initial=0) + 1) + target)
    row_of_key = np.full(len(records.keys), -1, dtype=np.int64)
    row_of_key[keys.index] = row
    images = np.zeros(len(unique), dtype=np.int64)
    images[row] = image
    return RowLayout(row_of_key, images)


def matrix(records: Records, layout: RowLayout | None, metric: str) -> Matrix | None:
    """One metric's; None where no row of the layout has a value, and for no layout. Of two values of a row and method
    the later counts."""
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
