"""The tests of a metric, each a function (run, setting, metric) -> rows, and the list of all tests.

A test has a right answer that is known beforehand:

- Truth: a right explanation is ahead if no method and no control has a better value. It is first if
  none is significantly better.
- Degrees: right explanations that were spoiled to several degrees are in order.
- Controls: every method is above every control, which explains nothing.
- Reliability: two halves of the images put the methods in the same order.
- Sanity: what the metric's definition implies holds (`testing.relations`).
- Gaming: no map that is the same for every image is better than the best method (also
  `testing.gaming`).

A truth can't judge a metric if both are computed from the same things. Such a row is circular, and
doesn't count. In addition to tests there are measures, which can't be passed or failed.

Sanity, and gaming by maps that are made for each image, run the metric itself in networks of their
own. The package `testing` computes their values, because it may import torch. `gaming_row` judges
the values of gaming.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from axiom_bench.judging import agreement, judgement
from axiom_bench.judging.agreement import TAU, ImageValues, image_values
from axiom_bench.judging.judgement import (
    ALL,
    GOAL,
    MIN_METHODS,
    MOST_IMAGES,
    recovery,
    spoiled_methods,
)
from axiom_bench.statistics.bootstrap import LEVEL, mean_intervals
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, with_interval
from axiom_bench.statistics.paired_tests import are_equal, centre, tests
from axiom_bench.statistics.run_folder import RunFolder

# The names of tests.
TRUTH_AHEAD = "truth_ahead"
TRUTH_FIRST = "truth_first"
DEGREES = "degrees"
CONTROLS = "controls"
RELIABILITY = "reliability"
SANITY = "sanity"
GAMING = "gaming"
TRUTH_TESTS = (TRUTH_AHEAD, TRUTH_FIRST)

# The names of measures.
IMAGES_NEEDED = "images_needed"
PLACE = "place"

# Where a control is.
BEATS = "better than the best method"
FIRST = "first"
BELOW = "below"
UNCLEAR = "not significantly different from the best method"

FEW_METHODS = f"fewer than {MIN_METHODS} methods that differ"
EVERY = slice(None)  # all images
CONTRIBUTIONS = "contributions"  # in `computed_from`: the network's own contributions of channels
SHARE = 0.9  # the share of the networks on which a leading metric passes


@dataclass(frozen=True)
class MetricTest:
    """The texts about a test or a measure, and what a metric needs of it to lead a report."""

    title: str  # the heading of its column
    note: str = ""  # the note below a table that has the column
    is_measure: bool = False  # it can't be passed or failed
    # The share of its rows that must pass; None if a metric may lead without it.
    share: float | None = None
    is_required: bool = False  # a metric to which the test doesn't apply can't lead


TESTS = {
    TRUTH_AHEAD: MetricTest(
        "Truth ahead",
        "Truth: the share of images on which the right explanation is better than the best method "
        "or control. Ahead: none has a better value. Not significantly behind: none is "
        "significantly better.",
        share=SHARE,
        is_required=True,
    ),
    TRUTH_FIRST: MetricTest("Truth not significantly behind", share=1, is_required=True),
    DEGREES: MetricTest(
        "Degrees",
        "Degrees: the share of pairs of explanations, spoiled to two degrees in one way, that "
        "sets of up to 100 images put in the right order by the metric's mean (or median). A tie "
        "counts half.",
        share=SHARE,
        is_required=True,
    ),
    CONTROLS: MetricTest(
        "Controls",
        "Controls: the same for pairs of a method and a control, which explains nothing.",
        share=SHARE,
    ),
    RELIABILITY: MetricTest(
        "Reliability",
        "Reliability: Kendall's tau-b between the orders of the methods by two random halves of "
        "the images, the mean over 200 splits. Methods that coincide count as one.",
    ),
    SANITY: MetricTest("Sanity", share=1),
    GAMING: MetricTest(
        "Gaming",
        "Gaming: the share of images on which a map that is the same for all is better than the "
        "best method. One that is made for each image says how far the metric can be driven, and "
        "has no verdict.",
        share=1,
    ),
    IMAGES_NEEDED: MetricTest(
        "Images needed",
        "Images needed: half of the pairs of methods would differ significantly, with a "
        "probability of 80 %, with this number of images or fewer.",
        is_measure=True,
    ),
    PLACE: MetricTest(
        "Best control",
        "Best control: the control with the best value, its place and, in brackets, the places "
        "that can't be excluded.",
        is_measure=True,
    ),
}


class Row(NamedTuple):
    """One metric in one test, or measure, on one network.

    The meaning of `value` depends on the test:

    - truth_ahead, truth_first: the share of images on which the truth is better than its nearest
      rival. A tie counts half.
    - degrees, controls: the share of pairs that sets of images put in the right order.
    - reliability: Kendall's tau of two halves.
    - sanity: 1 if the relation holds.
    - gaming: the share of images on which the blind map is better than the method.
    - images_needed: see `Comparison.images_needed`.
    - place: the control's place, from 1. `low` and `high` are the places that can't be excluded.
    """

    metric: str
    test: str
    network: str  # the label of the setting
    # The method that is right, or the kinds of spoiling, or how a map was made to win. In a row of
    # a place, the control.
    truth: str = ""
    value: float = np.nan
    low: float = np.nan  # the ends of the 95 % interval
    high: float = np.nan
    n: int = 0  # the number of images; in a row of a place, the number of places
    circular: bool = False
    passes: bool | None = None  # None if the row doesn't count
    # The rival and the difference of the two values, or what else a reader would ask next.
    about: str = ""


def rows_of(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield the rows of all tests of one metric in one setting.

    A run with several blind maps, which are the same for every image, is a run for gaming.
    """
    is_blind = sum(bool(method.blind) for method in run.manifest.methods.values()) > 1
    for test in TESTS_OF_BLIND_RUNS if is_blind else TESTS_OF_RUNS:
        yield from test(run, setting, metric)


