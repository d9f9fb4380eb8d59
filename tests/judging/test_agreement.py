"""Do images, halves of them and metrics agree on the order of methods: closed forms and brute force."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import kendalltau, norm, spearmanr

from axiom_bench.judging.agreement import (
    ImageValues,
    agreement,
    centres,
    disagreement,
    drawn,
    images_for,
    images_needed,
    interval_alpha,
    ordinal_scores,
    range_needed,
    rankings,
    signs,
    split_half_agreement,
    split_halves,
    subsets,
    tau_b,
)
from axiom_bench.statistics.bootstrap import resamples
from axiom_bench.statistics.paired_tests import means_by_image

NAN = float("nan")
# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, example D: four coders, twelve units.
CODERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
ONCE = np.ones((1, 4), dtype=np.uint8)


def by_definition(ratings, ordinal=True):
    """1 - D_o / D_e with the metric as it is published, pair by pair."""
    units = [column[np.isfinite(column)] for column in ratings.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = np.concatenate(units)
    values, counts = np.unique(everything, return_counts=True)

    def squared(first, second):
        if not ordinal:
            return float((first - second) ** 2)
        low, high = sorted((first, second))
        between = counts[(values >= low) & (values <= high)].sum()
        ends = counts[values == low].sum() + counts[values == high].sum()
        return float((between - ends / 2) ** 2)

    number = len(everything)
    observed = sum(sum(squared(*pair) for pair in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / number
    expected = 2 * sum(squared(*pair) for pair in combinations(everything, 2)) / (number * (number - 1))
    return 1 - observed / expected


def test_the_published_case():
    """0.815 for the ordinal metric and 0.849 for the interval metric, as published."""
    assert interval_alpha(ordinal_scores(CODERS), ONCE)[0] == pytest.approx(0.815, abs=5e-4)
    can_be_paired = np.where(np.isfinite(CODERS).sum(axis=0) > 1, CODERS, NAN)
    assert interval_alpha(can_be_paired, ONCE)[0] == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("levels", [3, 100])
def test_as_by_definition(missing, levels):
    """With ties and missing values; 1e-10, since the definition's sums of squares are large."""
    generator = np.random.default_rng(0)
    for _ in range(5):
        ratings = generator.integers(0, levels, (6, 5)) + np.arange(5.0)
        ratings[generator.random(ratings.shape) < missing] = NAN
        assert interval_alpha(ordinal_scores(ratings), np.ones((1, 6), dtype=np.uint8))[0] == pytest.approx(
            by_definition(ratings), abs=1e-10
        )


def test_of_rankings_without_ties_it_is_the_mean_of_spearmans():
    """alpha = r + (1 - r) / (n m) with r the mean over pairs of n images, m methods: by expanding both squares."""
    values = np.random.default_rng(1).normal(size=(5, 7)) + np.arange(7)
    mean = np.mean([spearmanr(values[i], values[j]).statistic for i, j in combinations(range(5), 2)])
    assert agreement(values)[0] == pytest.approx(mean + (1 - mean) / 35, abs=1e-12)


def test_limits():
    same = np.tile(np.array([3.0, 1.0, 2.0, 5.0]), (20, 1))
    assert agreement(same) == pytest.approx((1, 1, 1))
    assert np.isnan(agreement(np.zeros((20, 4)))[0])  # all tie everywhere
    noise = np.random.default_rng(0).normal(size=(200, 8))
    low, high = agreement(noise)[1:]
    assert low < 0.01 < 0.05 > high > 0
    opposite = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert agreement(opposite)[0] == pytest.approx(-1 + 2 / 6)  # r = -1
    assert np.isfinite(agreement(noise[:9])).tolist() == [True, False, False]  # few images have no interval


def test_ranks_of_ties_of_rounding_and_of_missing_values():
    ranks = rankings(np.array([[0.1, 0.1 + 1e-8, 0.3, 0.2], [5.0, NAN, 4.0, NAN], [NAN, NAN, NAN, 1.0]]))
    assert ranks[0].tolist() == [1.5, 1.5, 4, 3]
    # Of two values among four methods the ranks are in the middle of each half.
    assert ranks[1] == pytest.approx([3.5, NAN, 1.5, NAN], nan_ok=True)
    assert ranks[2] == pytest.approx([NAN, NAN, NAN, 2.5], nan_ok=True)


def test_an_image_is_never_paired_with_itself():
    """Resamples hold images twice: counted as agreement they would raise alpha by 1/n, at 12 images by 0.08."""
    scores = ordinal_scores(rankings(np.random.default_rng(3).normal(size=(12, 40))))
    alpha = interval_alpha(scores, np.ones((1, 12), dtype=np.uint8))[0]
    resampled = interval_alpha(scores, drawn(12)).mean()
    assert abs(resampled - alpha) < 0.005


def of_methods(values, lead="mean"):
    return metric_of("metric", values, lead=lead, methods=tuple(map(str, range(values.shape[1]))))


