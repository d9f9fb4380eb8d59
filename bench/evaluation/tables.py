"""Columns of the records from measurements, and tables from columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import CURVE_COLUMNS, RECORD_COLUMNS
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.measurement import Measured, Measurement

Columns = dict[str, Any]  # arrays by the name of a column; of curves, also their "axes"


@dataclass(frozen=True)
class BatchRows:
    """What the columns have of a batch, on the CPU: the image, the explained and the predicted class of each row."""

    image_ids: tuple[str, ...]
    targets: np.ndarray
    predictions: np.ndarray

    @staticmethod
    def of(trace: Trace, batch: Batch) -> BatchRows:
        """Those of a trace of the batch."""
        explained, predicted = trace.classes_on_cpu
        return BatchRows(batch.image_ids, explained.numpy(), predicted.numpy())

    def __len__(self) -> int:
        return len(self.image_ids)


def columns(rows: BatchRows, method: str, measurement: Measurement) -> Iterator[Columns]:
    """The columns of a method's values, and those of its curves where it has any, B rows for each value or curve.

    The columns of curves come with "axes", {curve: {at, x, y, title, better}}, for those that can be drawn.
    """
    values, curves = measurement.values, measurement.curves
    yield {
        **_shared(rows, method, values),
        "predicted_class": np.tile(rows.predictions, len(values)),
        "metric": _names(values, len(rows)),
        "value": np.concatenate([value.numpy() for value, _ in values.values()]) if values else np.zeros(0),
    }
    if curves:
        yield {
            **_shared(rows, method, curves),
            "curve": _names(curves, len(rows)),
            "points": _objects(points for table, _ in curves.values() for points in table.numpy()),
            "axes": measurement.axes,
        }


def holds_values(part: Columns) -> bool:
    """Whether these are columns of values; else they are those of curves."""
    return "value" in part


def frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns after each other in one table; without any, the empty table of the records' columns."""
    parts = [part for part in parts if len(part["value"])]
    if not parts:
        return pd.DataFrame(columns=list(RECORD_COLUMNS))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def curve_frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns of curves after each other in one table, which may be empty."""
    listed = list(parts)
    if not listed:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.DataFrame({name: np.concatenate([part[name] for part in listed]) for name in CURVE_COLUMNS})


def _shared(rows: BatchRows, method: str, measured: Measured) -> Columns:
    """The columns that values and curves share."""
    size, count = len(rows), len(measured)
    return {
        "image_id": np.tile(np.array(rows.image_ids, dtype=object), count),
        "target_class": np.tile(rows.targets, count),
        "method": np.full(size * count, method, dtype=object),
        "status": np.array([status for _, row in measured.values() for status in row], dtype=object),
    }


def _names(measured: Measured, rows: int) -> np.ndarray:
    return np.repeat(np.array(list(measured), dtype=object), rows)


def _objects(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Arrays, of any lengths, as the entries of a column."""
    listed = list(arrays)
    column = np.empty(len(listed), dtype=object)
    column[:] = listed
    return column