def places(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield a row for each control that is compared, the best first.

    Methods that coincide share a place. `about` is BEATS, UNCLEAR or BELOW according to the paired
    test against the best method that isn't a control, at 5 % after Holm over all pairs of the
    metric. It is FIRST if there is no such method.
    """
    controls = run.metadata.controls
    comparison = _comparison(run, setting, metric)
    if comparison is None or comparison.better == "none":
        return
    best = next((group for group in comparison.ranked if controls.isdisjoint(group)), None)
    for number, group in enumerate(comparison.ranked, start=1):
        if controls.isdisjoint(group):
            continue
        against = FIRST if best is None else UNCLEAR
        # A significant difference says only that they differ; the order says which one is better.
        if best is not None and comparison.is_significant(group[0], best[0]):
            against = BEATS if number <= comparison.ranked.index(best) else BELOW
        place = comparison.place(group[0])
        for name in group:
            if name in controls:
                yield Row(
                    metric,
                    PLACE,
                    run.label(setting),
                    truth=name,
                    value=number,
                    low=place.place_low,
                    high=place.place_high,
                    n=len(comparison.groups),
                    about=against,
                )


def truth(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield the rows of both tests of each truth: no rival is ahead, none is significantly
    ahead.
    """
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    for name in truths(run):
        comparison = run.comparisons.of(setting, metric, spoiled_methods(run) - {name})
        if comparison is None or name not in comparison.places.index or len(comparison.places) < 2:
            continue
        own = comparison.group_of(name)
        circular = is_circular(run, setting, metric, name)
        row = Row(metric, "", run.label(setting), name, n=comparison.images, circular=circular)
        others = [group for group in comparison.ranked if group != own]
        if not others:  # all methods coincide with the truth
            row = row._replace(value=0.5, low=0.5, high=0.5, passes=True)
            for test in TRUTH_TESTS:
                yield row._replace(test=test)
            continue
        # `about` describes the rival: it is behind or ahead by a positive difference.
        rival = others[0][0]
        pair = comparison.pair(own[0], rival)
        difference = values.sign * pair["difference"]
        ends = [values.sign * pair["low"], values.sign * pair["high"]]
        is_ahead = bool(difference >= 0)
        if not is_ahead:
            ends = [-end for end in ends]
        low_end, high_end = sorted(ends)
        text = with_interval(abs(difference), low_end, high_end)
        about = f"behind by {text}" if is_ahead else f"ahead by {text}"
        better_groups = [
            group
            for group in others
            if values.sign * comparison.pair(own[0], group[0])["difference"] < 0
        ]
        is_behind = any(comparison.is_significant(own[0], group[0]) for group in better_groups)
        value, low, high = _share_ahead(values, name, rival)
        row = row._replace(
            value=value, low=low, high=high, about=f"{run.metadata.method_title(rival)} {about}"
        )
        for test, passes in zip(TRUTH_TESTS, (is_ahead, not is_behind), strict=True):
            yield row._replace(test=test, passes=None if circular else passes)


def truths(run: RunFolder) -> list[str]:
    """Return the methods that are right by construction.

    Their metadata say what they are computed from.
    """
    return [name for name, method in run.manifest.methods.items() if method.computed_from]


def is_circular(run: RunFolder, setting: Setting, metric: str, truth: str) -> bool:
    """Return whether a metric and a truth are computed from the same things.

    The network's scores and the map don't count. A truth may have two forms: it is computed from
    the network's own contributions if the network has them, otherwise from effects of the image's
    parts.
    """
    sources = set(run.metadata.method(truth).computed_from)
    if CONTRIBUTIONS in sources:
        has_contributions = run.metadata.model(setting.model).tells_contributions
        sources = {CONTRIBUTIONS} if has_contributions else sources - {CONTRIBUTIONS}
    return bool(sources & set(run.metadata.metric(metric).computed_from))


def degrees(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield one row of the kinds of spoiling that can judge the metric.

    If all of them are circular, the row is one of these. There is no row if there are too few
    images for an interval.
    """
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    # A metric that is computed from the same things as the truth finds it in any case, so circular
    # kinds don't judge it; they are shown if there are no others.
    kinds = judgement.fitting_kinds(run, metric)
    independent = [kind for kind in kinds if not is_circular(run, setting, metric, kind.methods[0])]
    chosen = independent or kinds
    methods = [name for kind in chosen for name in kind.methods]
    recovered = recovery(values, chosen, _size(values, methods))
    shares = dict(recovered.shares)
    right, low, high = shares.pop(ALL, (np.nan, np.nan, np.nan))
    if np.isnan(low):
        return
    worst_kind = min(shares, key=lambda kind: shares[kind][0])
    worst_share = shares[worst_kind][0]
    yield Row(
        metric,
        DEGREES,
        run.label(setting),
        truth=", ".join(kind.name for kind in chosen),
        value=right,
        low=low,
        high=high,
        n=recovered.images,
        circular=not independent,
        passes=bool(low >= GOAL) if independent else None,
        about=f"{worst_kind} {worst_share:.2f}" if worst_share < GOAL else "",
    )


def controls(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield one row of the pairs of a method and a control.

    There is no row if there are too few images for an interval.
    """
    values = judgement.compared_values(run, setting, metric)
    if values is None or not values.sign:
        return
    names = [name for name in values.methods if name in run.metadata.controls]
    pairs = [
        (method, control) for control in names for method in values.methods if method not in names
    ]
    if not pairs:
        return
    right, low, high = judgement.share_of_right_pairs(values, pairs, _size(values, values.methods))
    if np.isnan(low):
        return
    # The best control is named unless it is clearly below the best method.
    best_control = next((row for row in places(run, setting, metric) if row.truth in names), None)
    about = ""
    if best_control is not None and best_control.about != BELOW:
        about = f"{run.metadata.method_title(best_control.truth)} {best_control.about}"
    yield Row(
        metric,
        CONTROLS,
        run.label(setting),
        value=right,
        low=low,
        high=high,
        n=values.num_images,
        passes=bool(low >= GOAL),
        about=about,
    )


def reliability(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield one row of the agreement of two halves of the images."""
    values = judgement.compared_values(run, setting, metric)
    if values is None:
        return
    distinct = values.distinct()
    if len(distinct.methods) < MIN_METHODS or distinct.num_images < 2:
        return
    halves = agreement.split_half_agreement(distinct)
    yield Row(
        metric,
        RELIABILITY,
        run.label(setting),
        value=halves.tau,
        n=distinct.num_images,
        passes=bool(halves.tau >= TAU),
        about=f"of {halves.half} images",
    )


def images_needed(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield one row of how many images separate two methods, or that there are too few methods."""
    values = judgement.compared_values(run, setting, metric)
    if values is None:
        return
    distinct = values.distinct()
    row = Row(metric, IMAGES_NEEDED, run.label(setting))
    comparison = _comparison(run, setting, metric)
    if len(distinct.methods) < MIN_METHODS:
        yield row._replace(n=values.num_images, about=FEW_METHODS)
    elif distinct.num_images > 1 and comparison is not None:
        yield row._replace(value=comparison.images_needed, n=comparison.images)


def gaming(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Yield one row of the best blind map and the best method.

    Every second image decides which they are, and they are compared on the other images.
    """
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    choosing_images = slice(0, None, 2)
    comparing_images = slice(1, None, 2)
    left_out = run.metadata.by_construction(metric)
    compared = []
    for name, column in zip(values.methods, values.values.T, strict=True):
        if np.isfinite(column[choosing_images]).any() and name not in left_out:
            compared.append(name)
    blind_maps = [name for name in compared if run.metadata.method(name).blind]
    methods = [name for name in compared if name not in run.metadata.controls]
    if not blind_maps or not methods:
        return
    blind = best_of(values.of(blind_maps), choosing_images)
    best = best_of(values.of(methods), choosing_images)
    row = gaming_row(values, run.metadata.value(metric), blind, best, comparing_images)
    if row is not None:
        about = f"{run.metadata.method_title(blind)} against {run.metadata.method_title(best)}"
        yield row._replace(network=run.label(setting), about=about)


TESTS_OF_RUNS: tuple[Callable[[RunFolder, Setting, str], Iterator[Row]], ...]
TESTS_OF_RUNS = (places, truth, degrees, controls, reliability, images_needed)
TESTS_OF_BLIND_RUNS = (gaming, images_needed)


def gaming_row(
    values: ImageValues, value: Value, blind: str, best: str, images: slice = EVERY
) -> Row | None:
    """Return the row of a blind map and the best method on these images.

    It passes if the map isn't significantly better.

    Args:
        values: The metric's values by image.
        value: The metadata of the metric's value.
        blind: The blind map.
        best: The best method.
        images: The images that are compared.

    Returns:
        The row without its network, or None if no image has both values.
    """
    pair = values.of([blind, best]).values[images]
    pair = pair[np.isfinite(pair).all(axis=1)]
    if not len(pair):
        return None
    # Each image has one value here, so each row of the test is an image.
    first, second = np.array([[0], [1]])
    test = tests(pair, np.arange(len(pair)), first, second, value, LEVEL).iloc[0]
    is_won = values.sign * test["difference"] > 0 and test["p"] < LEVEL
    share, low, high = _share_ahead(values, blind, best, images)
    return Row(
        values.metric,
        GAMING,
        network="",
        value=share,
        low=low,
        high=high,
        n=len(pair),
        passes=not is_won,
    )


def best_of(values: ImageValues, images: slice = EVERY) -> str:
    """Return the method with the best value over these images.

    It is chosen on other images than those on which it is compared, so that luck doesn't count.
    """
    centres = [
        centre(column[np.isfinite(column)][:, None], values.lead)[0]
        for column in values.values[images].T
    ]
    scores = np.nan_to_num(values.sign * np.array(centres), nan=-np.inf)
    return values.methods[int(np.argmax(scores))]


def _share_ahead(
    values: ImageValues, method: str, rival: str, images: slice = EVERY
) -> tuple[float, float, float]:
    """Return the share of the images that both have on which the method is better, with its
    interval.

    A tie counts half. The interval's ends are NaN for fewer than FEWEST_IMAGES images.
    """
    pair = values.of([method, rival]).values[images]
    first, second = pair[np.isfinite(pair).all(axis=1)].T
    is_equal = are_equal(first, second, values.rounding)
    ahead = np.where(is_equal, 0.5, values.sign * (first - second) > 0)
    low, high = mean_intervals(ahead[:, None], np.arange(len(ahead)))[:, 0].tolist()
    return float(ahead.mean()), low, high


def _comparison(run: RunFolder, setting: Setting, metric: str) -> Comparison | None:
    """Return the comparison of all methods except spoiled ones."""
    return run.comparisons.of(setting, metric, spoiled_methods(run))


def _size(values: ImageValues, methods: Collection[str]) -> int:
    """Return how many images put two of these methods in order: all of them, up to MOST_IMAGES."""
    present = [name for name in values.methods if name in methods]
    return min(MOST_IMAGES, values.of(present).num_images)