def test_tau_b_is_scipys():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 20, 8)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert tau_b(signs(first), signs(second)) == pytest.approx(expected, abs=1e-6)  # signs are float32, sums exact
    # What is rounding and what is missing ties.
    assert signs(np.array([1.0, 1 + 1e-8, 0.5, NAN])).tolist() == [0, 1, 0, 1, 0, 0]
    assert signs(np.array([1.0, 2.0]), ([1], [0])).tolist() == [1]


def test_methods_that_differ_on_every_image_are_in_one_order():
    values = np.arange(4.0) + np.random.default_rng(0).uniform(-0.4, 0.4, (30, 4))
    halves = split_half_agreement(of_methods(values))
    assert (halves.tau, halves.half) == (1, 15)
    assert halves.needed == pytest.approx(0, abs=1e-6)


def test_of_noise_tau_is_about_0_and_no_number_of_images_is_enough():
    """Halves of one set are as independent sets; the mean of so many methods' tau has an error of about 0.03."""
    generator = np.random.default_rng(0)
    taus = [split_half_agreement(of_methods(generator.normal(size=(40, 12)))).tau for _ in range(30)]
    assert abs(np.mean(taus)) < 0.1
    assert images_needed(-0.01, 20) == math.inf
    assert math.isnan(images_needed(NAN, 20))


def test_of_normal_differences_the_formula_is_exact():
    """Methods' means from N(0, 1), errors of n images from N(0, s^2 / n): the orders of two sets of images have
    correlation r = 1 / (1 + s^2 / n), so tau = 2 / pi asin(r) in the mean over methods."""

    def tau(images):
        return 2 / math.pi * math.asin(1 / (1 + 16 / images))

    for seen in (10, 40, 300):
        needed = images_needed(tau(seen), seen)
        assert tau(needed) == pytest.approx(0.9)
    generator = np.random.default_rng(0)
    means = generator.normal(size=(400, 12))
    first, second = (means + 4 / math.sqrt(40) * generator.normal(size=means.shape) for _ in range(2))
    assert tau_b(signs(first), signs(second)).mean() == pytest.approx(tau(40), abs=0.02)  # its error is 0.008


def test_the_leading_statistic_orders_the_methods():
    """One image in ten ruins the mean of the best method, and no median."""
    values = np.tile(np.array([1.0, 2.0, 3.0]), (60, 1)) + np.random.default_rng(0).uniform(0, 0.5, (60, 3))
    values[::10, 2] = -1000 * np.arange(1, 7)
    assert split_half_agreement(of_methods(values, "median")).tau == 1
    assert split_half_agreement(of_methods(values)).tau < 1


def test_images_without_all_values_order_nothing():
    values = np.arange(3.0) + np.random.default_rng(0).uniform(0, 0.5, (20, 3))
    values[:4, 1] = NAN
    assert split_half_agreement(of_methods(values)).half == 8
    assert math.isnan(split_half_agreement(of_methods(values[:5])).tau)


NAMES = tuple("abcdef")


def metric_of(name, values, better="higher", lead="mean", methods=NAMES):
    return ImageValues(name, methods, values, lead, better)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(30, 6)) + np.linspace(0, 1, 6)


def row_of(*metrics):
    (row,) = disagreement(list(metrics)).itertuples()
    return row


def test_the_same_order_is_1_and_the_opposite_order_is_minus_1(values):
    table = disagreement([metric_of("up", values), metric_of("twice", 2 * values), metric_of("down", values, "lower")])
    taus = {(row.column, row.row): row.tau for row in table.itertuples()}
    assert taus == pytest.approx({("up", "twice"): 1, ("up", "down"): -1, ("twice", "down"): -1})
    assert (table["methods"] == 6).all()
    assert table.loc[table["tau"] > 0, ["low", "high"]].to_numpy() == pytest.approx(1)
    few = row_of(metric_of("one", values[:9]), metric_of("two", values[:9]))
    assert [few.tau, few.low, few.high] == pytest.approx([1, NAN, NAN], nan_ok=True)


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_as_one_resample_at_a_time(values, lead):
    other = values[:, ::-1] * 0.3 + np.random.default_rng(1).normal(size=values.shape)
    row = row_of(metric_of("first", values, lead=lead), metric_of("second", other, "lower"))
    centre = np.mean if lead == "mean" else np.median
    # Exact to float64: rounded to float32 the ends of an interval of one value left that value out.
    assert row.tau == pytest.approx(kendalltau(centre(values, axis=0), -other.mean(axis=0)).statistic, abs=1e-15)
    taus = []
    for counts in resamples(30):
        drawn = np.repeat(np.arange(30), counts.astype(int))
        taus.append(kendalltau(centre(values[drawn], axis=0), -other[drawn].mean(axis=0)).statistic)
    # One of 1,000 resamples more or less at the ends: a step of tau over 15 pairs is 2 / 15.
    assert [row.low, row.high] == pytest.approx(np.quantile(taus, [0.025, 0.975]), abs=2 / 15 + 1e-6)
    assert min(taus) - 1e-9 <= row.low <= row.high <= max(taus) + 1e-9


