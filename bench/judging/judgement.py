"""All measures of all metrics of one setting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from axiom_bench.errors import BenchError, unknown
from axiom_bench.judging import agreement
from axiom_bench.judging.agreement import Counts, ImageValues, centres, disagreement, image_values
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats, mean_intervals
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.paired_tests import centre
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

MIN_METHODS = 3  # that can be put in an order worth comparing
MOST_VALUES = 100_000  # of a run that every report judges
ON_SCORE_SCALE = "score_scale"  # the need of a metric of contributions


@dataclass(frozen=True, eq=False)
class Judgement:
    """Of one setting. metrics: a row for each metric, see `judge`. controls: those of `controls` with the
    metric. disagreement: see `agreement.disagreement`. recovery: `RECOVERY_COLUMNS` with metric and case."""

    setting: Setting
    metrics: pd.DataFrame
    controls: pd.DataFrame
    disagreement: pd.DataFrame
    recovery: pd.DataFrame


def judge(
    run: RunFolder, setting: Setting, metrics: Sequence[str], recovered: pd.DataFrame | None = None,
    in_report: bool = False,
) -> Judgement:  # fmt: skip
    """metrics: names of values. recovered: recovery of other runs in place of this one's, see `recovery_of`.
    in_report: the run's report compares all methods anyway, and draws the disagreement elsewhere: it is empty.

    The rows of `metrics`: metric, images, methods (that differ), alpha with its interval, half (images), tau_halves,
    needed, least, most and extrapolated (see `agreement.SplitHalf`), NaN for fewer than MIN_METHODS methods or two
    images. Methods that are spoiled, or win by construction, aren't among them.
    """
    compared = compared_values(run, setting, metrics)
    rows = [
        {"metric": values.metric, "images": values.num_images, **_measures(values.distinct())} for values in compared
    ]
    table = pd.DataFrame(rows, columns=["metric", "images", *_measures(None)])
    stands = [pd.DataFrame(columns=[*CONTROL_COLUMNS, "metric"])]
    methods = run.manifest.get("methods") or ()
    spoiled, names = spoiled_methods(run), [name for name in methods if run.metadata.method(name).get("control")]
    for metric in metrics:
        computed = run.comparisons
        shared = in_report and not spoiled
        compare = computed.of(setting, metric) if shared else computed.without(setting, metric, spoiled)
        stands.append(controls(compare, names).assign(metric=metric))
    differing = disagreement(() if in_report else compared)
    truth = recovery_of(run, setting, metrics) if recovered is None else recovered
    return Judgement(setting, table, _joined(stands), differing, truth)


def compared_values(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> list[ImageValues]:
    """The values by image of those of the metrics that have them, of the methods that are neither spoiled nor win by
    construction, nor lack more than a tenth of the images."""
    spoiled, compared = spoiled_methods(run), []
    for metric in metrics:
        values = image_values(run, setting, metric)
        if values is not None:
            left_out = {*spoiled, *run.metadata.by_construction(metric)}
            compared.append(values.of([name for name in values.methods if name not in left_out]).compared())
    return compared


def recovery_of(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """`RECOVERY_COLUMNS` of each metric, with its name and that of the case, the setting.

    A kind whose unspoiled end wins by construction in some metric is one of contributions, whose map isn't known to be
    right: it judges metrics of contributions alone, those that need the score's scale.
    """
    parts = []
    for metric in metrics if kinds(_methods(run)) else ():
        values = image_values(run, setting, metric)
        if values is not None:
            found = recovery(values, fitting_kinds(run, metric))
            parts.append(found.assign(metric=metric, case=run.label(setting)))
    return _joined(parts)


def fitting_kinds(run: RunFolder, metric: str) -> list[Spoiling]:
    """The kinds of spoiling that can judge a metric, see `recovery_of`."""
    of_contributions = _of_contributions(run, metric)
    return [kind for kind in kinds(_methods(run)) if of_contributions or not _constructed(run, kind)]


def overall(recovered: pd.DataFrame) -> pd.DataFrame:
    """Over all cases and kinds: metric, size, pairs, images (the fewest of a case), right, low, high.

    right: the mean over all pairs of all cases; its interval adds the squares of the cases' distances to their ends, as
    of independent images. NaN where a case has too few images.
    """
    rows: list[dict[str, Any]] = []
    all_kinds = recovered[recovered["kind"] == ALL] if len(recovered) else recovered
    for (metric, size), cases in all_kinds.groupby(["metric", "size"], sort=False) if len(all_kinds) else ():
        share = (cases["pairs"] / cases["pairs"].sum()).to_numpy(float)
        rights = cases["right"].to_numpy(float)
        right = float((share * rights).sum())
        reach = [
            float(np.sqrt(((share * (rights - cases[end].to_numpy(float))) ** 2).sum())) for end in ("low", "high")
        ]
        ends = {"low": max(right - reach[0], 0.0), "high": min(right + reach[1], 1.0)}
        counts = {"pairs": int(cases["pairs"].sum()), "images": int(cases["images"].min())}
        rows.append(
            {"metric": metric, "size": size, **counts, "missing": cases["missing"].max(), "right": right, **ends}
        )
    return pd.DataFrame(rows, columns=["metric", "size", "pairs", "images", "missing", "right", "low", "high"])


def is_small(run: RunFolder) -> bool:
    """Whether judging the run takes a small share of its report's time."""
    return len(run.records) <= MOST_VALUES


