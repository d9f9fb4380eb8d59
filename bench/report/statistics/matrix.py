"""The values of one setting as a matrix: rows (an image and an explained class) x columns (a method and a metric)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.statistics.bootstrap import Floats, Integers

PLACE = ["model", "layer", "data"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """values: (rows, columns), NaN where a row has none with status ok. images: (rows,) the number of each row's image.
    columns: (method, metric) of each column, sorted by metric and method as the records' categories are."""

    values: Floats
    images: Integers
    columns: tuple[tuple[str, str], ...]

    def of(self, metric: str) -> tuple[tuple[str, ...], Floats]:
        """The methods that have values of this metric, and these: (rows, methods)."""
        chosen = [place for place, (_, name) in enumerate(self.columns) if name == metric]
        return tuple(self.columns[place][0] for place in chosen), self.values[:, chosen]


def matrices(records: pd.DataFrame) -> dict[tuple[str, ...], Matrix]:
    """{(model, layer, data): the values of images there}; a value of a whole data set is in none."""
    rows = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
    return {tuple(map(str, place)): matrix(own) for place, own in rows.groupby(PLACE, observed=True)}


def matrix(rows: pd.DataFrame) -> Matrix:
    """From rows of one setting with status ok. Of two values of one row, method and metric the later counts."""
    image = pd.factorize(rows["image_id"])[0].astype(np.int64)
    target = pd.factorize(rows["target_class"])[0].astype(np.int64)
    row, unique = pd.factorize(image * (target.max(initial=0) + 1) + target)
    columns = rows.groupby(["metric", "method"], observed=True)
    names = [(str(metric), str(method)) for metric, method in columns.size().index]
    values = np.full((len(unique), len(names)), np.nan)
    values[row, columns.ngroup().to_numpy()] = rows["value"]
    images = np.zeros(len(unique), dtype=np.int64)
    images[row] = image
    return Matrix(values, images, tuple((method, metric) for metric, method in names))
