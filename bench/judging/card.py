"""The scorecard of metrics: tests whose right answer is known beforehand, a row for each metric, test and network.

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
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.judging import judgement
from axiom_bench.judging.agreement import TAU, ImageValues, image_values, split_half_agreement
from axiom_bench.judging.judgement import ALL, GOAL, MIN_METHODS, SIZES, compared_values, recovery, spoiled_methods
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, mean_intervals
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, with_interval
from axiom_bench.statistics.paired_tests import LEVEL, are_equal, centre, tests
from axiom_bench.statistics.run_folder import RunFolder

TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, RELIABILITY, SANITY, GAMING = TESTS = (
    "truth_ahead", "truth_first", "degrees", "controls", "reliability", "sanity", "gaming",
)  # fmt: skip
OF_A_TRUTH = (TRUTH_AHEAD, TRUTH_FIRST)
EVERY = slice(None)
CONTRIBUTIONS = "contributions"  # what a truth is computed from in a network that tells them


class Row(NamedTuple):
    """One metric in one test on one network.

    network: of the setting. truth: the method that is right, or the kinds of spoiling, or how a map was made to win;
    empty where the test needs none.
    value, low, high: with the 95 % interval; of a truth's tests: the share of images on which it is better than its
        nearest rival (a tie counts half). degrees and controls: the share of pairs in the right order by sets of `size`
    images; reliability: Kendall's tau of two halves; sanity: 1 where the relation holds. gaming: the share of images on
    which the blind map is better than the method. n: images. passes: None where the row counts for nothing.
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


def card(runs: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """The columns of `Row`, for all settings with trained weights. metrics: names of values; of those without a
    direction there are no rows."""
    rows = [
        row
        for run in runs
        for setting in run.settings
        if not run.metadata.has_random_weights(setting.model)
        for metric in metrics
        if metric in run.metrics and run.metadata.value(metric).has_direction
        for row in rows_of(run, setting, metric)
    ]
    return pd.DataFrame(rows, columns=Row._fields)


def rows_of(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """All tests of one metric in one setting that the run's methods allow; none for values of whole data sets."""
    values = image_values(run, setting, metric)
    if values is None or not values.num_images:
        return
    methods = run.manifest.get("methods") or ()
    if sum(bool(run.metadata.method(name).get("blind")) for name in methods) > 1:  # a run for this test alone
        yield from _gaming(run, setting, values)
        return
    left_out = run.metadata.by_construction(metric)
    present = [name for name in truths(run) if name in values.methods and name not in left_out]
    for truth in present:
        yield from _truth(run, setting, values, truth)
    yield from _degrees(run, setting, values)
    for honest in compared_values(run, setting, [metric]):
        yield from _controls(run, setting, honest)
        yield from _reliability(run, setting, honest)


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
    own, rival = comparison.group_of(truth), _rival(comparison, truth)
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
    about = f"{title} {'behind' if ahead >= 0 else 'ahead'} by {with_interval(abs(ahead), *_of_size(ahead, *ends))}"
    share = _share_ahead(values, truth, rival[0])
    for test, passes in zip(OF_A_TRUTH, (bool(ahead >= 0), not is_behind), strict=True):
        row = Row(values.metric, test, network, truth, *share, comparison.images, circular, passes, about)
        yield row._replace(passes=None) if circular else row


def _rival(comparison: Comparison, truth: str) -> tuple[str, ...] | None:
    """The best group beside the truth's own."""
    return next((group for group in comparison.ranked if truth not in group), None)


def _of_size(ahead: float, low: float, high: float) -> tuple[float, float]:
    """The ends of the interval of |ahead|."""
    return (low, high) if ahead >= 0 else (-high, -low)


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
    table = recovery(values, chosen, (_size(values, [name for kind in chosen for name in kind.methods]),))
    for row in table[(table["kind"] == ALL) & table["low"].notna()].to_dict("records"):
        ends = (row["right"], row["low"], row["high"])
        is_grey = len(circular) == len(kinds)
        names = [kind.name for kind in chosen]
        lowest = table[table["kind"] != ALL].sort_values("right", kind="stable").iloc[0]
        about = f"{lowest['kind']} {lowest['right']:.2f}" if lowest["right"] < GOAL else ""
        passes = None if is_grey else bool(row["low"] >= GOAL)
        truth = ", ".join(names)
        yield Row(
            values.metric, DEGREES, run.label(setting), truth, *ends, int(row["images"]), is_grey, passes, about
        )  # fmt: skip


def _controls(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    names = [name for name in values.methods if run.metadata.method(name).get("control")]
    pairs = [(method, control) for control in names for method in values.methods if method not in names]
    if not pairs:
        return
    right, low, high = judgement.right_pairs(values, pairs, _size(values, values.methods))
    if np.isnan(low):  # of too few images
        return
    best = judgement.controls(run.comparisons.without(setting, values.metric, spoiled_methods(run)), names)
    first = best.iloc[0] if len(best) else None
    about = "" if first is None or first["against"] == judgement.BELOW else (
        f"{run.metadata.method_title(first['control'])} {first['against']}"
    )  # fmt: skip
    passes = bool(low >= GOAL)
    yield Row(
        values.metric, CONTROLS, run.label(setting), "", right, low, high, values.num_images, False, passes, about
    )  # fmt: skip


def _reliability(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    distinct = values.distinct()
    if len(distinct.methods) < MIN_METHODS or distinct.num_images < 2:
        return
    halves: Any = split_half_agreement(distinct)
    tau = float(halves.tau)
    yield Row(
        values.metric, RELIABILITY, run.label(setting), "", tau, np.nan, np.nan, distinct.num_images, False,
        bool(tau >= TAU), f"of {halves.half} images",
    )  # fmt: skip


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