def chosen_metrics(run: RunFolder, names: Collection[str] | None) -> list[str]:
    """These metrics, or all of the run that aren't of the layer alone, in the manifest's order.

    Raises BenchError, with the nearest names, for a metric that the run doesn't have.
    """
    metrics = [name for name in run.metrics if METHOD_FREE not in run.records.methods_of(name)]
    for name in names or ():
        if name not in metrics:
            raise unknown("metric in this run", name, metrics)
    return [name for name in metrics if names is None or name in names]


def check(run: RunFolder, spoiled_count: int) -> None:
    """Raises BenchError where no metric of the run can be judged, and says why."""
    if run.records.empty:
        raise BenchError(f"{run.path} has no records to judge; run its command again.")
    spoiled = spoiled_methods(run)
    methods = [name for name in run.methods if name not in spoiled]
    images = run.records.keys["image_id"].nunique()
    if images < 2:
        raise BenchError("The run has 1 image: metrics are judged by whether images agree, so run it on more of them.")
    if len(methods) < MIN_METHODS and not spoiled_count:
        raise BenchError(
            f"The run has {len(methods)} method{'' if len(methods) == 1 else 's'}: metrics are judged by the order in "
            f"which they put at least {MIN_METHODS}, so run it with more of them."
        )


def spoiled_methods(run: RunFolder) -> frozenset[str]:
    """The explainers whose quality is known: right ones, and spoiled ones with their unspoiled ends."""
    methods = _methods(run)
    ends = {name for kind in kinds(methods) for name in kind.methods}
    return frozenset(
        ends | {name for name, about in methods.items() if is_spoiled(about) or about.get("computed_from")}
    )


def _methods(run: RunFolder) -> dict[str, Mapping[str, Any]]:
    return {name: run.metadata.method(name) for name in run.manifest.get("methods") or ()}


def _measures(values: ImageValues | None) -> dict[str, Any]:
    """NaN for fewer than MIN_METHODS methods that differ."""
    names = (
        "methods", "alpha", "alpha_low", "alpha_high", "half", "tau_halves", "needed", "least", "most", "extrapolated",
    )  # fmt: skip
    count = 0 if values is None else len(values.methods)
    if values is None or count < MIN_METHODS or values.num_images < 2:
        return {**dict.fromkeys(names, np.nan), "methods": count, "half": 0, "extrapolated": False}
    alpha, halves = agreement.agreement(values.values, values.rounding), agreement.split_half_agreement(values)
    return dict(zip(names, (count, *alpha, *halves, halves.is_extrapolated), strict=True))


def _of_contributions(run: RunFolder, metric: str) -> bool:
    about = (run.manifest.get("metrics") or {}).get(metric) or {}
    return any(ON_SCORE_SCALE in (need if isinstance(need, dict) else [need]) for need in about.get("needs") or ())


def _constructed(run: RunFolder, kind: Spoiling) -> bool:
    return bool(run.metadata.method(kind.methods[0]).get("wins_by_construction"))


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else (parts[0] if parts else pd.DataFrame())


CONTROL_COLUMNS = ("control", "value", "place", "place_low", "place_high", "places", "against")
BEATS, FIRST, BELOW = "better than the best method", "first", "below"
UNCLEAR = "not significantly different from the best method"


