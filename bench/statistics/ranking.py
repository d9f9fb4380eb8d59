"""The best methods in each setting, and the findings of a run in sentences with their numbers.

The report's findings section, `statistics.answer` and `axiom-bench rank` print these sentences. A
setting is one model, cut at one layer, on one data set. A finding says which methods are best,
which can't be distinguished, or which don't beat a control.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

import pandas as pd

from axiom_bench.errors import plural
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.comparison import Comparison
from axiom_bench.statistics.labels import Setting, Value, confidence, number, p_value, share
from axiom_bench.statistics.run_folder import RunFolder


def best_methods(run: RunFolder, setting: Setting, metric: str) -> frozenset[str]:
    """Return the methods that are bold: see `comparison.Comparison.places`. There are none if the
    model ranks no method, or a control is unbeaten.
    """
    comparison = ranking_comparison(run, setting, metric)
    return comparison.best if comparison is not None else frozenset()


def unbeaten(run: RunFolder, setting: Setting, metric: str) -> tuple[str, ...]:
    """Return the controls that no method is significantly better than: see `comparison.Comparison`.
    There are none if the model ranks no method.
    """
    comparison = ranking_comparison(run, setting, metric)
    return comparison.unbeaten if comparison is not None else ()


def ranking_comparison(run: RunFolder, setting: Setting, metric: str) -> Comparison | None:
    """Return the comparison of a setting; None if the values of its model rank no method: see
    `RunFolder.ranks`.
    """
    return run.comparisons.of(setting, metric) if run.ranks_methods(setting) else None


def on_common_images(rows: pd.DataFrame) -> bool:
    """Return whether the methods in the summary rows of one metric have values for different
    images, so that the images that all of them have decide. Tables then add a note.
    """
    return bool(rows["partial"].eq(True).any())


Kind = Literal[
    "agreement", "best", "undecided", "control", "contradicted", "coinciding", "by_construction"
]
Group = tuple[str, ...]
MOST_NAMES = 4  # a sentence names at most this many groups, and gives the number of the others


@dataclass(frozen=True)
class Statement:
    """A finding on the methods by one metric, as `findings` returns it for the report's page."""

    sentence: str
    """The finding, which may be that nothing is significant. If it is on one setting, it starts
    with the setting's label and ": ".
    """
    kind: Kind
    """The kind of finding:

    - agreement: the methods that lead in all settings.
    - best: a difference is significant.
    - undecided: no difference from the best value is significant.
    - control: a control is unbeaten, so no method is best.
    - contradicted: the values and the numbers of images disagree on the better method.
    - coinciding: no method differs from another.
    - by_construction: the methods that win by construction.
    """
    metric: str
    """The name of the value."""
    settings: tuple[Setting, ...]
    """The settings in which the finding holds."""
    numbers: str = ""
    """The numbers behind the sentence, as a second sentence."""


def findings(run: RunFolder, metrics: Sequence[str]) -> list[Statement]:
    """Return the findings on the metrics with a direction, in their order, without models that rank
    no method.

    Metrics in which no method can be best, or a control is unbeaten everywhere, come last. Among
    the findings on a metric, those that hold in all settings come first.
    """
    settings = [setting for setting in run.settings if run.ranks_methods(setting)]
    first_statements: list[Statement] = []
    last_statements: list[Statement] = []
    for name in metrics:
        value = run.metadata.value(name)
        if name not in run.metrics or not value.has_direction:
            continue
        comparisons: dict[Setting, Comparison] = {}
        for setting in settings:
            comparison = run.comparisons.of(setting, name)
            if comparison is not None:
                comparisons[setting] = comparison
        has_no_best = bool(comparisons) and all(
            value.reached_by or comparison.unbeaten for comparison in comparisons.values()
        )
        statements = last_statements if has_no_best else first_statements
        statements.extend(_metric_findings(run, value, comparisons))
    return [*first_statements, *last_statements]


def coincide(run: RunFolder, setting: Setting, metric: str) -> bool:
    """Return whether several methods are ranked, and all except controls have the same values."""
    return bool(_coinciding(run, setting, metric))


def _coinciding(run: RunFolder, setting: Setting, metric: str) -> Group:
    """Return all ranked methods if they are several and all except controls have the same values;
    otherwise none.
    """
    comparison = ranking_comparison(run, setting, metric)
    if comparison is None:
        return ()
    controls = run.metadata.controls
    groups = [group for group in comparison.groups if not {*group} <= controls]
    if len(groups) == 1 and len(groups[0]) > 1:
        return groups[0]
    return ()


