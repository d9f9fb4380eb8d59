"""All methods of a metric against each other: groups that coincide, places, who is bold."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench.statistics import comparison as comparison_module
from axiom_bench.statistics import run_folder
from axiom_bench.statistics.bootstrap import mean_intervals, median_intervals
from axiom_bench.statistics.comparison import Comparison, compare_methods, compare_whole_sets
from axiom_bench.statistics.paired_tests import coinciding, holm
from axiom_bench.statistics.ranking import best_methods
from axiom_bench.statistics.run_folder import RunFolder

NAN = float("nan")


def values(count: int = 40) -> np.ndarray:
    """Columns: a, b = a but for rounding, c clearly above them, d like c but for noise, e far above all."""
    generator = np.random.default_rng(0)
    a, noise = generator.normal(5, 1, count), generator.normal(0, 0.5, (3, count))
    return np.stack([a, a * (1 + 1e-7), a + 1 + noise[0], a + 1 + noise[1], a + 9 + noise[2]], axis=1)


def compared(better: str = "lower", **options: object) -> Comparison:
    table = values()
    comparison = compare_methods(table, np.arange(len(table)), "abcde", better, "mean", **options)  # type: ignore[arg-type]
    assert comparison is not None
    return comparison


def test_methods_that_coincide_are_one() -> None:
    comparison = compared()
    assert comparison.groups == (("a", "b"), ("c",), ("d",), ("e",))
    assert comparison.group_of("b") == ("a", "b")
    assert len(comparison.pairs) == 6
    assert comparison.pairs["adjusted"].tolist() == holm(comparison.pairs["p"])


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_a_difference_is_over_rows_as_the_values_beside_it_and_a_test_is_by_image(lead: str) -> None:
    """Of images with three objects the methods differ more: a mean over images first would say 2, not 2.5."""
    images = np.repeat(np.arange(40), np.where(np.arange(40) % 2, 1, 3))
    own = np.random.default_rng(3).normal(0, 0.2, (2, len(images)))
    first = own[0] + np.where(np.bincount(images)[images] == 3, 3.0, 1.0)
    comparison = compare_methods(np.stack([first, own[1]], axis=1), images, "xy", "higher", lead)
    assert comparison is not None
    x, y, pair = comparison.place("x").value, comparison.place("y").value, comparison.pair("x", "y")
    if lead == "mean":
        assert pair["difference"] == pytest.approx(x - y, rel=1e-12)
        assert pair["difference"] == pytest.approx(2.5, abs=0.1)
    else:
        assert pair["difference"] == pytest.approx(np.median(first - own[1]), rel=1e-12)
    intervals = mean_intervals if lead == "mean" else median_intervals
    assert [pair["low"], pair["high"]] == pytest.approx(intervals((first - own[1])[:, None], images)[:, 0].tolist())
    assert (pair["n"], pair["better"], pair["worse"]) == (40, 40, 0)


def test_values_that_are_missing_elsewhere_do_not_coincide() -> None:
    table = np.array([[1.0, 1.0, NAN], [2.0, NAN, 2.0], [3.0, 3.0, 3.0]])
    assert coinciding(table, "xyz") == (("x",), ("y",), ("z",))
    assert coinciding(np.full((2, 2), NAN), "xy") == (("x", "y"),)


def test_places_and_the_best() -> None:
    comparison = compared()
    places = {name: (comparison.place(name).place_low, comparison.place(name).place_high) for name in "abcde"}
    assert places == {"a": (1, 1), "b": (1, 1), "c": (2, 3), "d": (2, 3), "e": (4, 4)}
    assert [comparison.place(name).is_best for name in "abcde"] == [True, True, False, False, False]
    assert comparison.ranked[0] == ("a", "b")
    assert comparison.not_worse == ()
    opposite = compared("higher")
    assert opposite.ranked[0] == ("e",)
    assert [opposite.place(name).is_best for name in "abcde"] == [False, False, False, False, True]


def test_a_pair_is_seen_from_either_side() -> None:
    comparison = compared()
    pair, other = comparison.pair("a", "c"), comparison.pair("c", "a")
    assert (pair["better"], pair["worse"]) == (other["worse"], other["better"])
    assert (pair["difference"], pair["low"], pair["high"]) == (-other["difference"], -other["high"], -other["low"])
    assert pair["effect"] == -other["effect"] > 0
    assert comparison.differ("a", "c")
    assert not comparison.differ("c", "d")


def test_nobody_is_best_where_nothing_can_be_told() -> None:
    table = np.random.default_rng(1).normal(size=(20, 3))
    comparison = compare_methods(table, np.arange(20), "abc", "lower", "mean")
    assert comparison is not None
    assert not comparison.places["is_best"].any()
    assert (comparison.places[["place_low", "place_high"]].to_numpy() == [1, 3]).all()
    assert len(comparison.not_worse) == 2


def test_all_that_can_not_be_told_from_the_best_are_bold() -> None:
    table = values()[:, 2:]
    comparison = compare_methods(table, np.arange(40), "cde", "lower", "mean")
    assert comparison is not None
    assert [comparison.place(name).is_best for name in "cde"] == [True, True, False]


def test_a_winner_by_construction_has_no_place() -> None:
    comparison = compared(constructed=["a"])
    assert comparison.by_construction == ("a",)
    assert list(comparison.places.index) == ["b", "c", "d", "e"]
    assert compare_methods(values(), np.arange(40), "abcde", "lower", "mean", "abcde") is None


def test_without_a_direction_there_are_groups_alone() -> None:
    comparison = compared("none")
    assert comparison.groups[0] == ("a", "b")
    assert comparison.pairs.empty
    assert not comparison.differ("a", "c")
    assert not comparison.places["is_best"].any()
    assert comparison.ranked == comparison.groups


def test_a_method_that_lacks_too_much_is_left_out() -> None:
    table = values()
    table[:30, 4] = NAN
    comparison = compare_methods(table, np.arange(40), "abcde", "lower", "mean")
    assert comparison is not None
    assert comparison.left_out == ("e",)
    assert "e" not in comparison.places.index
    assert comparison.images == 40


def test_quick_comparisons_have_no_intervals() -> None:
    quick, full = compared(intervals=False), compared()
    assert quick.pairs["p"].tolist() == full.pairs["p"].tolist()
    assert quick.pairs[["low", "high", "detectable"]].isna().all(axis=None)
    assert full.pairs[["low", "high", "detectable"]].notna().all(axis=None)


def stored(replicates: dict[str, list[float]], images: int = 30) -> pd.DataFrame:
    """Values of the whole data set: each method's is the mean of its replicates."""
    rows = [
        {"method": name, "images": images, "common_images": images, "common_rows": images, "common_replicates": points,
         "common_value": float(np.mean(points)) if points else 0.5}
        for name, points in replicates.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_whole_sets_are_compared_by_their_resamples() -> None:
    generator = np.random.default_rng(3)
    shared = generator.normal(0.5, 0.1, 200)
    points = {"a": shared.tolist(), "b": shared.tolist(), "c": (shared + generator.normal(0.1, 0.01, 200)).tolist()}
    comparison = compare_whole_sets(stored(points), "higher")
    assert comparison is not None
    assert comparison.groups == (("a", "b"), ("c",))
    assert comparison.of_whole_set
    pair = comparison.pair("c", "a")  # the resamples' own spread of 0.1 cancels
    assert pair["difference"] == pytest.approx(0.1, abs=0.01)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(1.96 * 0.01, rel=0.2)
    assert comparison.place("c").is_best
    assert comparison.place("c").value_high - comparison.place("c").value == pytest.approx(1.96 * 0.1, rel=0.2)


def test_without_resamples_nothing_can_be_told() -> None:
    comparison = compare_whole_sets(stored({"a": [], "b": [0.7, 0.8, 0.9]}), "higher")
    assert comparison is not None
    assert math.isnan(comparison.pair("a", "b")["p"])
    assert not comparison.places["is_best"].any()


def test_a_run_compares_once(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    setting = run.settings[0]
    comparison = run.comparisons.of(setting, "conservation_error")
    assert comparison is run.comparisons.of(setting, "conservation_error")
    assert comparison is not None
    assert ("xgrad_cam", "hires_cam") in comparison.groups  # tie by construction of the fixture
    assert best_methods(run, setting, "conservation_error") == {"grad_cam"}
    assert run.comparisons.of(setting, "zeta") is None  # of the layer alone


def test_pairs_are_the_same_however_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = compared().pairs
    monkeypatch.setattr(comparison_module, "AT_ONCE", 1)
    pd.testing.assert_frame_equal(compared().pairs, at_once, rtol=1e-12)


def test_threads_compare_as_one_does(
    make_run: Callable[..., Path], make_records: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(make_records(20), pictures=False)
    alone, threads = RunFolder.read(folder), RunFolder.read(folder)
    monkeypatch.setattr(run_folder, "MANY", 0)
    threads.compare_all()
    assert threads.comparisons._computed
    pd.testing.assert_frame_equal(threads.summary, alone.summary)
    pd.testing.assert_frame_equal(threads.split_summary, alone.split_summary)
    for (setting, metric), comparison in threads.comparisons._computed.items():
        expected = alone.comparisons.of(setting, metric)
        assert (comparison is None) == (expected is None)
        if comparison is not None and expected is not None:
            pd.testing.assert_frame_equal(comparison.places, expected.places)
            pd.testing.assert_frame_equal(comparison.pairs, expected.pairs)
