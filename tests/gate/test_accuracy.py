"""The network's accuracy in a baseline: by image, and two-sided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.gate import baseline_of, gate, write_baseline
from axiom_bench.gate.baseline import ACCURACY


@pytest.fixture
def mixed(records: pd.DataFrame) -> pd.DataFrame:
    """Forty images: ten are predicted wrongly, of which one also has a row of the predicted class; one isn't known."""
    number = records["image_id"].astype(int)
    predicted = records["predicted_class"].mask(number < 10, 2).mask(number == 39, -1)
    second = records[number == 0].assign(target_class=2, predicted_class=2)
    return pd.concat([records.assign(predicted_class=predicted), second], ignore_index=True)


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["metric"] == ACCURACY].reset_index(drop=True)


def test_an_image_counts_once_and_by_any_of_its_classes(make_run: Callable[..., Path], mixed: pd.DataFrame) -> None:
    rows = accuracies(baseline_of(make_run(mixed)))
    assert rows["model"].tolist() == ["one", "two"]
    assert set(rows["method"]) == {"-"}
    assert rows["n"].tolist() == [39, 39]
    assert rows["mean"].tolist() == pytest.approx([30 / 39] * 2, rel=1e-5)


def test_it_moves_alone_where_the_predicted_class_does(
    make_run: Callable[..., Path], mixed: pd.DataFrame, tmp_path: Path
) -> None:
    baseline = write_baseline(make_run(mixed), tmp_path / "own.csv")
    assert gate(make_run(mixed), baseline).exit_code == 0
    wrong = mixed.assign(predicted_class=mixed["predicted_class"].mask(mixed["image_id"] == "020", 3))
    result = gate(make_run(wrong), baseline)
    assert result.exit_code == 1
    assert [finding.place[-1] for finding in result.findings] == [ACCURACY, ACCURACY]
    assert {finding.verdict for finding in result.findings} == {"worse"}


def test_classes_that_no_image_has_make_no_row(make_run: Callable[..., Path], records: pd.DataFrame) -> None:
    assert accuracies(baseline_of(make_run(records.assign(target_class=-1)))).empty