def test_only_methods_that_both_have_and_images_that_all_methods_have(values):
    short = values[:, :4].copy()
    short[0, 2] = NAN
    row = row_of(metric_of("all", values), metric_of("some", short, methods=NAMES[:4]))
    expected = kendalltau(values[:, :4].mean(axis=0), short[1:].mean(axis=0)).statistic
    assert (row.methods, row.tau) == (4, pytest.approx(expected))
    copies = np.concatenate([values[:, :4]] * 2, axis=1)  # methods that coincide count once
    assert row_of(*(metric_of(name, copies, methods=tuple("abcdefgh")) for name in ("one", "two"))).methods == 4


def test_metrics_without_a_direction_or_that_tell_nothing_apart_have_none(values):
    few = metric_of("few", values[:, :3], methods=NAMES[:3])
    others = [few, metric_of("none", values, "none"), metric_of("flat", np.zeros_like(values))]
    for metrics in ([], [metric_of("one", values)], *([metric_of("one", values), other] for other in others)):
        assert disagreement(metrics).empty, metrics


def test_rows_of_an_image_are_averaged():
    values = np.array([[1.0, NAN], [3.0, NAN], [5.0, 6.0], [NAN, 8.0]])
    assert means_by_image(values, np.array([0, 0, 1, 1])) == pytest.approx(np.array([[2, NAN], [5, 7]]), nan_ok=True)


@pytest.mark.parametrize("lead", ["mean", "median"])
def test_centres_of_samples_are_those_of_a_loop(lead):
    generator = np.random.default_rng(0)
    values, weights = generator.integers(0, 9, (11, 3)).astype(float), generator.integers(0, 4, (50, 11))
    values[generator.random(values.shape) < 0.2] = NAN
    weights[0] = 0
    centre = np.nanmean if lead == "mean" else np.nanmedian
    expected = [centre(np.repeat(values, counts, axis=0), axis=0) for counts in weights[1:]]
    found = centres(values, weights.astype(np.uint8), lead)
    assert found[1:] == pytest.approx(np.array(expected))
    assert np.isnan(found[0]).all()


def test_samples_of_images():
    first, second = split_halves(7, 20)
    assert {*first.sum(axis=1), *second.sum(axis=1)} == {3}
    assert not (first & second).any()
    assert (subsets(30, 10, 50).sum(axis=1) == 10).all()
    assert subsets(30, 30, 50).tolist() == [[1] * 30]
    assert (drawn(40).sum(axis=1) == 40).all()
    assert drawn(2500).shape == (1000, 2500)  # groups of two and three images are drawn together
    assert drawn(2500).sum() == pytest.approx(2_500_000, rel=0.01)


def test_methods_that_coincide_are_one_and_one_with_gaps_is_not_compared():
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[:, 2] = values[:, 0]
    values[:3, 3] = NAN
    made = ImageValues("metric", ("a", "b", "twin", "gaps"), values, "mean", "lower")
    assert made.compared().methods == ("a", "b", "twin")
    assert made.compared().distinct().methods == ("a", "b")
    assert made.sign == -1


def test_the_range_of_images_needed_of_one_pair_is_in_closed_form():
    """(2 Phi(sqrt(n) d / s) - 1)^2 = 0.9, of a difference that is moved by half of its standard error."""
    images = np.random.default_rng(0).normal(0.2, 1, 400)
    values = np.column_stack([images, np.zeros(400)])
    quantile = norm.ppf((1 + math.sqrt(0.9)) / 2)
    mean, error = images.mean(), images.std()
    expected = [(quantile * error / (mean + side * error / 20)) ** 2 for side in (0.5, -0.5)]
    assert range_needed(values, "mean") == pytest.approx(expected, rel=0.05)  # 2,000 resamples know errors to 1.6 %
    assert range_needed(values[:, [0, 0]], "mean") == (math.inf, math.inf)
    assert range_needed(values + np.array([100.0, 0.0]), "mean") == (1, 1)


@pytest.mark.parametrize("means", ["normal", "equal steps", "two far below", "three groups"])
@pytest.mark.parametrize("images", [32, 128])
def test_the_range_holds_the_images_that_the_methods_true_means_need(means, images):
    """Where some methods are almost equal (three groups) in 85 % and more, else in 95 %; 40 simulated benchmarks."""
    held = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        true = {
            "normal": generator.normal(size=10),
            "equal steps": np.linspace(-1.5, 1.5, 10),
            "two far below": np.concatenate([[-4, -3], generator.normal(0, 0.5, 8)]),
            "three groups": np.repeat([-1, 0, 1], [3, 3, 4]) + generator.normal(0, 0.1, 10),
        }[means]
        first, second = np.triu_indices(10, 1)
        needed = images_for(np.abs(true[first] - true[second]), np.full(len(first), 2 * math.sqrt(2)))
        least, most = range_needed(true + 2 * generator.normal(size=(images, 10)), "mean")
        held.append(least <= needed <= most)
    assert np.mean(held) >= (0.85 if means == "three groups" else 0.95)
