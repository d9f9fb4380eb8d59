"""Who is best: in one setting, in words with their numbers, and over networks and data sets by mean
ranks (Friedman's and Nemenyi's tests, after Demsar, Statistical comparisons of classifiers over
multiple data sets, J. Mach. Learn. Res. 2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
import pandas as pd

from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, number, p_value, plural, share
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder

FEWEST_SETTINGS = (
    10  # of fewer, ranks have to differ by half of all places or more: 4.8 of 10 for eleven methods
)


@dataclass(frozen=True, eq=False)
class MeanRanks:
    """ranks: method -> its mean rank, 1 for the best, sorted. count: how many settings they are
    over. critical: the difference from which two differ at 5 % over all pairs (Nemenyi). p: that
    all methods are alike (Friedman).
    """

    ranks: pd.Series
    count: int
    critical: float
    p: float

    def alike(self) -> list[tuple[int, int]]:
        """(first, last) place of the longest runs of methods, in the order of ranks, that can't be
        told apart.
        """
        values = self.ranks.to_numpy(float)
        runs: list[tuple[int, int]] = []
        for first in range(len(values)):
            last = int(np.flatnonzero(values - values[first] < self.critical).max())
            if last > first and (not runs or last > runs[-1][1]):
                runs.append((first, last))
        return runs


def mean_ranks(run: RunFolder, metric: str) -> MeanRanks | None:
    """Of the methods that have a place in all settings that rank methods; methods that coincide
    share theirs. None for fewer than two methods or settings.
    """
    columns = {}
    for place, setting in enumerate(run.settings):
        if (comparison := _ranking(run, setting, metric)) is not None:
            values = comparison.places["value"]  # methods that coincide have the same
            of_method = {name: values[group[0]] for group in comparison.groups for name in group}
            columns[place] = pd.Series(of_method, dtype=float)
    table = pd.DataFrame(columns).dropna()
    methods, count = table.shape
    if methods < 2 or count < 2:
        return None
    is_lower = run.metadata.value(metric).better == "lower"
    ranks = table.rank(ascending=is_lower).mean(axis=1).sort_values(kind="stable")
    return MeanRanks(ranks, count, critical_difference(methods, count), _friedman(table))


def critical_difference(methods: int, settings: int) -> float:
    """q sqrt(k (k + 1) / (6 N)) of Nemenyi's test at 5 %, q of the studentised range over
    sqrt(2).
    """
    from scipy.stats import studentized_range  # here, because it takes half a second to import

    quantile = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * settings)))


def _friedman(table: pd.DataFrame) -> float:
    from scipy.stats import friedmanchisquare

    if len(table) < 3:  # it takes three methods
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):  # all alike everywhere
        return float(friedmanchisquare(*table.to_numpy()).pvalue)


def best_methods(run: RunFolder, setting: Setting, metric: str) -> frozenset[str]:
    """The methods that are bold: see `comparison.Comparison.places`. None for a model that ranks
    none, or where a control is unbeaten.
    """
    comparison = _ranking(run, setting, metric)
    return comparison.best if comparison is not None else frozenset()


def unbeaten(run: RunFolder, setting: Setting, metric: str) -> tuple[str, ...]:
    """The controls that no method is significantly better than; see `comparison.Comparison`. None
    for a model that ranks none.
    """
    comparison = _ranking(run, setting, metric)
    return comparison.unbeaten if comparison is not None else ()


def _ranking(run: RunFolder, setting: Setting, metric: str) -> Comparison | None:
    """None for a model whose values rank no method: see `RunFolder.ranks`."""
    return run.comparisons.of(setting, metric) if run.ranks(setting) else None


def on_common_images(rows: pd.DataFrame) -> bool:
    """Whether the methods of one metric's summary rows have values for different images, so that
    those that all of them have decide.
    """
    return bool(rows["partial"].eq(True).any())


Kind = Literal[
    "agreement", "best", "undecided", "control", "contradicted", "coinciding", "by_construction"
]
Group = tuple[str, ...]
MOST_NAMES = 4  # groups that a sentence names; of more it gives the number


@dataclass(frozen=True)
class Statement:
    """sentence: what can be said, or what can't; of one setting it starts with the setting's label
    and ": ". numbers: those behind it, as a second sentence.

    kind: "agreement" (what all settings say), "best" (a difference is significant), "undecided"
    (who is better can't be told), "control" (a control is unbeaten, so nobody is best),
    "contradicted" (value and images disagree on who is). Also "coinciding" (no method differs from
    another), "by_construction" (who wins by construction). metric: the value's name. settings:
    where it holds.
    """

    sentence: str
    kind: Kind
    metric: str
    settings: tuple[Setting, ...]
    numbers: str = ""


def findings(run: RunFolder, metrics: Sequence[str]) -> list[Statement]:
    """Return what the metrics with a direction say, in their order, without models that rank no
    method.

    Metrics in which no method can be best, or a control is unbeaten everywhere, come last; of a
    metric, what holds in all settings comes first.
    """
    settings = [setting for setting in run.settings if run.ranks(setting)]
    leading, last = list[Statement](), list[Statement]()
    for name in metrics:
        value = run.metadata.value(name)
        if name in run.metrics and value.has_direction:
            compared = {setting: run.comparisons.of(setting, name) for setting in settings}
            comparisons = {setting: each for setting, each in compared.items() if each is not None}
            is_last = bool(comparisons) and all(
                value.reached_by or each.unbeaten for each in comparisons.values()
            )
            (last if is_last else leading).extend(_of_metric(run, value, comparisons))
    return [*leading, *last]


def conclusion(
    run: RunFolder,
    metrics: Sequence[str],
    compare: str | None = None,
    rival: str = "",
    others: Sequence[str] = (),
) -> tuple[str, Setting | None, list[str]]:
    """`verdict` of a method to compare: by `metrics`, or else by the first of `others` and of the
    run's metrics that both methods have. Else who is best, in the first setting and metric that
    tell methods apart; that setting, and all its metrics in which the same methods are. Else a
    sentence, None and []: `at_chance`'s first, or that no metric tells; "" where no two methods are
    compared.
    """
    if compare is not None:
        rest = dict.fromkeys(name for name in (*others, *run.metrics) if name in run.metrics)
        by_rank = sorted(rest, key=lambda name: bool(run.metadata.value(name).reached_by))
        for names in (metrics, *([name] for name in by_rank)):
            if sentence := verdict([run], compare, rival, names):
                return sentence, None, []
        if {compare, rival} <= {*run.methods} and any(map(run.ranks, run.settings)):
            titles = " and ".join(map(run.metadata.method_title, (compare, rival)))
            return f"No metric has values of both {titles} on the same images", None, []
    for setting in run.settings:
        leaders = {name: methods for name in metrics if (methods := _ahead(run, setting, name))}
        for methods in leaders.values():
            shared = [
                run.metadata.value(name) for name, others in leaders.items() if others == methods
            ]
            names = names_in_words(run, [(name,) for name in run.methods if name in methods])
            titles = _joined([in_sentence(value.title) for value in shared])
            firsts = [
                comparison.ranked[0]
                for value in shared
                if (comparison := run.comparisons.of(setting, value.name))
            ]
            does = {"lower": "has the lowest", "higher": "has the highest"}[shared[0].better]
            if len({value.better for value in shared}) > 1 or not all(
                methods <= set(first) for first in firsts
            ):
                does = "leads in"  # of some means better than others, but not significantly
            if len(methods) > 1:
                does = does.replace("has", "have").replace("leads", "lead")
            same = [
                at
                for at in run.settings
                if all(_ahead(run, at, value.name) == methods for value in shared)
            ]
            where = f"{_joined([run.label(at) for at in same[:MOST_NAMES]])}{' and others' * (len(same) > MOST_NAMES)}"
            return f"{names} {does} {titles} on {where}", setting, [value.name for value in shared]
    each = [_ranking(run, setting, name) for setting in run.settings for name in metrics]
    images = [
        comparison.images
        for comparison in each
        if comparison is not None and len(comparison.places) > 1
    ]
    nobody = (
        f"No metric tells which method is best with {plural(max(images), 'image')}"
        if images
        else ""
    )
    return next(iter((*at_chance(run), nobody))), None, []


def _ahead(run: RunFolder, setting: Setting, metric: str) -> frozenset[str]:
    """The methods that are best, where a method that is no control is worse, or only one is
    compared; else none.
    """
    best, comparison = best_methods(run, setting, metric), _ranking(run, setting, metric)
    methods = {*comparison.places.index} - run.metadata.controls if comparison else {""}
    return best if best and (methods - best or len(methods) == 1) else frozenset()


def tells_apart(run: RunFolder, metric: str) -> bool:
    """Whether a method is significantly worse by a metric than the best, on any network."""
    return any(_ahead(run, setting, metric) for setting in run.settings)


def coincidences(run: RunFolder, metrics: Sequence[str]) -> str:
    """A sentence of the networks on which all methods but controls have the same values of metrics;
    "" without one.
    """
    titles: dict[tuple[str, ...], list[str]] = {}
    for name in metrics:
        if same := [run.label(setting) for setting in run.settings if coincide(run, setting, name)]:
            titles.setdefault(tuple(same), []).append(in_sentence(run.metadata.value(name).title))
    return " ".join(
        f"On {_joined(labels)} all methods, controls aside, have the same {_joined(of_labels)}. "
        "Global average pooling behind the layer makes Grad-CAM, XGrad-CAM and HiResCAM the same "
        "map, and one linear layer behind the pooling makes CAM and Ablation-CAM (axiomatic) the "
        "same too."
        for labels, of_labels in titles.items()
    )


def coincide(run: RunFolder, setting: Setting, metric: str) -> bool:
    """Whether several methods are ranked, and all but controls have the same values."""
    comparison = _ranking(run, setting, metric)
    groups = (
        [group for group in comparison.groups if not {*group} <= run.metadata.controls]
        if comparison
        else []
    )
    return len(groups) == 1 and len(groups[0]) > 1


COMPARED = {
    1: "significantly better than",
    -1: "significantly worse than",
    0: "not significantly different from",
}


def verdict(runs: Sequence[RunFolder], method: str, rival: str, metrics: Sequence[str]) -> str:
    """Whether a method is better than another, by how much, and on how many networks and images. By
    the first metric in which they differ anywhere, else the first that compares both; "" where none
    does. A metric in which no method can be best counts only where no other compares both.
    """
    with_a_best = [name for name in metrics if not runs[0].metadata.value(name).reached_by]
    for names in (with_a_best, metrics):
        verdicts = filter(None, (_verdict(runs, method, rival, name) for name in names))
        if first := next(verdicts, None):
            return next(
                (sentence for differ, sentence in chain([first], verdicts) if differ), first[1]
            )
    return ""


def _verdict(
    runs: Sequence[RunFolder], method: str, rival: str, metric: str
) -> tuple[bool, str] | None:
    """Whether they differ in a metric, and the sentence; None where no network has both."""
    where: dict[int, list[str]] = {1: [], -1: [], 0: []}
    differences, images, values = list[float](), list[int](), list[float]()
    for run in runs:
        value, title = run.metadata.value(metric), run.metadata.method_title
        for setting in run.settings:
            comparison = _ranking(run, setting, metric)
            if comparison is None or not {method, rival} <= {*comparison.places.index}:
                continue
            own, other = comparison.group_of(method)[0], comparison.group_of(rival)[0]
            sign = 0
            difference = comparison.place(method).value - comparison.place(rival).value
            if own != other and comparison.differ(own, other):
                sign = 1 if (difference > 0) == (value.better == "higher") else -1
            where[sign].append(run.label(setting))
            differences += [difference] * (own != other)
            images.append(comparison.images)
            values = [comparison.place(name).value for name in (method, rival)]
    if not images or not value.has_direction:
        return None
    text, count = partial(number, rounding=value.rounding), len(images)
    about = f"{title(rival)} in {in_sentence(value.title)}"
    on_images = (
        f"{' to '.join(dict.fromkeys(f'{each:,}' for each in (min(images), max(images))))} images"
    )
    if not differences:
        return (
            False,
            f"{title(method)} coincides with {about} on {_networks(count, count)}, {on_images}",
        )
    first, *others = sorted(
        (sign for sign in where if where[sign]), key=lambda sign: -len(where[sign])
    )
    place = where[first][0] if count == 1 else _networks(len(where[first]), count)
    more = "".join(f", {COMPARED[sign]} it on {len(where[sign])}" for sign in others)
    ends = " to ".join(dict.fromkeys(map(text, (min(differences), max(differences)))))
    shown = f"{text(values[0])} against {text(values[1])}" if count == 1 else f"difference {ends}"
    sentence = f"{title(method)} is {COMPARED[first]} {about} on {place}{more}"
    caveat = f"; {value.why_no_best}" if value.reached_by else ""
    return True, f"{sentence}: {value.lead} {shown}, {on_images}{' each' * (count > 1)}{caveat}"


def _networks(count: int, total: int) -> str:
    every = {1: "the network", 2: "both networks"}.get(total, f"all {total} networks")
    return every if count == total else f"{count} of {total} networks"


MEND = (
    "Check weights, mean and std, and that labels count the classes in the order of the network's "
    "outputs."
)


def at_chance(run: RunFolder) -> list[str]:
    """A sentence, without its point, for each trained network that names its images no better than
    chance.
    """
    return [
        f"{run.network(*place)} names {accuracy} images as labelled, no more than chance "
        f"({share(accuracy.chance, 1)}), so its values rank no method"
        for place, accuracy in run.accuracies.items()
        if accuracy.is_chance and not run.metadata.model(place[0]).random_weights
    ]


def below_published(run: RunFolder) -> list[str]:
    """A sentence, without its point, for each network that names significantly fewer images than is
    published for its weights, and more than chance.
    """
    return [
        f"{run.network(*place)} names {accuracy} images as labelled, fewer than the "
        f"{share(accuracy.published, 1)} of ImageNet that are published for its weights"
        for place, accuracy in run.accuracies.items()
        if accuracy.is_below_published and not accuracy.is_chance
    ]


def _of_metric(
    run: RunFolder, value: Value, comparisons: Mapping[Setting, Comparison]
) -> Iterator[Statement]:
    differing = {
        setting: comparison
        for setting, comparison in comparisons.items()
        if len(comparison.groups) > 1
    }
    won = {
        setting: comparison
        for setting, comparison in differing.items()
        if not value.reached_by and not comparison.unbeaten
    }
    if len(won) > 1:
        left_out = " that tell methods apart" if len(differing) < len(comparisons) else ""
        if len(won) < len(differing):
            left_out += f"{' and' if left_out else ''} where each control is beaten"
        sentence = _agreement(run, value, won, left_out)
        yield Statement(sentence, "agreement", value.name, tuple(won))
    for setting, comparison in comparisons.items():
        for kind, sentence, numbers in _of_setting(run, value, comparison):
            yield Statement(
                f"{run.label(setting)}: {sentence}", kind, value.name, (setting,), numbers
            )
    constructed = {
        setting: each.by_construction
        for setting, each in comparisons.items()
        if each.by_construction
    }
    if methods := list(dict.fromkeys(name for names in constructed.values() for name in names)):
        names = names_in_words(run, [(name,) for name in methods])
        which = "which is not ranked" if len(methods) == 1 else "which are not ranked"
        sentence = f"The {in_sentence(value.title)} is 0 by construction for {names}, {which}."
        yield Statement(sentence, "by_construction", value.name, tuple(constructed))


def _agreement(
    run: RunFolder, value: Value, comparisons: Mapping[Setting, Comparison], which: str
) -> str:
    """Which methods are best, or can't be told from the best, in all of several settings. which: of
    the run's all.
    """
    leading = [
        [name for group in (comparison.ranked[0], *comparison.not_worse) for name in group]
        for comparison in comparisons.values()
    ]
    shared = [(name,) for name in leading[0] if all(name in other for other in leading)]
    are_networks = len({setting.model for setting in comparisons}) == len(comparisons)
    kind = "networks" if are_networks else "settings"
    where = f"{'both' if len(comparisons) == 2 else f'all {len(comparisons)}'} {kind}{which}"
    best = f"the best {in_sentence(value.title)}"
    if not shared:
        return f"No method has {best}, or one that is not significantly worse, in {where}."
    has = "has" if len(shared) == 1 else "have"
    return (
        f"In {where}, {names_in_words(run, shared)} {has} {best}, or one that is not significantly "
        "worse."
    )


def _of_setting(
    run: RunFolder, value: Value, comparison: Comparison
) -> Iterator[tuple[Kind, str, str]]:
    best, *others = comparison.ranked
    if not others and len(best) > 1:
        names = names_in_words(run, [(name,) for name in best])
        yield (
            "coinciding",
            f"{names} coincide in {in_sentence(value.title)}: none is better than another.",
            "",
        )
    if comparison.unbeaten:
        yield "control", *_control(run, value, comparison)
        return
    if value.reached_by:
        yield "control", f"Nobody is best in {in_sentence(value.title)}: {value.why_no_best}.", ""
        return
    unclear = comparison.not_worse
    worse = [group for group in others if group not in unclear]
    if worse:
        yield "best", *_difference(run, value, comparison, best, worse[0])
    if unclear:
        yield "undecided", *_undecided(run, value, comparison, best, unclear)
    if comparison.contradicted:
        yield "contradicted", _contradicted(run, value, comparison), ""


def _control(run: RunFolder, value: Value, comparison: Comparison) -> tuple[str, str]:
    """That no method is better than some controls, and the values of the first and of the best
    method.
    """
    controls = {name: comparison.place(name).value for name in comparison.unbeaten}
    names = names_in_words(run, [(name,) for name in controls], "or")
    what = (
        "a control, which explains nothing"
        if len(controls) == 1
        else "controls, which explain nothing"
    )
    sentence = (
        f"No method is significantly better than {names} in {in_sentence(value.title)}, {what}: "
        "nobody is best."
    )
    first = next(
        (group for group in comparison.ranked if not run.metadata.controls.issuperset(group)), None
    )
    if first is None:
        return sentence, ""
    texts = [
        number(each, value.rounding)
        for each in (next(iter(controls.values())), comparison.place(first[0]).value)
    ]
    return (
        sentence,
        f"{value.lead.capitalize()} {texts[0]}; the best method, {group_name(run, first)}, has "
        f"{texts[1]}.",
    )


def _difference(
    run: RunFolder, value: Value, comparison: Comparison, best: Group, other: Group
) -> tuple[str, str]:
    """The best method against the best of those that are worse, and its numbers."""
    pair = comparison.pair(best[0], other[0])
    text = partial(number, rounding=value.rounding)
    values = [text(comparison.place(group[0]).value) for group in (best, other)]
    statistic, better, images = value.lead.capitalize(), pair["better"], comparison.images
    where = f", on {'all' if better == images else f'{better:,} of'} {plural(images, 'image')}"
    if comparison.of_whole_set:
        statistic, where = "Values", ""
    return (
        f"{group_name(run, best)} is significantly better than {group_name(run, other)} in "
        f"{in_sentence(value.title)}{where}.",
        f"{statistic} {values[0]} against {values[1]}; difference {text(pair['difference'])}, 95 "
        f"% CI {text(pair['low'])} to {text(pair['high'])}, {p_value(pair['adjusted'])} after "
        "Holm.",
    )


def _contradicted(run: RunFolder, value: Value, comparison: Comparison) -> str:
    pairs = comparison.contradicted
    parts = [
        f"{group_name(run, comparison.group_of(pair['second']))} is better than "
        f"{group_name(run, comparison.group_of(pair['first']))} on {pair['worse']:,} of "
        f"{plural(comparison.images, 'image')} and worse on {pair['better']:,}"
        for pair in pairs[:MOST_NAMES]
    ]
    more = f", and {len(pairs) - MOST_NAMES} more pairs" if len(pairs) > MOST_NAMES else ""
    return (
        f"The {value.lead} and the images disagree in {in_sentence(value.title)}: "
        f"{'; '.join(parts)}{more}, though the {value.lead} says the opposite; a few images, or "
        "one with many rows, decide it."
    )


def _undecided(
    run: RunFolder, value: Value, comparison: Comparison, best: Group, unclear: Sequence[Group]
) -> tuple[str, str]:
    names, title = names_in_words(run, unclear, "or"), in_sentence(value.title)
    sentence = f"{group_name(run, best)} is not significantly better than {names} in {title}."
    differences = [float(comparison.pair(best[0], group[0])["detectable"]) for group in unclear]
    largest = max((difference for difference in differences if difference > 0), default=None)
    if largest is None:
        is_tested = comparison.images >= FEWEST_IMAGES
        return sentence, "" if is_tested else f"Fewer than {FEWEST_IMAGES} images have no test."
    return sentence, (
        f"{plural(comparison.images, 'image')} would have shown a {value.lead} difference of "
        f"{number(largest, value.rounding)} or more with a probability of 80 %."
    )


def names_in_words(run: RunFolder, groups: Iterable[Group], last: str = "and") -> str:
    """ "A, B = C and D", where B and C coincide; of many groups the first and how many more."""
    names = [group_name(run, group) for group in groups]
    if len(names) > MOST_NAMES + 1:
        names = [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
    return _joined(names, last)


def _joined(names: Sequence[str], last: str = "and") -> str:
    """ "A, B and C"."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else names[0]


def group_name(run: RunFolder, group: Group) -> str:
    """Methods that coincide: "HiResCAM = XGrad-CAM"."""
    return " = ".join(map(run.metadata.method_title, group))


def in_sentence(title: str) -> str:
    """A title inside a sentence: "Sensitivity error" -> "sensitivity error"; "ROAD" and "MaxBoxAcc"
    stay.
    """
    first = title.split(" ")[0]
    return title[:1].lower() + title[1:] if first[1:].islower() or len(first) == 1 else title
