"""The scorecard of metrics: one row for each metric, test and network. How each is computed: docs/which-metric.md.

Tests have a right answer that is known beforehand:

- A truth is ahead where no method and no control has a better value, and first where none is significantly better.
- Degrees: right explanations that were spoiled by degrees are in order.
- Controls: every method is above every control, which explains nothing.
- Reliability: two halves of the images put the methods in one order.
- Sanity: what the metric's definition implies holds (`testing.relations`, whose rows the command adds).
- Gaming: no map that is the same for every image is better than the best method (see also `testing.gaming`).

A truth that is computed from what the metric itself is computed from can't judge it: such a row is circular, and counts
for nothing. Measures pass or fail nothing.

Which metrics lead a report is a rule over the scorecard, older than what it judges (`leaders`). A metric leads that is
asked both truth tests and degrees, and that passes every test it is asked:

- Truth ahead, by the primary truth: on at least SHARE of the networks no method or control has a better value. That
  none is significantly better isn't enough: of few images, or noisy values, nothing is.
- Truth first, by the primary truth: on no network is a method or control significantly better than the truth and, at
  the same time, better on more than half of the images by MARGIN.
- Degrees and controls: passed on at least SHARE of the networks. Sanity and gaming: by every relation and network.

Reliability isn't asked: it tells how many images a ranking takes, not whether the ranking is right. Circular rows count
for nothing. Where no metric passes, the axiom errors of the paper lead alone, as axioms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.judging import agreement, judgement
from axiom_bench.judging.agreement import TAU, ImageValues, image_values
from axiom_bench.judging.judgement import (
    ALL,
    GOAL,
    MIN_METHODS,
    MOST_IMAGES,
    compared_values,
    recovery,
    spoiled_methods,
)
from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL, mean_intervals
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, with_interval
from axiom_bench.statistics.paired_tests import LEVEL, are_equal, centre, tests
from axiom_bench.statistics.run_folder import RunFolder

TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, RELIABILITY, SANITY, GAMING = TESTS = (
    "truth_ahead", "truth_first", "degrees", "controls", "reliability", "sanity", "gaming",
)  # fmt: skip
NEEDED, PLACE = "images_needed", "place"
OF_A_TRUTH = (TRUTH_AHEAD, TRUTH_FIRST)
BEATS, FIRST, BELOW = "better than the best method", "first", "below"
UNCLEAR = "not significantly different from the best method"
FEW_METHODS = f"fewer than {MIN_METHODS} methods that differ"
EVERY = slice(None)
CONTRIBUTIONS = "contributions"  # what a truth is computed from in a network that tells them
SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more
NORMAL = 1.96  # standard errors to the end of a 95 % interval


class Row(NamedTuple):
    """One metric in one test, or measure, on one network.

    network: of the setting. truth: the method that is right, or the kinds of spoiling, or how a map was made to win;
    of a place the control.
    value, low, high: with the 95 % interval; of a truth's tests: the share of images on which it is better than its
    nearest rival (a tie counts half). degrees, controls: the share of pairs in the right order by sets of images;
    reliability: Kendall's tau of two halves; sanity: 1 where the relation holds. gaming: the share of images on which
    the blind map is better than the method. images_needed: see `Comparison.images_needed`. place: from 1, with those
    that can't be excluded. n: images; of a place how many places there are. passes: None where the row counts for
    nothing. about: the rival with the difference of the two values, or what else a reader asks next.
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


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table with the columns of `Row`."""
    return pd.DataFrame(list(rows), columns=Row._fields)


def card(runs: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of all tests, for all settings that rank methods. metrics: names of values; of those without a
    direction there are no rows."""
    return frame(
        row
        for run in runs
        for setting in ranking_settings(run)
        for metric in metrics
        if metric in run.metrics and run.metadata.value(metric).has_direction
        for row in rows_of(run, setting, metric)
        if row.test in TESTS
    )


