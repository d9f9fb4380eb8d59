"""Recovery: shares of right pairs in closed form, and which methods are pairs at all."""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest

from axiom_bench.judging.agreement import ImageValues
from axiom_bench.judging.judgement import ALL, Spoiling, kinds, recovery

NAN = float("nan")
NOISE = Spoiling("noise", ("truth", "half", "all"), (0.0, 0.5, 1.0))
BLUR = Spoiling("blur", ("truth", "blurred"), (0.0, 1.0))


def made(values: np.ndarray, methods: tuple[str, ...] = NOISE.methods, better: str = "higher", lead: str = "mean"):
    return ImageValues("metric", methods, np.asarray(values, dtype=float), lead, better)


def right(values: ImageValues, kind: str = "noise", spoilings: tuple[Spoiling, ...] = (NOISE,)) -> list[float]:
    """At n = 1, 10, 100."""
    table = recovery(values, spoilings)
    return table.loc[table["kind"] == kind, "right"].tolist()


def test_kinds_of_metadata() -> None:
    about = {
        "truth": {},
        "noise_100": {"spoiling": "noise", "degree": 1.0, "unspoiled": "truth"},
        "noise_50": {"spoiling": "noise", "degree": 0.5, "unspoiled": "truth"},
        "blur_100": {"spoiling": "blur", "degree": 1, "unspoiled": "gone"},
        "random": {"control": True},
    }
    assert kinds(about) == [Spoiling("noise", ("truth", "noise_50", "noise_100"), (0.0, 0.5, 1.0))]


def test_only_degrees_of_one_kind_are_pairs() -> None:
    assert NOISE.pairs(["truth", "all", "blurred"]) == [("truth", "all")]
    twice = Spoiling("noise", ("a", "b", "c"), (0.5, 0.5, 1.0))
    assert twice.pairs(["a", "b", "c"]) == [("a", "c"), ("b", "c")]


def test_always_right_always_wrong_and_ties() -> None:
    values = np.tile([3.0, 2.0, 1.0], (120, 1))
    assert right(made(values)) == [1, 1, 1]
    assert right(made(values, better="lower")) == [0, 0, 0]
    assert right(made(np.tile([1.0, 1.0, 1.0 + 1e-9], (120, 1)))) == [0.5, 0.5, 0.5]
    assert recovery(made(values, better="none"), (NOISE,)).empty


def test_single_images_are_counted() -> None:
    """Three of four images are right in truth > half, half of them tie half and all."""
    values = [[2, 1, 1], [2, 1, 0], [2, 1, 1], [1, 2, 0]]
    table = recovery(made(values), (NOISE,))
    # pairs: (truth, half) 3/4, (truth, all) 4/4, (half, all) (1/2 + 1 + 1/2 + 1) / 4
    assert table.loc[0, "right"] == pytest.approx((0.75 + 1 + 0.75) / 3)
    assert table["right"].isna().tolist() == [False, False, True, True, True, True]  # four images: no ten


def test_sets_of_images_are_all_subsets() -> None:
    """Of 12 images all sets of 10, by a loop; random sets come close: 1,000 of them have an error of at most 0.016."""
    values = np.random.default_rng(2).normal(size=(12, 2))
    values += [0.05, 0] - values.mean(axis=0)
    means = [values[list(chosen)].mean(axis=0) for chosen in combinations(range(12), 10)]
    expected = np.mean([first > second for first, second in means])
    assert 0.1 < expected < 0.9
    assert right(made(values, ("truth", "all")))[1] == pytest.approx(expected, abs=0.06)


def test_the_share_is_that_of_the_population() -> None:
    """Differences from N(0.2, 1): sets of n are right in Phi(0.2 sqrt(n)); the mean over 40 sets of 150 images."""
    generator, shares = np.random.default_rng(0), []
    for _ in range(40):
        difference = generator.normal(0.2, 1, 150)
        shares.append(right(made(np.stack([difference, np.zeros(150)], axis=1), ("truth", "all"))))
    expected = [NormalDist().cdf(0.2 * n**0.5) for n in (1, 10, 100)]
    assert np.mean(shares, axis=0) == pytest.approx(expected, abs=0.06)


def test_the_interval_holds_the_share_and_is_narrow_where_it_is_sure() -> None:
    sure = recovery(made(np.array([3.0, 2.0, 1.0]) + np.random.default_rng(0).normal(0, 0.3, (200, 3))), (NOISE,))
    assert sure[sure["size"] == 100][["low", "high"]].to_numpy() == pytest.approx(1, abs=1e-6)
    unsure = recovery(made(np.random.default_rng(0).normal(size=(200, 3))), (NOISE,))
    assert (unsure["low"] <= unsure["right"]).all()
    assert (unsure["right"] <= unsure["high"]).all()
    widths = (unsure["high"] - unsure["low"]).tolist()
    assert widths[0] < 0.2 < 0.3 < widths[-1]
    few = recovery(made(np.random.default_rng(0).normal(size=(9, 3))), (NOISE,))
    assert few["low"].isna().all()


def test_a_pair_counts_on_images_where_both_have_values() -> None:
    """The first half of the images lacks `all`; where it is there, it is wrong."""
    values = np.tile([2.0, 1.0, 3.0], (20, 1))
    values[:10, 2] = NAN
    table = recovery(made(values), (NOISE,))
    assert table.loc[0, "missing"] == pytest.approx(1 / 3)  # of two of three pairs half
    assert table.loc[0, "right"] == pytest.approx(1 / 3)  # truth > half alone
    nowhere = values.copy()
    nowhere[:, 2] = NAN
    assert right(made(nowhere[:, :2], ("truth", "half")))[0] == 1


def test_all_kinds_together_count_pairs() -> None:
    values = np.tile([3.0, 2.0, 1.0, 4.0], (30, 1))
    methods = (*NOISE.methods, "blurred")
    assert right(made(values, methods), ALL, (NOISE, BLUR))[0] == pytest.approx(3 / 4)
    assert right(made(values, methods), "blur", (NOISE, BLUR))[0] == 0


def test_the_median_decides_where_tables_lead_with_it() -> None:
    values = np.tile([1.0, 2.0], (30, 1))
    values[:3, 0] = 1000
    methods = ("truth", "all")
    assert right(made(values, methods, "lower", "median"))[1] == pytest.approx(1, abs=0.01)
    assert right(made(values, methods, "lower", "mean"))[1] < 0.6
