"""The tests of a metric, each a function (run, setting, metric) -> rows, and the list that commands
and pages take.

Tests have a right answer that is known beforehand:

- A truth is ahead where no method and no control has a better value, and first where none is
  significantly better.
- Degrees: right explanations that were spoiled by degrees are in order.
- Controls: every method is above every control, which explains nothing.
- Reliability: two halves of the images put the methods in one order.
- Sanity: what the metric's definition implies holds (`testing.relations`).
- Gaming: no map that is the same for every image is better than the best method (also
  `testing.gaming`).

A truth that is computed from what the metric itself is computed from can't judge it: such a row is
circular, and counts for nothing. Measures pass or fail nothing.

Sanity, and maps that are made to win, ask the metric itself, in networks of their own. Their values
are computed where torch is, in the room `testing`, and judged by `sanity_row` and `gaming_row`.
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
from axiom_bench.statistics.bootstrap import mean_intervals
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, with_interval
from axiom_bench.statistics.paired_tests import LEVEL, are_equal, centre, tests
from axiom_bench.statistics.run_folder import RunFolder

TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, RELIABILITY, SANITY, GAMING = (
    "truth_ahead", "truth_first", "degrees", "controls", "reliability", "sanity", "gaming",
)  # fmt: skip
NEEDED, PLACE = "images_needed", "place"
OF_A_TRUTH = (TRUTH_AHEAD, TRUTH_FIRST)
BEATS, FIRST, BELOW = "better than the best method", "first", "below"
UNCLEAR = "not significantly different from the best method"
FEW_METHODS = f"fewer than {MIN_METHODS} methods that differ"
EVERY = slice(None)
CONTRIBUTIONS = "contributions"  # what a truth is computed from in a network that tells them
SHARE = 0.9  # of the networks


@dataclass(frozen=True)
class MetricTest:
    """The words in which a test, or a measure, is shown, and what of it a metric needs to lead a
    report.

    title: The heading of its column.
    note: Stands below a table that has the column.
    is_measure: It passes or fails nothing.
    share: The share of its rows that must pass; None if a metric may lead without it.
    is_required: A metric that isn't asked doesn't lead.
    """

    title: str
    note: str = ""
    is_measure: bool = False
    share: float | None = None
    is_required: bool = False


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
        "Controls: the same of pairs of a method and a control, which explains nothing.",
        share=SHARE,
    ),
    RELIABILITY: MetricTest(
        "Reliability",
        "Reliability: Kendall's tau-b between the orders of the methods by two random halves of "
        "the images, the mean over 200 splits. Methods that coincide are one.",
    ),
    SANITY: MetricTest("Sanity", share=1),
    GAMING: MetricTest(
        "Gaming",
        "Gaming: the share of images on which a map that is the same for all is better than the "
        "best method. One that is made for each image says how far the metric can be driven, and "
        "has no verdict.",
        share=1,
    ),
    NEEDED: MetricTest(
        "Images needed",
        "Images needed: half of the pairs of methods would differ significantly, with a "
        "probability of 80 %, with so many images or fewer.",
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

    network: of the setting. truth: the method that is right, or the kinds of spoiling, or how a map
    was made to win; of a place the control. value, low, high: with the 95 % interval; of a truth's
    tests: the share of images on which it is better than its nearest rival (a tie counts half).
    degrees, controls: the share of pairs in the right order by sets of images; reliability:
    Kendall's tau of two halves; sanity: 1 where the relation holds. gaming: the share of images on
    which the blind map is better than the method. images_needed: see `Comparison.images_needed`.
    place: from 1, with those that can't be excluded. n: images; of a place how many places there
    are. passes: None where the row counts for nothing. about: the rival with the difference of the
    two values, or what else a reader asks next.
    """

    metric: str
    test: str
    network: str
    truth: str = ""
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    circular: bool = False
    passes: bool | None = None
    about: str = ""


