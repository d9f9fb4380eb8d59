"""The scorecard of metrics: one row for each metric, test and network.

Tests, whose right answer is known beforehand:

- Truth ahead: has no method and no control a better value than the right explanation?
- Truth first: is none of them significantly better?
- Degrees: are right explanations that were spoiled by degrees put in order (see `judgement.recovery`)?
- Controls: is every method that explains something above every control, which explains nothing by design?
- Reliability: do two halves of the images put the methods in the same order (see `agreement`)?
- Sanity: does what the metric's definition implies hold (see `testing.relations`, whose rows are added by the command)?
- Gaming: is a map that is the same for every image, the best of several, better than the best method? The command adds
  rows of maps that are made to win (see `testing.gaming`).

A truth that is computed from what the metric itself is computed from can't judge it: such a row is circular, and counts
for nothing.

Measures, which pass or fail nothing, of a run's own metrics:

- Agreement: do images put the methods in one order?
- Images needed: of how many images do two sets order the methods alike?
- Place: where does a control stand?
- Recovery: degrees, by kind of spoiling and by so many images.
- Disagreement: do two metrics put the methods in one order?
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.judging import agreement, judgement
from axiom_bench.judging.agreement import TAU, ImageValues, image_values
from axiom_bench.judging.judgement import ALL, GOAL, MIN_METHODS, SIZES, compared_values, recovery, spoiled_methods
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, mean_intervals
from axiom_bench.statistics.labels import Setting, Value, with_interval
from axiom_bench.statistics.paired_tests import LEVEL, are_equal, centre, tests
from axiom_bench.statistics.run_folder import RunFolder

TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, RELIABILITY, SANITY, GAMING = TESTS = (
    "truth_ahead", "truth_first", "degrees", "controls", "reliability", "sanity", "gaming",
)  # fmt: skip
AGREEMENT, NEEDED, PLACE, RECOVERY, DISAGREEMENT = (
    "agreement", "images_needed", "place", "recovery", "disagreement",
)  # fmt: skip
OF_A_TRUTH = (TRUTH_AHEAD, TRUTH_FIRST)
BEATS, FIRST, BELOW = "better than the best method", "first", "below"
UNCLEAR = "not significantly different from the best method"
EVERY = slice(None)
CONTRIBUTIONS = "contributions"  # what a truth is computed from in a network that tells them


class Row(NamedTuple):
    """One metric in one test, or measure, on one network.

    network: of the setting. truth: the method that is right, or the kinds of spoiling, or how a map was made to win;
    of a place the control, of disagreement the other metric; empty where there is none.
    value, low, high: with the 95 % interval; of a truth's tests: the share of images on which it is better than its
        nearest rival (a tie counts half). degrees and controls: the share of pairs in the right order by sets of `size`
    images; reliability: Kendall's tau of two halves; sanity: 1 where the relation holds. gaming: the share of images on
    which the blind map is better than the method. agreement: alpha. images_needed: with its range. place: from 1, with
    those that can't be excluded. disagreement: Kendall's tau of two metrics. n: images; of images_needed those of a
    half, of recovery those of a set, of a place how many places there are.
    passes: None where the row counts for nothing.
    about: the rival with the difference of the two values, or what else a reader asks next.
    """

    metric: str
    test: str
    network: str
    truth: str
    value: float
    low: float
    high: float
    n: int
    circular: bool
    passes: bool | None
    about: str = ""


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table with the columns of `Row`."""
    return pd.DataFrame(list(rows), columns=Row._fields)


