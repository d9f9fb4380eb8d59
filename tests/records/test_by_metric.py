"""Tests of records by metric, and of the methods that are compared.

They have the same rows as a table of all records, in the same order, in 16 bytes each.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from axiom_bench.columns import RECORD_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.records import reading, store
from axiom_bench.records.by_metric import Records, compared_columns

from .conftest import SHARD, manifest_of

TWO = {"cam": {"zeta": "1", "pair": "2"}, "other": {"zeta": "3"}}
LATER = {"cam": {"iou": "4"}, "other": {"pair": "5", "iou": "6"}}


def plain(rows):
    """The columns as lists, whatever their types; NaN as text, so that it equals itself."""
    return {name: rows[name].astype(str).tolist() for name in RECORD_COLUMNS}


def read(folder, manifest, apart=()):
    return reading.read_records(folder, manifest), *reading.read_by_metric(folder, manifest, apart)


def test_each_metric_has_its_rows_in_their_order(write_file, tmp_path):
    wanted = {method: {**TWO[method], **LATER[method]} for method in TWO}
    files = [write_file(values, shard) for shard in (SHARD, "b" * 32) for values in (TWO, LATER)]
    rows, records, apart = read(tmp_path, manifest_of((files, wanted)))
    assert len(records) == len(rows)
    assert apart.empty
    assert set(records.metrics) == set(rows["metric"])
    for name in records.metrics:
        assert plain(records.frame([name])) == plain(rows[rows["metric"] == name])
    assert sum(
        column.nbytes for block in records.blocks.values() for column in vars(block).values()
    ) == 16 * len(rows)


def test_values_of_other_commands_are_left_and_metrics_apart_in_another_table(write_file, tmp_path):
    file = write_file(TWO)
    rows, records, _ = read(tmp_path, manifest_of(([file], {"other": {"zeta": "3"}})))
    assert set(records.frame()["method"]) == {"other"}
    assert plain(records.frame()) == plain(rows)
    rows, records, apart = read(tmp_path, manifest_of(([file], TWO)), ["zeta"])
    assert plain(apart.frame()) == plain(rows[rows["metric"] == "zeta"])
    assert "zeta" not in records.metrics
    assert len(records) + len(apart) == len(rows)


@pytest.mark.parametrize("name", ["image_id", "target_class", "method", "status"])
def test_a_row_without_a_name_or_class_is_refused(name, write_file, tmp_path):
    file = write_file(TWO)
    table = store.read_table(tmp_path / file.name)
    column = pa.array([None, *table[name].to_pylist()[1:]]).cast(store.SCHEMA.field(name).type)
    notes = store.metadata_of((tmp_path / file.name).read_bytes())
    table = table.set_column(table.column_names.index(name), name, column)
    store.write(tmp_path / file.name, table, metadata=notes)
    with pytest.raises(BenchError, match=f"parquet can't be read .*field '{name}'"):
        reading.read_by_metric(tmp_path, manifest_of(([file], TWO)))


def rows_of(*values):
    """Return records of one method and layer from tuples (image, class, metric, value, status)."""
    table = pd.DataFrame(values, columns=["image_id", "target_class", "metric", "value", "status"])
    return table.assign(
        experiment="e", model="m", layer="l", data="d", method="cam", predicted_class=1
    )


def test_keys_stand_in_their_order_and_know_their_first_value():
    table = rows_of(
        ("b", 1, "iou", np.nan, "no_box"),
        ("a", 1, "iou", 0.5, "ok"),
        ("a", 2, "iou", np.nan, "ok"),
        ("b", 1, "zeta", 0.1, "ok"),
        ("*", -1, "zeta", 0.3, "ok"),
    )
    records = Records.of(table)
    assert list(records.keys["image_id"]) == ["b", "a", "a", "*"]
    assert list(records.keys["target_class"]) == [1, 1, 2, -1]
    assert records.first_ok.tolist() == [3, 1, -1, 4]  # "ok" without a number is no value
    assert records.rows(["zeta"])["value"].tolist() == [0.1]
    assert records.counts(["iou"]) == {"no_box": 1, "ok": 2}
    assert records.metrics_with_images() == ("iou", "zeta")
    assert records.metrics_with_images("cam") == ()


def test_a_metric_s_first_value_may_come_late_and_chosen_keys_keep_their_rows():
    rows = [(f"{number}", 1, "iou", np.nan, "no_box") for number in range(3)]
    table = rows_of(*rows, ("last", 1, "iou", 0.5, "ok"))
    assert Records.of(table).metrics_with_images(with_value=True) == ("iou",)
    assert Records.of(rows_of(*rows)).metrics_with_images(with_value=True) == ()
    table = rows_of(
        ("a", 1, "iou", 0.5, "ok"), ("b", 1, "iou", 0.6, "ok"), ("b", 1, "zeta", 0.1, "ok")
    )
    chosen = Records.of(table).select(np.array([False, True]))
    assert plain(chosen.frame()) == plain(table.iloc[1:][list(RECORD_COLUMNS)])
    assert chosen.select(np.array([False])).empty
    assert chosen.select(np.array([False])).frame().empty


@pytest.mark.parametrize(
    ("images", "lacked", "methods"),
    [
        (20, {"a": [], "b": []}, "ab"),
        (20, {"a": [0, 1], "b": [2]}, "ab"),
        (20, {"a": [0, 1, 2], "b": [3]}, "b"),  # it takes no images from the others
        (10, {"a": [0], "b": []}, "ab"),  # a tenth
        (20, {"a": range(20), "b": []}, "b"),
        (20, {"a": range(10, 20), "b": range(10)}, ""),
        (0, {"a": []}, ""),
        (0, {}, ""),
    ],
)
def test_a_method_that_lacks_more_than_a_tenth_is_not_compared(images, lacked, methods):
    has_value = np.ones((images, len(lacked)), dtype=bool)
    for column, lacked_images in enumerate(lacked.values()):
        has_value[list(lacked_images), column] = False
    columns, is_common = compared_columns(has_value)
    assert [list(lacked)[column] for column in columns] == list(methods)
    lacking = {row for method in methods for row in lacked[method]}
    assert is_common.tolist() == [bool(methods) and row not in lacking for row in range(images)]
