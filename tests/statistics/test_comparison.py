"""Tests of the comparison of a metric's methods: coinciding groups, places, and bold methods."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from axiom_bench.statistics import paired_tests, run_folder
from axiom_bench.statistics.bootstrap import LEVEL, difference_intervals
from axiom_bench.statistics.comparison import compare_methods, compare_whole_sets
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.paired_tests import coinciding, holm
from axiom_bench.statistics.ranking import best_methods
from axiom_bench.statistics.run_folder import RunFolder

NAN = float("nan")


def values(count=40):
    """Return the values of methods a to e as columns.

    b equals a except for rounding, c is clearly above them, d differs from c only by noise, and e
    is far above all.
    """
    generator = np.random.default_rng(0)
    a = generator.normal(5, 1, count)
    noise = generator.normal(0, 0.5, (3, count))
    b = a * (1 + 1e-7)
    c = a + 1 + noise[0]
    d = a + 1 + noise[1]
    e = a + 9 + noise[2]
    return np.stack([a, b, c, d, e], axis=1)


def metric(better="lower", kind="unbounded"):
    return Value("m", "M", better=better, kind=kind)


def compared(better="lower", table=None, **options):
    table = values() if table is None else table
    names = "abcde"[: table.shape[1]]
    return compare_methods(table, np.arange(len(table)), names, metric(better), **options)


def places(comparison):
    """Return each method's lowest place, highest place, and True if it is best."""
    found = {}
    for name, row in comparison.places.iterrows():
        found[str(name)] = (row.place_low, row.place_high, row.is_best)
    return found


def best_in(comparison):
    return {name for name, (_, _, is_best) in places(comparison).items() if is_best}


def test_methods_that_coincide_are_one():
    comparison = compared()
    assert comparison.groups == (("a", "b"), ("c",), ("d",), ("e",))
    assert comparison.group_of("b") == ("a", "b")
    assert len(comparison.pairs) == 6
    assert comparison.pairs["adjusted"].tolist() == holm(comparison.pairs["p"])
    # Values that are missing on different images don't coincide.
    table = np.array([[1.0, 1.0, NAN], [2.0, NAN, 2.0], [3.0, 3.0, 3.0]])
    assert coinciding(table, "xyz") == (("x",), ("y",), ("z",))
    assert coinciding(np.full((2, 2), NAN), "xy") == (("x", "y"),)


@pytest.mark.parametrize("kind", ["unbounded", "ratio"])
def test_a_difference_is_that_of_the_two_values_and_counts_an_image_by_its_rows(kind):
    """The methods differ more on images with three objects. A mean over images first would be 2,
    not 2.5.
    """
    images = np.repeat(np.arange(40), np.where(np.arange(40) % 2, 1, 3))
    own = np.random.default_rng(3).normal(0, 0.2, (2, len(images)))
    first = own[0] + np.where(np.bincount(images)[images] == 3, 3.0, 1.0)
    table = np.stack([first, own[1]], axis=1)

    comparison = compare_methods(table, images, "xy", metric("higher", kind))

    x = comparison.place("x").value
    y = comparison.place("y").value
    pair = comparison.pair("x", "y")
    assert pair["difference"] == pytest.approx(x - y, rel=1e-12)
    assert pair["low"] < pair["difference"] < pair["high"]
    if kind == "unbounded":
        assert pair["difference"] == pytest.approx(2.5, abs=0.1)
        _, *ends = difference_intervals((first - own[1])[:, None], images)[:, 0].tolist()
        assert [pair["low"], pair["high"]] == pytest.approx(ends)
    assert (pair["n"], pair["better"], pair["worse"]) == (40, 40, 0)


KINDS = ("unbounded", "ratio", "proportion", "bounded")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_value_interval_test_place_and_bold_agree(seed, kind):
    """Check runs with random spreads, shapes, shares of ties and numbers of rows.

    A bold method isn't significantly worse than any method, and its value is no worse than that of
    a method that isn't bold. If any method is bold, the one with the best value is. A significantly
    better method has the better value, an interval on its side of 0, and the better place.
    """
    generator = np.random.default_rng(seed)
    images = np.repeat(np.arange(60), generator.integers(1, 1 + generator.integers(1, 20), 60))
    shared = generator.normal(size=(len(images), 1))
    spread = generator.uniform(0.05, 2, 6)
    table = shared + spread * generator.normal(size=(len(images), 6))
    table += generator.normal(0, 0.4, 6)
    table[:, ::2] = np.exp(table[:, ::2])
    table[:, 3] = np.maximum(table[:, 3].round(), 0)
    table[: generator.integers(1, 5), 4] += 30  # a few outliers
    if kind == "proportion":
        table = (table > 0.5).astype(float)
    better = ("lower", "higher")[seed % 2]
    sign = 1 if better == "higher" else -1

    comparison = compare_methods(table, images, "abcdef", metric(better, kind))

    firsts = [group[0] for group in comparison.groups]
    beaten = set()
    for pair in comparison.pairs.to_dict("records"):
        first = comparison.place(pair["first"])
        second = comparison.place(pair["second"])
        assert pair["difference"] == first.value - second.value
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert 0 <= pair["p"] <= 1
        assert (pair["p"] < LEVEL) <= (pair["low"] > 0 or pair["high"] < 0)
        if pair["adjusted"] < LEVEL:
            is_ahead = sign * pair["difference"] > 0
            winner, loser = (first, second) if is_ahead else (second, first)
            assert sign * winner.value > sign * loser.value
            assert winner.place_low <= loser.place_high
            assert winner.place_high < len(firsts)
            beaten.add(pair["second"] if is_ahead else pair["first"])
    for name in firsts:
        assert (comparison.place(name).place_low > 1) == (name in beaten)
    ranked = [group[0] for group in comparison.ranked]
    is_bold = [comparison.place(name).is_best for name in ranked]
    assert is_bold == sorted(is_bold, reverse=True)
    assert is_bold[0] == bool(beaten)
    assert not beaten & {name for name in ranked if comparison.place(name).is_best}