def card(runs: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of all tests, for all settings with trained weights. metrics: names of values; of those without a
    direction there are no rows."""
    return frame(
        row
        for run in runs
        for setting in trained(run)
        for metric in metrics
        if metric in run.metrics and run.metadata.value(metric).has_direction
        for row in rows_of(run, setting, metric)
        if row.test in TESTS
    )


def judge(run: RunFolder, setting: Setting, metrics: Sequence[str], in_report: bool = False) -> pd.DataFrame:
    """The rows of all tests and measures of these metrics. in_report: without those that no line of a metric shows,
    recovery by kinds and the disagreement of metrics."""
    rows = [row for metric in metrics for row in rows_of(run, setting, metric)]
    if not in_report:
        rows += [row for metric in metrics for row in _by_kinds(run, setting, image_values(run, setting, metric))]
        pairs = agreement.disagreement(compared_values(run, setting, metrics))
        for row in pairs.to_dict("records"):
            ends, about = (row["tau"], row["low"], row["high"]), f"over {row['methods']} methods"
            n, network = run.records.keys["image_id"].nunique(), run.label(setting)
            rows.append(Row(row["row"], DISAGREEMENT, network, row["column"], *ends, n, False, None, about))
    return frame(rows)


def degrees_of(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of spoiled explanations alone."""
    rows = list[Row]()
    for metric in metrics:
        values = image_values(run, setting, metric)
        rows += [] if values is None else [*_degrees(run, setting, values), *_by_kinds(run, setting, values)]
    return frame(rows)


def trained(run: RunFolder) -> list[Setting]:
    """The settings with trained weights: an untrained network ranks no method."""
    return [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]


def rows_of(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """All tests of one metric in one setting that the run's methods allow, its agreement and its controls' places; of
    values of whole data sets these places alone."""
    methods = run.manifest.get("methods") or ()
    is_blind = sum(bool(run.metadata.method(name).get("blind")) for name in methods) > 1  # a run for this test alone
    places = [] if is_blind else list(_places(run, setting, metric))
    yield from places
    values = image_values(run, setting, metric)
    if values is None or not values.num_images:
        return
    if is_blind and values.sign:
        yield from _gaming(run, setting, values)
    elif values.sign:
        left_out = run.metadata.by_construction(metric)
        for truth in truths(run):
            if truth in values.methods and truth not in left_out:
                yield from _truth(run, setting, values, truth)
        yield from _degrees(run, setting, values)
    for honest in compared_values(run, setting, [metric]):
        if honest.sign and not is_blind:
            yield from _controls(run, setting, honest, places)
        yield from (row for row in _order(run, setting, honest) if not is_blind or row.test not in TESTS)


def truths(run: RunFolder) -> list[str]:
    """The methods that are right by construction: those that say what they are computed from."""
    return [name for name in run.manifest.get("methods") or () if run.metadata.method(name).get("computed_from")]


def is_circular(run: RunFolder, setting: Setting, metric: str, truth: str) -> bool:
    """Whether metric and truth are computed from the same, beside the network's scores and the map."""
    about = (run.manifest.get("metrics") or {}).get(metric) or {}
    return bool(set(about.get("computed_from") or ()) & _reads(run, setting, truth))


def _reads(run: RunFolder, setting: Setting, truth: str) -> set[str]:
    """Of a truth of two forms those of the network: its own contributions, or effects of the image's parts."""
    reads = set(run.metadata.method(truth).get("computed_from") or ())
    model = (run.manifest.get("models") or {}).get(setting.model) or {}
    if CONTRIBUTIONS not in reads:
        return reads
    return {CONTRIBUTIONS} if model.get("tells_contributions") else reads - {CONTRIBUTIONS}


def _truth(run: RunFolder, setting: Setting, values: ImageValues, truth: str) -> Iterator[Row]:
    """Of both tests; none where the truth has no value, or is compared with nothing."""
    others = spoiled_methods(run) - {truth}
    comparison = run.comparisons.without(setting, values.metric, others)
    if comparison is None or truth not in comparison.places.index or len(comparison.places) < 2:
        return
    own = comparison.group_of(truth)
    rival = next((group for group in comparison.ranked if group != own), None)
    circular = is_circular(run, setting, values.metric, truth)
    network = run.label(setting)
    if rival is None:  # all coincide with the truth
        for test in OF_A_TRUTH:
            yield Row(values.metric, test, network, truth, 0.5, 0.5, 0.5, comparison.images, circular, True)
        return
    pair = comparison.pair(own[0], rival[0])
    ahead = values.sign * pair["difference"]
    is_behind = any(
        values.sign * comparison.pair(own[0], group[0])["difference"] < 0 and comparison.differ(own[0], group[0])
        for group in comparison.groups
        if group != own
    )  # fmt: skip
    ends = sorted(values.sign * pair[end] for end in ("low", "high"))
    title = run.metadata.method_title(rival[0])
    ends = ends if ahead >= 0 else [-ends[1], -ends[0]]
    about = f"{title} {'behind' if ahead >= 0 else 'ahead'} by {with_interval(abs(ahead), *ends)}"
    share = _share_ahead(values, truth, rival[0])
    for test, passes in zip(OF_A_TRUTH, (bool(ahead >= 0), not is_behind), strict=True):
        row = Row(values.metric, test, network, truth, *share, comparison.images, circular, passes, about)
        yield row._replace(passes=None) if circular else row


def _share_ahead(values: ImageValues, method: str, rival: str, images: slice = EVERY) -> tuple[float, float, float]:
    """Of these images that both have the share on which the method is better, with its interval from FEWEST_IMAGES on;
    a tie counts half."""
    first, second = values.of([method, rival]).values[images].T
    has = np.isfinite(first) & np.isfinite(second)
    first, second = first[has], second[has]
    ahead = np.where(are_equal(first, second, values.rounding), 0.5, values.sign * (first - second) > 0)
    if len(ahead) < FEWEST_IMAGES:
        return float(ahead.mean()), np.nan, np.nan
    low, high = mean_intervals(ahead[:, None], np.arange(len(ahead)))[:, 0].tolist()
    return float(ahead.mean()), low, high


def _degrees(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """One row of the kinds that can judge the metric; where all are circular, one of these. None of too few images for
    an interval."""
    kinds = judgement.fitting_kinds(run, values.metric)
    circular = {kind.name for kind in kinds if is_circular(run, setting, values.metric, kind.methods[0])}
    chosen = [kind for kind in kinds if kind.name not in circular] or kinds
    is_grey = len(circular) == len(kinds)
    table = recovery(values, chosen, (_size(values, [name for kind in chosen for name in kind.methods]),))
    for row in table[(table["kind"] == ALL) & table["low"].notna()].to_dict("records"):
        lowest = table[table["kind"] != ALL].sort_values("right", kind="stable").iloc[0]
        yield Row(
            values.metric, DEGREES, run.label(setting), ", ".join(kind.name for kind in chosen),
            row["right"], row["low"], row["high"], int(row["images"]), is_grey,
            None if is_grey else bool(row["low"] >= GOAL),
            f"{lowest['kind']} {lowest['right']:.2f}" if lowest["right"] < GOAL else "",
        )  # fmt: skip


def _by_kinds(run: RunFolder, setting: Setting, values: ImageValues | None) -> Iterator[Row]:
    """A row for each kind of spoiling that can judge the metric and all of them, and each of `judgement.SIZES`."""
    if values is None:
        return
    for row in recovery(values, judgement.fitting_kinds(run, values.metric)).to_dict("records"):
        about = f"{row['pairs']} pairs of {row['images']} images, {row['missing']:.0%} without a value"
        yield Row(
            values.metric, RECOVERY, run.label(setting), row["kind"] or "all kinds", row["right"], row["low"],
            row["high"], row["size"], False, None, about,
        )  # fmt: skip


def _places(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Of each control that is compared, the best first; none for a metric without a direction. Methods that coincide
    share a place.

    about: BEATS, UNCLEAR or BELOW, by the paired test against the method with the best value that is no control, at 5 %
    after Holm over all pairs of the metric. FIRST where there is no other method.
    """
    spoiled, controls = spoiled_methods(run), run.metadata.controls
    computed = run.comparisons
    comparison = computed.without(setting, metric, spoiled) if spoiled else computed.of(setting, metric)
    if comparison is None or comparison.better == "none":
        return
    best = next((group for group in comparison.ranked if controls.isdisjoint(group)), None)
    for place, group in enumerate(comparison.ranked, start=1):
        for name in (name for name in group if name in controls):
            against = FIRST if best is None else UNCLEAR
            if best is not None and comparison.differ(group[0], best[0]):
                against = BEATS if place <= comparison.ranked.index(best) else BELOW
            standing, count = comparison.place(name), len(comparison.groups)
            ends = (standing.place_low, standing.place_high)
            yield Row(metric, PLACE, run.label(setting), name, place, *ends, count, False, None, against)


def _controls(run: RunFolder, setting: Setting, values: ImageValues, places: Sequence[Row]) -> Iterator[Row]:
    names = [name for name in values.methods if run.metadata.method(name).get("control")]
    pairs = [(method, control) for control in names for method in values.methods if method not in names]
    if not pairs:
        return
    right, low, high = judgement.right_pairs(values, pairs, _size(values, values.methods))
    if np.isnan(low):  # of too few images
        return
    first = next((row for row in places if row.truth in names), None)
    about = f"{run.metadata.method_title(first.truth)} {first.about}" if first and first.about != BELOW else ""
    yield Row(
        values.metric, CONTROLS, run.label(setting), "", right, low, high, values.num_images, False,
        bool(low >= GOAL), about,
    )  # fmt: skip


def _order(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """Agreement, reliability and the images needed; of fewer than MIN_METHODS methods that differ, or two images, only
    how many there are."""
    distinct, network, nan = values.distinct(), run.label(setting), np.nan
    count = len(distinct.methods)
    row = Row(
        values.metric, AGREEMENT, network, "", nan, nan, nan, values.num_images, False, None, f"{count} methods"
    )  # fmt: skip
    if count < MIN_METHODS or distinct.num_images < 2:
        yield row
        return
    alpha, halves = agreement.agreement(distinct.values, distinct.rounding), agreement.split_half_agreement(distinct)
    yield row._replace(value=alpha.alpha, low=alpha.low, high=alpha.high)
    row = row._replace(about=f"of {halves.half} images")
    is_reliable = bool(halves.tau >= TAU)
    yield row._replace(test=RELIABILITY, value=float(halves.tau), n=distinct.num_images, passes=is_reliable)
    yield row._replace(test=NEEDED, value=halves.needed, low=halves.least, high=halves.most, n=halves.half)


def _gaming(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """The best blind map and the best method by every second image, compared on the other images."""
    left_out, sees_nothing, explains = run.metadata.by_construction(values.metric), list[str](), list[str]()
    for name, column in zip(values.methods, values.values.T, strict=True):
        entry = run.metadata.method(name)
        if np.isfinite(column[::2]).any() and name not in left_out:
            sees_nothing += [name] if entry.get("blind") else []
            explains += [] if entry.get("control") else [name]
    if not sees_nothing or not explains:
        return
    blind, best = (best_of(values.of(names), slice(0, None, 2)) for names in (sees_nothing, explains))
    compared = blind_against(values, run.metadata.value(values.metric), blind, best, slice(1, None, 2))
    if compared is not None:
        share, n, passes = compared
        about = f"{run.metadata.method_title(blind)} against {run.metadata.method_title(best)}"
        yield Row(values.metric, GAMING, run.label(setting), "", *share, n, False, passes, about)


def blind_against(
    values: ImageValues, value: Value, blind: str, best: str, images: slice = EVERY
) -> tuple[tuple[float, float, float], int, bool] | None:
    """Over these images: the share on which the blind map is better than the best method, with its interval; how many
    have both values; whether the map isn't significantly better. None where no image has both."""
    pair = values.of([blind, best]).values[images]
    pair = pair[np.isfinite(pair).all(axis=1)]
    if not len(pair):
        return None
    first, second = np.array([[0], [1]])
    test = tests(pair, np.arange(len(pair)), first, second, value).iloc[0]
    is_won = values.sign * test["difference"] > 0 and test["p"] < LEVEL
    return _share_ahead(values, blind, best, images), len(pair), not is_won


def best_of(values: ImageValues, images: slice = EVERY) -> str:
    """The method with the best value over these images."""
    centres = [centre(column[np.isfinite(column)][:, None], values.lead)[0] for column in values.values[images].T]
    return values.methods[int(np.argmax(np.nan_to_num(values.sign * np.array(centres), nan=-np.inf)))]


def _size(values: ImageValues, methods: Collection[str]) -> int:
    """Of the sets of images by which two of these methods are put in order: all images, up to the largest of SIZES."""
    return min(SIZES[-1], values.of([name for name in values.methods if name in methods]).num_images)