COMPARED = {  # by the sign of a significant difference
    1: "significantly better than",
    -1: "significantly worse than",
    0: "not significantly different from",
}


def verdict(runs: Sequence[RunFolder], method: str, rival: str, metrics: Sequence[str]) -> str:
    """Return whether a method is better than another, by how much, and on how many networks and
    images, in a sentence. `axiom-bench rank` ends with it, and a report's title begins with it.

    The first metric in which they differ anywhere decides, or otherwise the first that compares
    both. The text is "" if no metric does. A metric in which no method can be best counts only if
    no other compares both.
    """
    metrics_with_best = [name for name in metrics if not runs[0].metadata.value(name).reached_by]
    for names in (metrics_with_best, metrics):
        verdicts = filter(None, (_verdict(runs, method, rival, name) for name in names))
        if first := next(verdicts, None):
            differing = (sentence for differ, sentence in chain([first], verdicts) if differ)
            return next(differing, first[1])
    return ""


def _verdict(
    runs: Sequence[RunFolder], method: str, rival: str, metric: str
) -> tuple[bool, str] | None:
    """Return (whether two methods differ in a metric, the sentence); None if no network has
    both.
    """
    # {1: better, -1: worse, 0: not significantly different}, with the labels of the settings
    labels: dict[int, list[str]] = {1: [], -1: [], 0: []}
    differences: list[float] = []
    images: list[int] = []
    values: list[float] = []
    for run in runs:
        value = run.metadata.value(metric)
        title = run.metadata.method_title
        for setting in run.settings:
            comparison = ranking_comparison(run, setting, metric)
            if comparison is None or not {method, rival} <= {*comparison.places.index}:
                continue
            group = comparison.group_of(method)[0]
            rival_group = comparison.group_of(rival)[0]
            values = [comparison.place(name).value for name in (method, rival)]
            difference = values[0] - values[1]
            sign = 0
            if group != rival_group:
                differences.append(difference)
                if comparison.is_significant(group, rival_group):
                    sign = 1 if (difference > 0) == (value.better == "higher") else -1
            labels[sign].append(run.label(setting))
            images.append(comparison.images)
    if not images or not value.has_direction:
        return None
    text = partial(number, rounding=value.rounding)
    count = len(images)
    about = f"{title(rival)} in {in_sentence(value.title)}"
    on_images = f"{_range(f'{min(images):,}', f'{max(images):,}')} images"
    if not differences:
        networks = _networks(count, count)
        return False, f"{title(method)} coincides with {about} on {networks}, {on_images}"
    by_frequency = sorted(labels, key=lambda sign: -len(labels[sign]))
    first, *others = (sign for sign in by_frequency if labels[sign])
    networks = labels[first][0] if count == 1 else _networks(len(labels[first]), count)
    more = "".join(f", {COMPARED[sign]} it on {len(labels[sign])}" for sign in others)
    if count == 1:
        numbers = f"{text(values[0])} against {text(values[1])}"
        per_network = ""
    else:
        numbers = f"difference {_range(text(min(differences)), text(max(differences)))}"
        per_network = " each"
    sentence = f"{title(method)} is {COMPARED[first]} {about} on {networks}{more}"
    caveat = f"; {value.why_no_best}" if value.reached_by else ""
    return True, f"{sentence}: {value.lead} {numbers}, {on_images}{per_network}{caveat}"


def _range(low: str, high: str) -> str:
    """Return "low to high", or one text if both are the same."""
    return low if low == high else f"{low} to {high}"


def _networks(count: int, total: int) -> str:
    """Return "the network", "both networks", "all 3 networks" or "2 of 3 networks"."""
    if count < total:
        return f"{count} of {total} networks"
    return {1: "the network", 2: "both networks"}.get(total, f"all {total} networks")


FIX = (
    "Check weights, mean and std, and that labels count the classes in the order of the network's "
    "outputs."
)


def at_chance(run: RunFolder) -> list[str]:
    """Return a sentence, without its full stop, for each trained network that predicts labels no
    better than chance.
    """
    return [
        f"The network {run.network(*place)} predicts the label of {accuracy} images, no more than "
        f"chance ({share(accuracy.chance, 1)}), so its values rank no method"
        for place, accuracy in run.accuracies.items()
        if accuracy.is_chance and not run.metadata.model(place[0]).random_weights
    ]


def below_published(run: RunFolder) -> list[str]:
    """Return a sentence, without its full stop, for each network that is better than chance but
    predicts significantly fewer labels than is published for its weights.
    """
    return [
        f"The network {run.network(*place)} predicts the label of {accuracy} images, fewer than "
        f"the {share(accuracy.published, 1)} of ImageNet that are published for its weights"
        for place, accuracy in run.accuracies.items()
        if accuracy.is_below_published and not accuracy.is_chance
    ]