def test_who_is_beaten_by_another_than_the_best_is_not_bold():
    """The method with the best mean varies too much to beat any other. The second best varies
    little and beats the third.
    """
    noise = np.random.default_rng(0).normal(size=(64, 3))
    table = np.array([0.6, 0.51, 0.484]) + np.array([6, 0.03, 0.03]) * noise
    table[:, 0] += 0.6 - table[:, 0].mean()
    comparison = compared("higher", table)
    assert comparison.ranked == (("a",), ("b",), ("c",))
    assert not comparison.is_significant("a", "c")
    assert places(comparison) == {"a": (1, 3, True), "b": (1, 2, True), "c": (2, 3, False)}


def test_small_outputs_are_told_apart_by_their_own_spread():
    """The values are those of a last layer whose outputs are multiplied by 1e-4.

    Squared scores of 5.4e-10 and 1.1e-9 differ by more than float32's rounding.
    """
    table = np.abs(np.random.default_rng(0).normal(1, 0.2, (60, 3))) * [5.4e-10, 5.4e-10, 1.1e-9]
    table[:, 1] = table[:, 0] * (1 + 1e-7)
    images = np.arange(60)

    small = compare_methods(table, images, "abc", metric("lower", "squared"))
    large = compare_methods(table * 1e8, images, "abc", metric("lower", "squared"))

    assert small.groups == large.groups == (("a", "b"), ("c",))
    assert small.pairs["p"].tolist() == pytest.approx(large.pairs["p"].tolist())
    shares = compare_methods(table, images, "abc", metric("lower", "bounded"))
    assert shares.groups == (("a", "b", "c"),)


def test_places_and_the_best():
    comparison = compared()
    expected = {
        "a": (1, 1, True),
        "b": (1, 1, True),
        "c": (2, 3, False),
        "d": (2, 3, False),
        "e": (4, 4, False),
    }
    assert places(comparison) == expected
    assert comparison.ranked[0] == ("a", "b")
    assert comparison.not_worse == ()

    opposite = compared("higher")
    assert opposite.ranked[0] == ("e",)
    assert [opposite.place(name).is_best for name in "abcde"] == [False, False, False, False, True]

    undecided = compared(table=values()[:, 2:])
    assert places(undecided) == {"a": (1, 2, True), "b": (1, 2, True), "c": (3, 3, False)}

    noise = compared(table=np.random.default_rng(1).normal(size=(20, 3)))
    assert places(noise) == dict.fromkeys("abc", (1, 3, False))
    assert len(noise.not_worse) == 2


@pytest.mark.parametrize(
    ("controls", "unbeaten", "best"),
    [
        ("e", (), {"a", "b"}),  # the worst
        ("cd", (), {"a", "b"}),
        ("b", ("b",), set()),  # the best, with a method that coincides with it
        ("abcd", ("a", "b", "c", "d"), set()),  # one beats another, which no method does
    ],
)
def test_nobody_is_best_where_a_control_is_unbeaten(controls, unbeaten, best):
    comparison = compared(controls=controls)
    assert comparison.unbeaten == unbeaten
    assert best_in(comparison) == best
    assert places(compared()).keys() == places(comparison).keys()


@pytest.mark.parametrize("controls", ["", "a", "e"])
def test_nobody_is_best_where_what_explains_nothing_reaches_the_best_value(controls):
    value = replace(metric(), reached_by="equal shares")
    images = np.arange(len(values()))
    comparison = compare_methods(values(), images, "abcde", value, controls=controls)
    assert not best_in(comparison)
    assert comparison.is_significant("a", "e")  # pairs are tested as before


def test_a_control_that_varies_too_much_to_be_beaten_is_unbeaten():
    noise = np.random.default_rng(0).normal(size=(64, 3))
    table = np.array([0.6, 0.51, 0.484]) + np.array([0.03, 6, 0.03]) * noise
    assert compared("higher", table).place("a").is_best
    assert compared("higher", table, controls="b").unbeaten == ("b",)

    # If no methods differ, none is best in any case.
    noise = np.random.default_rng(1).normal(size=(20, 3))
    assert compared(table=noise, controls="a").unbeaten == ()


