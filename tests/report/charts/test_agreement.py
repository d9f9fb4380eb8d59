"""Agreement of metrics: Kendall's tau in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts.matrices import agreement

METHODS = list("abcde")


def table(**values: list[float]) -> pd.DataFrame:
    return pd.DataFrame(values, index=METHODS[: len(next(iter(values.values())))]).T


def test_the_same_order_is_1_and_the_opposite_order_is_minus_1() -> None:
    cells = agreement(table(first=[1, 2, 3, 4, 5], same=[10, 20, 30, 40, 50], opposite=[5, 4, 3, 2, 1]))
    taus = cells.set_index(["column", "row"])["tau"]
    assert taus["first", "same"] == pytest.approx(1)
    assert taus["first", "opposite"] == pytest.approx(-1)
    # Two of the 5! orders are as far from 0.
    assert cells["p"].tolist() == pytest.approx([2 / 120] * 3)
    assert (cells["n"] == 5).all()


def test_one_exchanged_pair() -> None:
    """Of six pairs of four methods one is in another order: tau = (5 - 1) / 6."""
    (tau,) = agreement(table(first=[1, 2, 3, 4], second=[1, 2, 4, 3]))["tau"]
    assert tau == pytest.approx(4 / 6)


def test_methods_that_coincide_count_once() -> None:
    """Four names of one method and another method aren't five methods that two metrics agree on."""
    assert agreement(table(first=[1, 1, 1, 1, 2], second=[3, 3, 3, 3, 4])).empty
    cells = agreement(table(first=[1, 2, 3, 4, 4 + 1e-7], second=[1, 2, 3, 4, 4 + 1e-7]))
    assert cells["n"].tolist() == [4]


def test_values_that_print_alike_tie() -> None:
    """tau-b with one tie in the first metric: 5 pairs agree, 1 is tied, 5 / sqrt(5 * 6)."""
    (tau,) = agreement(table(first=[1, 2, 3, 3 + 1e-5], second=[1, 2, 3, 4]))["tau"]
    assert tau == pytest.approx(5 / np.sqrt(30))


def test_only_methods_that_both_metrics_measure() -> None:
    nan = float("nan")
    cells = agreement(table(first=[1, 2, 3, 4, nan], second=[1, 2, 3, 4, 0.5], third=[1, 2, 3, nan, nan]))
    assert cells[["column", "row", "n"]].to_numpy().tolist() == [["first", "second", 4]]


def test_a_metric_that_tells_no_methods_apart_has_no_tau() -> None:
    assert agreement(table(first=[1, 2, 3, 4, 5], second=[1, 1, 1, 1, 1])).empty