def _metric_findings(
    run: RunFolder, value: Value, comparisons: Mapping[Setting, Comparison]
) -> Iterator[Statement]:
    """Yield the findings on one metric: the agreement of its settings first, then each setting."""
    differing = [setting for setting in comparisons if len(comparisons[setting].groups) > 1]
    # only settings in which some method is best can agree on who it is
    won: dict[Setting, Comparison] = {}
    for setting in differing:
        if not value.reached_by and not comparisons[setting].unbeaten:
            won[setting] = comparisons[setting]
    if len(won) > 1:
        restriction = " that tell methods apart" if len(differing) < len(comparisons) else ""
        if len(won) < len(differing):
            restriction += " and" if restriction else ""
            restriction += " where each control is beaten"
        sentence = _agreement(run, value, won, restriction)
        yield Statement(sentence, "agreement", value.name, tuple(won))
    constructed: dict[Setting, tuple[str, ...]] = {}
    for setting, comparison in comparisons.items():
        for kind, sentence, numbers in _setting_findings(run, value, comparison):
            labelled = f"{run.label(setting)}: {sentence}"
            yield Statement(labelled, kind, value.name, (setting,), numbers)
        if comparison.by_construction:
            constructed[setting] = comparison.by_construction
    methods = list(dict.fromkeys(chain.from_iterable(constructed.values())))
    if methods:
        names = names_in_words(run, [(name,) for name in methods])
        which = "which is not ranked" if len(methods) == 1 else "which are not ranked"
        sentence = f"The {in_sentence(value.title)} is 0 by construction for {names}, {which}."
        yield Statement(sentence, "by_construction", value.name, tuple(constructed))


def _agreement(
    run: RunFolder, value: Value, comparisons: Mapping[Setting, Comparison], restriction: str
) -> str:
    """Return a sentence on the methods that are best, or not significantly worse, in all of several
    settings.

    `restriction` says which of the run's settings these are.
    """
    leading = []
    for comparison in comparisons.values():
        leading.append([*chain(comparison.ranked[0], *comparison.not_worse)])
    shared = [(name,) for name in leading[0] if all(name in names for names in leading)]
    are_networks = len({setting.model for setting in comparisons}) == len(comparisons)
    kind = "networks" if are_networks else "settings"
    every = "both" if len(comparisons) == 2 else f"all {len(comparisons)}"
    places = f"{every} {kind}{restriction}"
    best = f"the best {in_sentence(value.title)}"
    if not shared:
        return f"No method has {best}, or one that is not significantly worse, in {places}."
    has = "has" if len(shared) == 1 else "have"
    return (
        f"In {places}, {names_in_words(run, shared)} {has} {best}, or one that is not "
        "significantly worse."
    )


def _setting_findings(
    run: RunFolder, value: Value, comparison: Comparison
) -> Iterator[tuple[Kind, str, str]]:
    """Yield (kind, sentence, numbers) of the findings in one setting."""
    best, *others = comparison.ranked
    title = in_sentence(value.title)
    if not others and len(best) > 1:
        # all compared methods coincide, so no pair has a difference
        names = names_in_words(run, [(name,) for name in best])
        yield "coinciding", f"{names} coincide in {title}: none is better than another.", ""
    if comparison.unbeaten:
        sentence, numbers = _control(run, value, comparison)
        yield "control", sentence, numbers
        return
    if value.reached_by:
        yield "control", f"Nobody is best in {title}: {value.why_no_best}.", ""
        return
    unclear = comparison.not_worse
    worse = [group for group in others if group not in unclear]
    if worse:
        sentence, numbers = _difference(run, value, comparison, best, worse[0])
        yield "best", sentence, numbers
    if unclear:
        sentence, numbers = _undecided(run, value, comparison, best, unclear)
        yield "undecided", sentence, numbers
    if comparison.contradicted:
        yield "contradicted", _contradicted(run, value, comparison), ""