def test_a_pair_is_seen_from_either_side():
    comparison = compared()
    pair = comparison.pair("a", "c")
    other = comparison.pair("c", "a")
    assert (pair["better"], pair["worse"]) == (other["worse"], other["better"])
    assert pair["difference"] == -other["difference"]
    assert (pair["low"], pair["high"]) == (-other["high"], -other["low"])
    assert comparison.is_significant("a", "c")
    assert not comparison.is_significant("c", "d")


def test_who_wins_by_construction_or_lacks_too_much_has_no_place():
    comparison = compared(constructed=["a"])
    assert comparison.by_construction == ("a",)
    assert list(comparison.places.index) == ["b", "c", "d", "e"]
    assert compare_methods(values(), np.arange(40), "abcde", metric(), "abcde") is None
    table = values()
    table[:30, 4] = NAN
    comparison = compared(table=table)
    assert comparison.left_out == ("e",)
    assert "e" not in comparison.places.index
    assert comparison.images == 40


def test_without_a_direction_there_are_only_groups():
    comparison = compared("none")
    assert comparison.groups[0] == ("a", "b")
    assert comparison.pairs.empty
    assert comparison.contradicted == ()
    assert not comparison.is_significant("a", "c")
    assert not comparison.places["is_best"].any()
    assert comparison.ranked == comparison.groups


def test_pairs_are_the_same_however_many_are_in_memory(monkeypatch):
    full = compared()
    assert full.pairs[["low", "high", "detectable"]].notna().all(axis=None)
    monkeypatch.setattr(paired_tests, "AT_ONCE", 1)
    pd.testing.assert_frame_equal(compared().pairs, full.pairs, rtol=1e-12)


def stored(replicates, images=30):
    """Return values of the whole data set. Each method's value is the mean of its replicates."""
    table = pd.DataFrame({"method": list(replicates)})
    table["common_replicates"] = list(replicates.values())
    table["common_value"] = [
        float(np.mean(points)) if points else 0.5 for points in replicates.values()
    ]
    return table.assign(images=images, common_images=images, common_rows=images)


def test_whole_sets_are_compared_by_their_resamples():
    generator = np.random.default_rng(3)
    shared = generator.normal(0.5, 0.1, 200)
    other = shared + generator.normal(0.1, 0.01, 200)
    points = {"a": shared.tolist(), "b": shared.tolist(), "c": other.tolist()}

    comparison = compare_whole_sets(stored(points), metric("higher"))

    assert comparison.groups == (("a", "b"), ("c",))
    assert comparison.is_whole_set
    pair = comparison.pair("c", "a")  # the resamples' own spread of 0.1 cancels
    assert pair["difference"] == pytest.approx(0.1, abs=0.01)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(1.96 * 0.01, rel=0.2)
    assert comparison.place("c").is_best
    assert compare_whole_sets(stored(points), metric("higher"), controls="c").unbeaten == ("c",)
    place = comparison.place("c")
    assert place.value_high - place.value == pytest.approx(1.96 * 0.1, rel=0.2)
    assert place.value - place.value_low == pytest.approx(1.96 * 0.1, rel=0.2)

    of_one_image = stored({"a": [0.5], "b": [0.6]}, images=1)
    assert compare_whole_sets(of_one_image, metric("higher")).images == 1
    without = compare_whole_sets(stored({"a": [], "b": [0.7, 0.8, 0.9]}), metric("higher"))
    assert math.isnan(without.pair("a", "b")["p"])
    assert not without.places["is_best"].any()


def test_a_run_compares_once(usual):
    setting = usual.settings[0]
    comparison = usual.comparisons.of(setting, "conservation_error")
    assert comparison is usual.comparisons.of(setting, "conservation_error")
    assert ("xgrad_cam", "hires_cam") in comparison.groups  # tie by construction of the fixture
    assert best_methods(usual, setting, "conservation_error") == {"grad_cam"}
    assert usual.comparisons.of(setting, "zeta") is None  # a metric of the layer only


@pytest.mark.slow
def test_threads_compare_as_one_does(make_run, make_records, monkeypatch):
    records = make_records(20, methods={"grad_cam": {}, "xgrad_cam": {}, "random": {}})
    folder = make_run(records, pictures=False)
    alone = RunFolder.read(folder)
    threads = RunFolder.read(folder)
    monkeypatch.setattr(run_folder, "MANY", 0)

    threads.precompute()

    assert threads.comparisons._computed
    pd.testing.assert_frame_equal(threads.summary, alone.summary)
    pd.testing.assert_frame_equal(threads.split_summary, alone.split_summary)
    for (setting, metric, left_out), comparison in threads.comparisons._computed.items():
        expected = alone.comparisons.of(setting, metric, left_out)
        assert (comparison is None) == (expected is None)
        if comparison is not None and expected is not None:
            pd.testing.assert_frame_equal(comparison.places, expected.places)
            pd.testing.assert_frame_equal(comparison.pairs, expected.pairs)