def controls(comparison: Comparison | None, names: Collection[str]) -> pd.DataFrame:
    """CONTROL_COLUMNS, a row for each control that is compared, best first; none for a metric without a direction.

    comparison: of a metric's methods, None where none has a value. names: of the controls.
    place: by value, from 1, methods that coincide share one; place_low, place_high: what can't be excluded; places: how
    many there are. against: BEATS, UNCLEAR or BELOW, by the paired test against the method with the best value that is
    no control, at 5 % after Holm over all pairs of the metric. FIRST where there is no other method.
    """
    if comparison is None or comparison.better == "none":
        return pd.DataFrame(columns=list(CONTROL_COLUMNS))
    best = next((group for group in comparison.ranked if not any(name in names for name in group)), None)
    rows = []
    for place, group in enumerate(comparison.ranked, start=1):
        for name in (name for name in group if name in names):
            against = FIRST if best is None else UNCLEAR
            if best is not None and comparison.differ(group[0], best[0]):
                is_ahead = comparison.ranked.index(group) < comparison.ranked.index(best)
                against = BEATS if is_ahead else BELOW
            standing = comparison.place(name)
            places = (place, standing.place_low, standing.place_high, len(comparison.groups))
            rows.append((name, standing.value, *places, against))
    return pd.DataFrame(rows, columns=list(CONTROL_COLUMNS))


SIZES = (1, 10, 100)  # images by whose mean or median two explanations are put in order
DRAWS = 1000  # random sets of so many images
GOAL = 0.95
RECOVERY_COLUMNS = ("kind", "size", "pairs", "images", "missing", "right", "low", "high")
ALL = ""  # the kind that stands for all of them


@dataclass(frozen=True)
class Spoiling:
    """One kind of spoiling. methods: less spoiled first. degrees: of each."""

    name: str
    methods: tuple[str, ...]
    degrees: tuple[float, ...]

    def pairs(self, present: Collection[str]) -> list[tuple[str, str]]:
        """(less spoiled, more spoiled) of these methods; two of one degree are no pair."""
        pairs = combinations(zip(self.methods, self.degrees, strict=True), 2)
        return [(a, b) for (a, x), (b, y) in pairs if x < y and a in present and b in present]


def kinds(methods: Mapping[str, Mapping[str, Any]]) -> list[Spoiling]:
    """The kinds of spoiling that the metadata of a run's methods name, each with its unspoiled end."""
    degrees: dict[str, dict[str, float]] = {}
    for name, about in methods.items():
        if is_spoiled(about):
            of_kind = degrees.setdefault(str(about["spoiling"]), {})
            of_kind[name] = float(about["degree"])
            if about.get("unspoiled") in methods:
                of_kind[str(about["unspoiled"])] = 0.0
    ordered = {kind: sorted(of_kind.items(), key=lambda entry: entry[1]) for kind, of_kind in degrees.items()}
    return [
        Spoiling(kind, *map(tuple, zip(*of_kind, strict=True))) for kind, of_kind in ordered.items() if len(of_kind) > 1
    ]


def is_spoiled(about: Mapping[str, Any]) -> bool:
    """Whether a method's metadata say how far it is spoiled, which may be not at all."""
    return about.get("spoiling") is not None and about.get("degree") is not None