def _control(run: RunFolder, value: Value, comparison: Comparison) -> tuple[str, str]:
    """Return (a sentence that no method is better than some controls, the values of the first
    control and of the best method).
    """
    controls = list(comparison.unbeaten)
    # an unbeaten control is a warning about the metric, so the sentence says what a control is
    names = names_in_words(run, [(name,) for name in controls], "or")
    apposition = "a control, which explains nothing"
    if len(controls) > 1:
        apposition = "controls, which explain nothing"
    sentence = (
        f"No method is significantly better than {names} in {in_sentence(value.title)}, "
        f"{apposition}: nobody is best."
    )
    for group in comparison.ranked:
        if not run.metadata.controls.issuperset(group):
            control_text = number(comparison.place(controls[0]).value, value.rounding)
            method_text = number(comparison.place(group[0]).value, value.rounding)
            return sentence, (
                f"{value.lead.capitalize()} {control_text}; the best method, "
                f"{group_name(run, group)}, has {method_text}."
            )
    return sentence, ""


def _difference(
    run: RunFolder, value: Value, comparison: Comparison, best: Group, other: Group
) -> tuple[str, str]:
    """Return (a sentence that the best method is better than another, its numbers)."""
    pair = comparison.pair(best[0], other[0])
    text = partial(number, rounding=value.rounding)
    # values of the whole data set have no counts by image
    first, second = (text(comparison.place(group[0]).value) for group in (best, other))
    if comparison.is_whole_set:
        statistic = "Values"
        on_images = ""
    else:
        statistic = value.lead.capitalize()
        better = pair["better"]
        images = comparison.images
        amount = "all" if better == images else f"{better:,} of"
        on_images = f", on {amount} {plural(images, 'image')}"
    sentence = (
        f"{group_name(run, best)} is significantly better than {group_name(run, other)} in "
        f"{in_sentence(value.title)}{on_images}."
    )
    numbers = (
        f"{statistic} {first} against {second}; difference {text(pair['difference'])}, "
        f"{confidence(comparison.level)} CI {text(pair['low'])} to {text(pair['high'])}, "
        f"{p_value(pair['adjusted'])} after Holm."
    )
    return sentence, numbers


def _contradicted(run: RunFolder, value: Value, comparison: Comparison) -> str:
    """Return a sentence on the pairs for which the values and the numbers of images disagree."""
    pairs = comparison.contradicted
    parts = []
    for pair in pairs[:MOST_NAMES]:
        first = group_name(run, comparison.group_of(pair["first"]))
        second = group_name(run, comparison.group_of(pair["second"]))
        parts.append(
            f"{second} is better than {first} on {pair['worse']:,} of "
            f"{plural(comparison.images, 'image')} and worse on {pair['better']:,}"
        )
    more = f", and {len(pairs) - MOST_NAMES} more pairs" if len(pairs) > MOST_NAMES else ""
    return (
        f"The {value.lead} and the images disagree in {in_sentence(value.title)}: "
        f"{'; '.join(parts)}{more}, though the {value.lead} says the opposite; a few images, or "
        "one with many rows, decide it."
    )


def _undecided(
    run: RunFolder, value: Value, comparison: Comparison, best: Group, unclear: Sequence[Group]
) -> tuple[str, str]:
    """Return (a sentence that the best value isn't significantly better than some, the difference
    that this number of images would have shown).
    """
    names = names_in_words(run, unclear, "or")
    title = in_sentence(value.title)
    sentence = f"{group_name(run, best)} is not significantly better than {names} in {title}."
    differences = [float(comparison.pair(best[0], group[0])["detectable"]) for group in unclear]
    largest = max((difference for difference in differences if difference > 0), default=None)
    if largest is not None:
        return sentence, (
            f"{plural(comparison.images, 'image')} would have shown a {value.lead} difference of "
            f"{number(largest, value.rounding)} or more with a probability of 80 %."
        )
    if comparison.images < FEWEST_IMAGES:
        return sentence, f"Fewer than {FEWEST_IMAGES} images have no test."
    return sentence, ""


def names_in_words(run: RunFolder, groups: Iterable[Group], last: str = "and") -> str:
    """Return "A, B = C and D", where B and C coincide. If there are many groups, the text has the
    first groups and the number of the others.
    """
    names = [group_name(run, group) for group in groups]
    if len(names) > MOST_NAMES + 1:
        names = [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
    return joined(names, last)


def joined(names: Sequence[str], last: str = "and") -> str:
    """Return "A, B and C"; "" without a name."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else "".join(names)


def group_name(run: RunFolder, group: Group) -> str:
    """Return the name of methods that coincide: "HiResCAM = XGrad-CAM"."""
    return " = ".join(map(run.metadata.method_title, group))


def in_sentence(title: str) -> str:
    """Return a title as it is written inside a sentence: "Sensitivity error" -> "sensitivity
    error"; "ROAD" and "MaxBoxAcc" stay.
    """
    first = title.split(" ")[0]
    return title[:1].lower() + title[1:] if first[1:].islower() or len(first) == 1 else title