def judge(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of all tests and measures of these metrics."""
    return frame(row for metric in metrics for row in rows_of(run, setting, metric))


def degrees_of(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of spoiled explanations alone."""
    found = [values for metric in metrics if (values := image_values(run, setting, metric)) is not None]
    return frame(row for values in found for row in _degrees(run, setting, values))


def ranking_settings(run: RunFolder) -> list[Setting]:
    """The settings whose values rank methods."""
    return [setting for setting in run.settings if run.ranks(setting)]


def rows_of(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """All tests of one metric in one setting that the run's methods allow, the images needed and its controls' places;
    of values of whole data sets these places alone."""
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
    for compared in compared_values(run, setting, [metric]):
        if compared.sign and not is_blind:
            yield from _controls(run, setting, compared, places)
        yield from (row for row in _order(run, setting, compared) if not is_blind or row.test not in TESTS)


def truths(run: RunFolder) -> list[str]:
    """The methods that are right by construction: those that say what they are computed from."""
    return [name for name in run.manifest.get("methods") or () if run.metadata.method(name).get("computed_from")]


def is_circular(run: RunFolder, setting: Setting, metric: str, truth: str) -> bool:
    """Whether metric and truth are computed from the same, beside the network's scores and the map. A truth of two
    forms is computed from the network's own contributions where it tells them, else from effects of the image's
    parts."""
    about = (run.manifest.get("metrics") or {}).get(metric) or {}
    model = (run.manifest.get("models") or {}).get(setting.model) or {}
    reads = set(run.metadata.method(truth).get("computed_from") or ())
    if CONTRIBUTIONS in reads:
        reads = {CONTRIBUTIONS} if model.get("tells_contributions") else reads - {CONTRIBUTIONS}
    return bool(reads & set(about.get("computed_from") or ()))


def _truth(run: RunFolder, setting: Setting, values: ImageValues, truth: str) -> Iterator[Row]:
    """Of both tests; none where the truth has no value, or is compared with nothing."""
    comparison = run.comparisons.without(setting, values.metric, spoiled_methods(run) - {truth})
    if comparison is None or truth not in comparison.places.index or len(comparison.places) < 2:
        return
    own, circular = comparison.group_of(truth), is_circular(run, setting, values.metric, truth)
    row = Row(values.metric, "", run.label(setting), truth, n=comparison.images, circular=circular)
    others = [group for group in comparison.ranked if group != own]
    if not others:  # all coincide with the truth
        for test in OF_A_TRUTH:
            yield row._replace(test=test, value=0.5, low=0.5, high=0.5, passes=True)
        return
    rival = others[0][0]
    pair = comparison.pair(own[0], rival)
    difference, *ends = (values.sign * pair[end] for end in ("difference", "low", "high"))
    is_ahead = bool(difference >= 0)
    ends = sorted(ends if is_ahead else (-end for end in ends))
    about = f"{'behind' if is_ahead else 'ahead'} by {with_interval(abs(difference), *ends)}"
    is_behind = any(
        values.sign * comparison.pair(own[0], group[0])["difference"] < 0 and comparison.differ(own[0], group[0])
        for group in others
    )
    value, low, high = _share_ahead(values, truth, rival)
    row = row._replace(value=value, low=low, high=high, about=f"{run.metadata.method_title(rival)} {about}")
    for test, passes in zip(OF_A_TRUTH, (is_ahead, not is_behind), strict=True):
        yield row._replace(test=test, passes=None if circular else passes)


def _share_ahead(values: ImageValues, method: str, rival: str, images: slice = EVERY) -> tuple[float, float, float]:
    """Of these images that both have the share on which the method is better, with its interval from FEWEST_IMAGES on;
    a tie counts half."""
    pair = values.of([method, rival]).values[images]
    first, second = pair[np.isfinite(pair).all(axis=1)].T
    ahead = np.where(are_equal(first, second, values.rounding), 0.5, values.sign * (first - second) > 0)
    low, high = mean_intervals(ahead[:, None], np.arange(len(ahead)))[:, 0].tolist()  # NaN of few images
    return float(ahead.mean()), low, high


def _degrees(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """One row of the kinds that can judge the metric; where all are circular, one of these. None of too few images for
    an interval."""
    kinds = judgement.fitting_kinds(run, values.metric)
    plain = [kind for kind in kinds if not is_circular(run, setting, values.metric, kind.methods[0])]
    chosen = plain or kinds
    table = recovery(values, chosen, _size(values, [name for kind in chosen for name in kind.methods]))
    for row in table[(table["kind"] == ALL) & table["low"].notna()].to_dict("records"):
        lowest = table[table["kind"] != ALL].sort_values("right", kind="stable").iloc[0]
        yield Row(
            values.metric, DEGREES, run.label(setting), ", ".join(kind.name for kind in chosen),
            row["right"], row["low"], row["high"], int(row["images"]), not plain,
            bool(row["low"] >= GOAL) if plain else None,
            f"{lowest['kind']} {lowest['right']:.2f}" if lowest["right"] < GOAL else "",
        )  # fmt: skip


def _places(run: RunFolder, setting: Setting, metric: str) -> Iterator[Row]:
    """Of each control that is compared, the best first; none for a metric without a direction. Methods that coincide
    share a place.

    about: BEATS, UNCLEAR or BELOW, by the paired test against the method with the best value that is no control, at 5 %
    after Holm over all pairs of the metric. FIRST where there is no other method.
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
        row = Row(metric, PLACE, run.label(setting), "", number, place.place_low, place.place_high, count)
        yield from (row._replace(truth=name, about=against) for name in group if name in controls)


def _controls(run: RunFolder, setting: Setting, values: ImageValues, places: Sequence[Row]) -> Iterator[Row]:
    names = [name for name in values.methods if name in run.metadata.controls]
    pairs = [(method, control) for control in names for method in values.methods if method not in names]
    if not pairs:
        return
    right, low, high = judgement.right_pairs(values, pairs, _size(values, values.methods))
    if np.isnan(low):  # of too few images
        return
    first = next((row for row in places if row.truth in names), None)
    about = f"{run.metadata.method_title(first.truth)} {first.about}" if first and first.about != BELOW else ""
    passes, network = bool(low >= GOAL), run.label(setting)
    yield Row(values.metric, CONTROLS, network, "", right, low, high, values.num_images, passes=passes, about=about)


def _order(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """Yield the reliability and the images needed, of at least MIN_METHODS methods that differ and two images."""
    distinct = values.distinct()
    row = Row(values.metric, NEEDED, run.label(setting))
    if len(distinct.methods) < MIN_METHODS:
        yield row._replace(n=values.num_images, about=FEW_METHODS)
        return
    if distinct.num_images < 2:
        return
    halves = agreement.split_half_agreement(distinct)
    passes, about = bool(halves.tau >= TAU), f"of {halves.half} images"
    yield row._replace(test=RELIABILITY, value=halves.tau, n=distinct.num_images, passes=passes, about=about)
    comparison = _comparison(run, setting, values.metric)
    if comparison is not None:
        yield row._replace(value=comparison.images_needed, n=comparison.images)


def _comparison(run: RunFolder, setting: Setting, metric: str) -> Comparison | None:
    """Return the comparison of all methods except spoiled ones."""
    spoiled = spoiled_methods(run)
    return run.comparisons.without(setting, metric, spoiled) if spoiled else run.comparisons.of(setting, metric)


def _gaming(run: RunFolder, setting: Setting, values: ImageValues) -> Iterator[Row]:
    """The best blind map and the best method by every second image, compared on the other images."""
    left_out = run.metadata.by_construction(values.metric)
    compared = [
        name for name, column in zip(values.methods, values.values.T, strict=True)
        if np.isfinite(column[::2]).any() and name not in left_out
    ]  # fmt: skip
    blind_maps = [name for name in compared if run.metadata.method(name).get("blind")]
    methods = [name for name in compared if name not in run.metadata.controls]
    if not blind_maps or not methods:
        return
    blind, best = (best_of(values.of(names), slice(0, None, 2)) for names in (blind_maps, methods))
    result = blind_against(values, run.metadata.value(values.metric), blind, best, slice(1, None, 2))
    if result is not None:
        share, n, passes = result
        about = f"{run.metadata.method_title(blind)} against {run.metadata.method_title(best)}"
        yield Row(values.metric, GAMING, run.label(setting), "", *share, n, passes=passes, about=about)


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
    """Return how many images put two of these methods in order: all of them, up to MOST_IMAGES."""
    return min(MOST_IMAGES, values.of([name for name in values.methods if name in methods]).num_images)


def family(network: str) -> str:
    """The network whose recipe it was trained by: "scenes_vgg_seed1" is of the family "scenes_vgg"."""
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def interval_over_networks(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the mean of the values of `Row` in one test, over other networks and images; NaN for fewer than two families.

    The bootstrap has three levels: families, networks, images. Networks trained by one recipe from other seeds are a
    family, since they are more alike than others; each other network is one. Of the images a row has its interval
    alone, so a resampled network's value moves by a normal error of that size: the interval is rather too wide.
    """
    errors = (rows["high"] - rows["low"]).fillna(0).to_numpy() / (2 * NORMAL)
    values, draws = rows["value"].to_numpy(dtype=float), np.random.default_rng(SEED)
    members = list(rows.reset_index(drop=True).groupby(rows["network"].map(family).to_numpy()).indices.values())
    if len(members) < 2:
        return float("nan"), float("nan")
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        families = draws.integers(len(members), size=len(members))
        places = np.concatenate([draws.choice(members[place], len(members[place])) for place in families])
        means[number] = (values[places] + errors[places] * draws.standard_normal(len(places))).mean()
    low, high = np.quantile(means, [TAIL, 1 - TAIL]).clip(values.min(), values.max())
    return float(low), float(high)


PRIMARY = "truth"  # Shapley values: of channels where the network tells them, else of the image's parts
MARGIN = 0.05
SHARE = 0.9
ASKED = (TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, SANITY, GAMING)
REQUIRED = (TRUTH_AHEAD, TRUTH_FIRST, DEGREES)  # without these a metric isn't judged


def verdicts(card: pd.DataFrame) -> dict[str, dict[str, bool | None]]:
    """{metric: {test of ASKED: whether the rule holds}}, None where the test isn't asked of the metric."""
    counted: dict[str, dict[str, list[Any]]] = {str(metric): {} for metric in card["metric"].unique()}
    row: Any
    for row in card[["metric", "test", "truth", "circular", "passes", "value"]].itertuples(index=False):
        if not row.circular and not pd.isna(row.passes) and (row.test not in OF_A_TRUTH or row.truth == PRIMARY):
            counted[row.metric].setdefault(row.test, []).append(row)
    return {
        metric: {test: _holds(test, rows_of[test]) if test in rows_of else None for test in ASKED}
        for metric, rows_of in counted.items()
    }


def leaders(card: pd.DataFrame) -> list[str]:
    """The metrics that the rule lets lead, in the card's order."""
    return [
        metric
        for metric, tests in verdicts(card).items()
        if False not in tests.values() and not any(tests[test] is None for test in REQUIRED)
    ]


def _holds(test: str, rows: Sequence[Any]) -> bool:
    if test == TRUTH_FIRST:
        return all(row.passes or row.value >= 0.5 - MARGIN for row in rows)
    passed = [bool(row.passes) for row in rows]
    return sum(passed) / len(passed) >= SHARE if test in (TRUTH_AHEAD, DEGREES, CONTROLS) else all(passed)


@cache
def committed_card() -> pd.DataFrame:
    """docs/data/scorecard.csv, which is installed with the package: the columns of `card.Row`, and commit."""
    card = pd.read_csv(conf_folder().parent / "scorecard.csv", dtype={"passes": str}, keep_default_na=False)
    for name in ("value", "low", "high"):
        card[name] = pd.to_numeric(card[name])
    card["passes"] = card["passes"].map({"True": True, "False": False})
    return card


def committed_rows(config: Mapping[str, Any], metric: str, value: str) -> pd.DataFrame:
    """The committed card's rows of a value of a metric; none where a run's config has the metric with other code or
    parameters than those that were judged."""
    is_ours = metric in entry_names("metric")
    shipped = read_yaml(conf_folder() / "metric" / f"{metric}.yaml").get(metric) if is_ours else None
    card = committed_card()
    is_same = bool(shipped) and _settings((config.get("metric") or {}).get(metric)) == _settings(shipped)
    return card[card["metric"] == value] if is_same else card[:0]


def _settings(entry: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The code and the parameters of a metric's entry."""
    return (entry or {}).get("_target_"), (entry or {}).get("params") or {}