def rows_of(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """The rows of all tests of one metric in one setting. A run of blind maps is one for gaming."""
    is_blind = sum(bool(method.blind) for method in run.manifest.methods.values()) > 1
    for test in OF_BLIND_RUNS if is_blind else OF_RUNS:
        yield from test(run, setting, metric)


def places(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Rows of each control that is compared, the best first. Methods that coincide share a place.

    about: BEATS, UNCLEAR or BELOW, by the paired test against the method with the best value that
    is no control, at 5 % after Holm over all pairs of the metric. FIRST where there is no other
    method.
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
        if best is not None and comparison.differ(group[0], best[0]):
            against = BEATS if number <= comparison.ranked.index(best) else BELOW
        place, count = comparison.place(group[0]), len(comparison.groups)
        row = Row(
            metric, PLACE, run.label(setting), "", number, place.place_low, place.place_high, count
        )
        yield from (row._replace(truth=name, about=against) for name in group if name in controls)


def truth(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Rows of both tests of each truth: is no rival ahead, and is none significantly ahead?"""
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    for name in truths(run):
        comparison = run.comparisons.of(setting, metric, spoiled_methods(run) - {name})
        if comparison is None or name not in comparison.places.index or len(comparison.places) < 2:
            continue
        own, circular = comparison.group_of(name), is_circular(run, setting, metric, name)
        row = Row(metric, "", run.label(setting), name, n=comparison.images, circular=circular)
        others = [group for group in comparison.ranked if group != own]
        if not others:  # all coincide with the truth
            row = row._replace(value=0.5, low=0.5, high=0.5, passes=True)
            yield from (row._replace(test=test) for test in OF_A_TRUTH)
            continue
        rival = others[0][0]
        pair = comparison.pair(own[0], rival)
        difference, *ends = (values.sign * pair[end] for end in ("difference", "low", "high"))
        is_ahead = bool(difference >= 0)
        ends = sorted(ends if is_ahead else (-end for end in ends))
        about = f"{'behind' if is_ahead else 'ahead'} by {with_interval(abs(difference), *ends)}"
        is_behind = any(
            values.sign * comparison.pair(own[0], group[0])["difference"] < 0
            and comparison.differ(own[0], group[0])
            for group in others
        )
        value, low, high = _share_ahead(values, name, rival)
        row = row._replace(
            value=value, low=low, high=high, about=f"{run.metadata.method_title(rival)} {about}"
        )
        for test, passes in zip(OF_A_TRUTH, (is_ahead, not is_behind), strict=True):
            yield row._replace(test=test, passes=None if circular else passes)


def truths(run: RunFolder) -> list[str]:
    """The methods that are right by construction: those that say what they are computed from."""
    return [name for name, method in run.manifest.methods.items() if method.computed_from]


def is_circular(run: RunFolder, setting: Setting, metric: str, truth: str) -> bool:
    """Return whether metric and truth are computed from the same, apart from the network's scores
    and the map.

    A truth of two forms is computed from the network's own contributions if it tells them, else
    from effects of the image's parts.
    """
    reads = set(run.metadata.method(truth).computed_from)
    if CONTRIBUTIONS in reads:
        tells_contributions = run.metadata.model(setting.model).tells_contributions
        reads = {CONTRIBUTIONS} if tells_contributions else reads - {CONTRIBUTIONS}
    return bool(reads & set(run.metadata.metric(metric).computed_from))


def degrees(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """One row of the kinds of spoiling that can judge the metric; where all are circular, one of
    these. None of too few images for an interval.
    """
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    kinds = judgement.fitting_kinds(run, metric)
    plain = [kind for kind in kinds if not is_circular(run, setting, metric, kind.methods[0])]
    chosen = plain or kinds
    recovered = recovery(
        values, chosen, _size(values, [name for kind in chosen for name in kind.methods])
    )
    shares = dict(recovered.shares)
    right, low, high = shares.pop(ALL, (np.nan, np.nan, np.nan))
    if np.isnan(low):
        return
    lowest = min(shares, key=lambda kind: shares[kind][0])
    about = f"{lowest} {shares[lowest][0]:.2f}" if shares[lowest][0] < GOAL else ""
    passes = bool(low >= GOAL) if plain else None
    names = ", ".join(kind.name for kind in chosen)
    network = run.label(setting)
    yield Row(
        metric,
        DEGREES,
        network,
        names,
        right,
        low,
        high,
        recovered.images,
        not plain,
        passes,
        about,
    )


def controls(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """One row of the pairs of a method and a control. None of too few images for an interval."""
    values = judgement.compared_values(run, setting, metric)
    if values is None or not values.sign:
        return
    names = [name for name in values.methods if name in run.metadata.controls]
    pairs = [
        (method, control) for control in names for method in values.methods if method not in names
    ]
    if not pairs:
        return
    right, low, high = judgement.right_pairs(values, pairs, _size(values, values.methods))
    if np.isnan(low):
        return
    first = next((row for row in places(run, setting, metric) if row.truth in names), None)
    about = (
        f"{run.metadata.method_title(first.truth)} {first.about}"
        if first and first.about != BELOW
        else ""
    )
    passes, network = bool(low >= GOAL), run.label(setting)
    yield Row(
        metric,
        CONTROLS,
        network,
        "",
        right,
        low,
        high,
        values.num_images,
        passes=passes,
        about=about,
    )


def reliability(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """One row of the agreement of two halves of the images."""
    values = judgement.compared_values(run, setting, metric)
    distinct = values and values.distinct()
    if distinct and len(distinct.methods) >= MIN_METHODS and distinct.num_images > 1:
        halves = agreement.split_half_agreement(distinct)
        yield Row(
            metric, RELIABILITY, run.label(setting), value=halves.tau, n=distinct.num_images,
            passes=bool(halves.tau >= TAU), about=f"of {halves.half} images",
        )  # fmt: skip


def images_needed(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """One row of how many images separate two methods, or that there are too few methods."""
    values = judgement.compared_values(run, setting, metric)
    if values is None:
        return
    distinct, row = values.distinct(), Row(metric, NEEDED, run.label(setting))
    comparison = _comparison(run, setting, metric)
    if len(distinct.methods) < MIN_METHODS:
        yield row._replace(n=values.num_images, about=FEW_METHODS)
    elif distinct.num_images > 1 and comparison is not None:
        yield row._replace(value=comparison.images_needed, n=comparison.images)


def gaming(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """One row of the best blind map and the best method by every second image, compared on the
    other images.
    """
    values = image_values(run, setting, metric)
    if values is None or not values.sign:
        return
    left_out = run.metadata.by_construction(metric)
    compared = [
        name for name, column in zip(values.methods, values.values.T, strict=True)
        if np.isfinite(column[::2]).any() and name not in left_out
    ]  # fmt: skip
    blind_maps = [name for name in compared if run.metadata.method(name).blind]
    methods = [name for name in compared if name not in run.metadata.controls]
    if not blind_maps or not methods:
        return
    blind, best = (best_of(values.of(names), slice(0, None, 2)) for names in (blind_maps, methods))
    row = gaming_row(values, run.metadata.value(metric), blind, best, slice(1, None, 2))
    if row is not None:
        about = f"{run.metadata.method_title(blind)} against {run.metadata.method_title(best)}"
        yield row._replace(network=run.label(setting), about=about)


OF_RUNS: tuple[Callable[[RunFolder, Setting, str], Iterator[Row]], ...]
OF_RUNS = (places, truth, degrees, controls, reliability, images_needed)
OF_BLIND_RUNS = (gaming, images_needed)


def gaming_row(
    values: ImageValues, value: Value, blind: str, best: str, images: slice = EVERY
) -> Row | None:
    """Return the share of these images on which a blind map is better than the best method, which
    passes where the map isn't significantly better. None where no image has both values.
    """
    pair = values.of([blind, best]).values[images]
    pair = pair[np.isfinite(pair).all(axis=1)]
    if not len(pair):
        return None
    first, second = np.array([[0], [1]])
    test = tests(pair, np.arange(len(pair)), first, second, value).iloc[0]
    is_won = values.sign * test["difference"] > 0 and test["p"] < LEVEL
    share = _share_ahead(values, blind, best, images)
    return Row(values.metric, GAMING, "", "", *share, len(pair), passes=not is_won)


def best_of(values: ImageValues, images: slice = EVERY) -> str:
    """The method with the best value over these images."""
    centres = [
        centre(column[np.isfinite(column)][:, None], values.lead)[0]
        for column in values.values[images].T
    ]
    return values.methods[
        int(np.argmax(np.nan_to_num(values.sign * np.array(centres), nan=-np.inf)))
    ]


def _share_ahead(
    values: ImageValues, method: str, rival: str, images: slice = EVERY
) -> tuple[float, float, float]:
    """Return the share of the images that both have on which the method is better, with its
    interval.

    A tie counts half. The interval's ends are NaN for fewer than FEWEST_IMAGES images.
    """
    pair = values.of([method, rival]).values[images]
    first, second = pair[np.isfinite(pair).all(axis=1)].T
    ahead = np.where(
        are_equal(first, second, values.rounding), 0.5, values.sign * (first - second) > 0
    )
    low, high = mean_intervals(ahead[:, None], np.arange(len(ahead)))[
        :, 0
    ].tolist()  # NaN of few images
    return float(ahead.mean()), low, high


def _comparison(run: RunFolder, setting: Setting, metric: str) -> Comparison | None:
    """Return the comparison of all methods except spoiled ones."""
    return run.comparisons.of(setting, metric, spoiled_methods(run))


def _size(values: ImageValues, methods: Collection[str]) -> int:
    """Return how many images put two of these methods in order: all of them, up to MOST_IMAGES."""
    return min(
        MOST_IMAGES, values.of([name for name in values.methods if name in methods]).num_images
    )