def recovery(values: ImageValues, spoilings: Sequence[Spoiling], sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """RECOVERY_COLUMNS, a row for each kind and size, and for all kinds together; none without a direction.

    right: the share of pairs of degrees of one kind that the metric puts in the right order by `size` images, the mean
    over random sets of so many of the images, without replacement. A tie counts half. low, high: its 95 % interval, see
    `_offsets`. NaN for more images than there are. A pair counts on images where both have values; missing: the share
    of images where one has none, the mean over pairs.
    """
    rows = []
    named = [(kind.name, pair) for kind in spoilings for pair in kind.pairs(values.methods)]
    if named and values.sign:
        pairs = _Pairs.of(values, [pair for _, pair in named])
        names = np.array([name for name, _ in named])
        chosen = {name: names == name for name in dict.fromkeys(names.tolist())} | {ALL: np.full(len(names), True)}
        for size in sizes:
            shares = pairs.right(size)
            for name, is_kind in chosen.items():
                about = (name, size, int(is_kind.sum()), pairs.num_images, float(pairs.missing[is_kind].mean()))
                rows.append((*about, *shares.of(is_kind)))
    return pd.DataFrame(rows, columns=list(RECOVERY_COLUMNS))


def right_pairs(values: ImageValues, pairs: Sequence[tuple[str, str]], size: int) -> tuple[float, float, float]:
    """The share of pairs (better, worse) of methods in that order by `size` images; its interval, as of `recovery`."""
    return _Pairs.of(values, pairs).right(size).of(np.full(len(pairs), True))


@dataclass(frozen=True, eq=False)
class Shares:
    """Of one size. right: (pairs,) the share of sets of images in which each pair is right. offsets: (resamples, pairs)
    by how much a resample of the images moves it. by_image: (images, pairs) for single images, None for sets."""

    right: Floats
    offsets: Floats
    by_image: Floats | None = None

    def of(self, chosen: np.ndarray) -> tuple[float, float, float]:
        """The mean over these pairs with its interval."""
        right = float(self.right[chosen].mean())
        if self.by_image is not None:
            rights = self.by_image[:, chosen]
            has = np.isfinite(rights).any(axis=1)
            single = np.nanmean(rights[has], axis=1)
            low, high = mean_intervals(single[:, None], np.arange(len(single)))[:, 0]
        elif len(self.offsets):
            offsets = self.offsets[:, chosen].mean(axis=1)
            reach = np.abs(np.quantile(offsets, [TAIL, 1 - TAIL])).max()
            low, high = np.clip([right - reach, right + reach], 0, 1)
        else:
            low, high = np.nan, np.nan
        return right, float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """values: (images, columns), masked to the images that a pair has in common. left, right: columns of each pair."""

    values: Floats
    left: list[int]
    right_: list[int]
    lead: str
    sign: int
    rounding: float
    missing: Floats

    @classmethod
    def of(cls, values: ImageValues, pairs: Sequence[tuple[str, str]]) -> _Pairs:
        """Columns that are equal, since no value is missing, are one."""
        places = [(values.methods.index(a), values.methods.index(b)) for a, b in pairs]
        has = np.isfinite(values.values)
        has_any = has[:, sorted({place for pair in places for place in pair})].any(axis=1)
        table, has = values.values[has_any], has[has_any]
        columns: dict[tuple[int, bytes], int] = {}
        sides: tuple[list[int], list[int]] = ([], [])
        missing = []
        for pair in places:
            both = has[:, pair[0]] & has[:, pair[1]]
            missing.append(1 - both.mean() if len(both) else 1.0)
            for side, place in zip(sides, pair, strict=True):
                side.append(columns.setdefault((place, both.tobytes()), len(columns)))
        masks = [np.frombuffer(key[1], dtype=bool) for key in columns]
        masked = [np.where(mask, table[:, place], np.nan) for (place, _), mask in zip(columns, masks, strict=True)]
        return cls(np.stack(masked, axis=1), *sides, values.lead, values.sign, values.rounding, np.array(missing))

    @property
    def num_images(self) -> int:
        return len(self.values)

    def right(self, size: int) -> Shares:
        """NaN where there are fewer images than `size`."""
        if size > self.num_images:
            nothing = np.full(len(self.left), np.nan)
            return Shares(nothing, np.empty((0, len(nothing))))
        if size == 1:
            by_image = self._is_right(np.eye(self.num_images, dtype=np.uint8))
            return Shares(centre(by_image, "mean"), np.empty((0, len(self.left))), by_image)
        right = centre(self._is_right(agreement.subsets(self.num_images, size, DRAWS)), "mean")
        return Shares(right, self._offsets(size) if self.num_images >= FEWEST_IMAGES else np.empty((0, len(right))))

    def _is_right(self, weights: Counts) -> Floats:
        """(samples, pairs): 1 where a sample has the pair in the right order, 1/2 for a tie, NaN where it has no image
        with both values."""
        found = centres(self.values, weights, self.lead)
        has = np.isfinite(found[:, self.left]) & np.isfinite(found[:, self.right_])
        return np.where(
            has, (1 + self.sign * agreement.signs(found, (self.left, self.right_), self.rounding)) / 2, np.nan
        )

    def _offsets(self, size: int) -> Floats:
        """(resamples, pairs): the share of right sets in a resample minus that which its images were drawn from.

        d: the difference of a pair in the right direction over all N images, with the error s by the bootstrap; d_b: in
        a resample. Sets of n images drawn without replacement from images with the difference d are right in about
        Phi(d / (s sqrt(N / n - 1))). Sets from a population with the difference d are in Phi(d / (s sqrt(N / n))).
        """
        everything = np.ones((1, self.num_images), dtype=np.uint8)
        full, resampled = (
            self.sign * self._difference(centres(self.values, weights, self.lead))
            for weights in (everything, agreement.drawn(self.num_images))
        )
        error = np.nanstd(resampled, axis=0)
        share = self.num_images / size
        return _phi(resampled, error * np.sqrt(share - 1)) - _phi(full, error * np.sqrt(share))

    def _difference(self, found: Floats) -> Floats:
        equal = agreement.signs(found, (self.left, self.right_), self.rounding) == 0
        return np.where(equal, 0.0, found[:, self.left] - found[:, self.right_])


def _phi(difference: Floats, error: Floats) -> Floats:
    """P(difference + error z > 0) for a normal z; 1/2 for a difference of 0 without an error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 0.5, ndtr(difference / error)))
