"""Disagreement of two metrics: scipy's tau on the data, one resample at a time for the interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from axiom_bench.judging.agreement import disagreement
from axiom_bench.judging.values import ImageValues
from axiom_bench.statistics.bootstrap import resamples

NAN = float("nan")
NAMES = tuple("abcdef")


def made(name: str, values: np.ndarray, better: str = "higher", lead: str = "mean", methods: tuple[str, ...] = NAMES):
    return ImageValues(name, methods, values, lead, better)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(30, 6)) + np.linspace(0, 1, 6)


def test_the_same_order_is_1_and_the_opposite_order_is_minus_1(values: np.ndarray) -> None:
    table = disagreement([made("up", values), made("twice", 2 * values), made("down", values, "lower")])
    taus = {(row.column, row.row): row.tau for row in table.itertuples()}
    assert taus == pytest.approx({("up", "twice"): 1, ("up", "down"): -1, ("twice", "down"): -1})
    assert (table["methods"] == 6).all()
    sure = table[table["tau"] > 0]
    assert sure[["low", "high"]].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_as_one_resample_at_a_time(values: np.ndarray, lead: str) -> None:
    other = values[:, ::-1] * 0.3 + np.random.default_rng(1).normal(size=values.shape)
    (row,) = disagreement([made("first", values, lead=lead), made("second", other, "lower")]).itertuples()
    centre = np.mean if lead == "mean" else np.median
    assert row.tau == pytest.approx(kendalltau(centre(values, axis=0), -other.mean(axis=0)).statistic)
    taus = []
    for counts in resamples(30):
        drawn = np.repeat(np.arange(30), counts.astype(int))
        taus.append(kendalltau(centre(values[drawn], axis=0), -other[drawn].mean(axis=0)).statistic)
    # One of 1,000 resamples more or less at the ends: a step of tau over 15 pairs is 2 / 15.
    assert [row.low, row.high] == pytest.approx(np.quantile(taus, [0.025, 0.975]), abs=2 / 15 + 1e-6)
    assert min(taus) <= row.low <= row.high <= max(taus)


def test_only_methods_that_both_have_and_images_that_all_methods_have(values: np.ndarray) -> None:
    short = values[:, :4].copy()
    short[0, 2] = NAN
    (row,) = disagreement([made("all", values), made("some", short, methods=NAMES[:4])]).itertuples()
    expected = kendalltau(values[:, :4].mean(axis=0), short[1:].mean(axis=0)).statistic
    assert (row.methods, row.tau) == (4, pytest.approx(expected))
    assert disagreement([made("all", values), made("few", values[:, :3], methods=NAMES[:3])]).empty


def test_methods_that_coincide_count_once(values: np.ndarray) -> None:
    copies = np.concatenate([values[:, :4]] * 2, axis=1)
    (row,) = disagreement([made(name, copies, methods=tuple("abcdefgh")) for name in ("one", "two")]).itertuples()
    assert row.methods == 4


def test_metrics_without_a_direction_or_that_tell_nothing_apart_have_none(values: np.ndarray) -> None:
    assert disagreement([]).empty
    assert disagreement([made("one", values)]).empty
    assert disagreement([made("one", values), made("none", values, "none")]).empty
    assert disagreement([made("one", values), made("flat", np.zeros_like(values))]).empty


def test_tau_is_exact_to_float64(values: np.ndarray) -> None:
    """Rounded to float32 the ends of an interval of one value left that value out."""
    (row,) = disagreement(
        [made("one", 1000 * values + np.arange(6) ** 3), made("two", np.roll(values, 2, 1))]
    ).itertuples()
    first, second = (1000 * values + np.arange(6) ** 3).mean(axis=0), np.roll(values, 2, 1).mean(axis=0)
    assert row.tau == pytest.approx(kendalltau(first, second).statistic, abs=1e-15)


def test_few_images_have_no_interval(values: np.ndarray) -> None:
    (row,) = disagreement([made("one", values[:9]), made("two", values[:9])]).itertuples()
    assert row.tau == pytest.approx(1)
    assert np.isnan([row.low, row.high]).all()
