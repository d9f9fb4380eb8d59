"""The answer of a run to "which method should I use here?", from its records alone.

An answer is for one setting: one model, cut at one layer, on one data set. It says which methods
draw the same map, which are better than others, by how much and on how many images, and which can't
be distinguished. The report's title and first paragraph, and the last lines of a run, print it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations

import numpy as np

from axiom_bench.errors import plural
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, Floats
from axiom_bench.statistics.comparison import Comparison, Pair
from axiom_bench.statistics.labels import Setting, Value, number, p_value, rows_at
from axiom_bench.statistics.ranking import (
    MOST_NAMES,
    Group,
    at_chance,
    coincide,
    group_name,
    in_sentence,
    joined,
    names_in_words,
    ranking_comparison,
    verdict,
)
from axiom_bench.statistics.run_folder import RunFolder

MOST_REPEATED = 2  # the most chosen methods whose names another sentence repeats
MOST_OTHER_METRICS = 3  # other metrics whose best methods a sentence names
MOST_IMAGES = 10_000  # a larger number of images is "over 10,000"
# titles of methods that draw the same map if pooling, and behind it one linear layer, follow the
# layer
KNOWN_SAME = frozenset({"Grad-CAM", "XGrad-CAM", "HiResCAM", "CAM", "Ablation-CAM (axiomatic)"})
SAME_VALUES = "every metric of the map has the same values for them"
WHY_SAME = (
    "If global average pooling follows the layer, Grad-CAM, XGrad-CAM and HiResCAM draw the same "
    "map; if one linear layer follows the pooling, CAM and Ablation-CAM (axiomatic) draw it too."
)


@dataclass(frozen=True)
class Rival:
    """Methods that coincide in the deciding metric, and don't lead it."""

    methods: Group
    pair: str
    """The leading method that they are compared with."""
    difference: float
    """The value of `methods` minus the value of `pair`: medians or means, as tables show them."""
    adjusted: float
    """The p value of this difference after Holm; NaN without a test."""
    images_needed: float
    """The number of images that would show this difference with a probability of 80 %. It is
    infinite for a difference of 0, and NaN without a test.
    """
    is_worse: bool
    """True if `methods` are significantly worse."""


@dataclass(frozen=True)
class Answer:
    """The answer of one setting. The methods in its fields are no controls, unless a field says
    so.
    """

    setting: Setting
    same_maps: tuple[Group, ...]
    """Groups of at least two methods that draw the same map: see `same_maps`."""
    metric: str
    """The deciding metric: the first criterion in which some methods lead. If there is none, it is
    the first criterion that compares two methods that differ; otherwise "".
    """
    images: int
    """The number of images on which the deciding metric compares the methods; without one, the
    largest number on which a criterion compares some.
    """
    leading: frozenset[str]
    """The methods that lead in the deciding metric; empty if none leads."""
    leads: tuple[str, ...]
    """All criteria in which exactly these methods lead: only those of the headline if one of them
    decides.
    """
    rivals: tuple[Rival, ...]
    """The compared methods that don't lead, from better to worse values. If no method leads, they
    are compared with the one that has the best value.
    """
    unbeaten: tuple[str, ...]
    """The controls that no method beats in the deciding metric. Then no method leads."""
    not_compared: tuple[str, ...]
    """The methods of the setting that the deciding metric doesn't compare."""
    coinciding: tuple[str, ...]
    """The criteria in which all methods have the same values."""
    others: tuple[tuple[str, frozenset[str]], ...]
    """(metric, its leading methods) of the other metrics in which some methods lead."""


def answers(run: RunFolder, headline: Sequence[str], columns: Sequence[str] = ()) -> list[Answer]:
    """Return the answer of each setting whose values rank methods, in the run's order.

    Args:
        run: The run, as read from its folder.
        headline: Names of metrics. The first one in which some methods lead decides.
        columns: Names of further metrics, whose leading methods the answer lists. The first one
            in which some methods lead decides if no metric of the headline does.
    """
    return [
        _answer(run, setting, headline, columns)
        for setting in run.settings
        if run.ranks_methods(setting)
    ]


def _answer(
    run: RunFolder, setting: Setting, headline: Sequence[str], columns: Sequence[str]
) -> Answer:
    """Return the answer of one setting: see `answers`."""
    criteria = tuple(dict.fromkeys([*headline, *columns]))
    comparisons: dict[str, Comparison] = {}
    for name in criteria:
        comparison = ranking_comparison(run, setting, name) if name in run.metrics else None
        if comparison is not None and run.metadata.value(name).has_direction:
            comparisons[name] = comparison
    leading_by_metric: dict[str, frozenset[str]] = {}
    differing: list[str] = []
    for name, comparison in comparisons.items():
        leading = leading_methods(run, setting, name)
        if leading:
            leading_by_metric[name] = leading
        if _has_differing_methods(run, comparison):
            differing.append(name)
    candidates = [name for name in criteria if name in leading_by_metric]
    if not candidates:
        # of a metric whose best value a control reaches, nothing can be concluded
        has_best = [name for name in differing if not run.metadata.value(name).reached_by]
        candidates = [name for name in criteria if name in has_best]
    metric = candidates[0] if candidates else ""
    leading = leading_by_metric.get(metric, frozenset())
    deciding = comparisons.get(metric)
    images = [
        comparisons[name].images
        for name in criteria
        if name in comparisons and len(comparisons[name].places) > 1
    ]
    return Answer(
        setting=setting,
        same_maps=same_maps(run, setting),
        metric=metric,
        images=deciding.images if deciding else max(images, default=0),
        leading=leading,
        leads=tuple(
            name
            for name in candidates
            if leading_by_metric.get(name) == leading and (name in headline) == (metric in headline)
        ),
        rivals=_rivals(run, deciding, leading) if deciding else (),
        unbeaten=deciding.unbeaten if deciding else (),
        not_compared=_not_compared(run, setting, deciding) if deciding else (),
        coinciding=tuple(name for name in criteria if coincide(run, setting, name)),
        others=tuple(
            (name, methods) for name, methods in leading_by_metric.items() if name != metric
        ),
    )


def leading_methods(run: RunFolder, setting: Setting, metric: str) -> frozenset[str]:
    """Return the methods that are best, if a method that is no control is worse or only one is
    compared; otherwise none.
    """
    comparison = ranking_comparison(run, setting, metric)
    if comparison is None or not comparison.best:
        return frozenset()
    methods = {*comparison.places.index} - run.metadata.controls
    has_worse_method = bool(methods - comparison.best)
    return comparison.best if has_worse_method or len(methods) == 1 else frozenset()


def separates_methods(run: RunFolder, metric: str) -> bool:
    """Return whether a method is significantly worse by a metric than the best, on any network."""
    return any(leading_methods(run, setting, metric) for setting in run.settings)


def same_maps(run: RunFolder, setting: Setting) -> tuple[Group, ...]:
    """Return the groups of at least two methods that draw the same map in a setting.

    The evidence are the metrics of the map: all metrics of methods except those of channels, which
    need contributions. Two methods are in one group if they have the same values in each such
    metric that compares both. At least one of these metrics must be no share of hits and have
    values other than -1, 0 and 1. Controls are in no group.
    """
    same: set[frozenset[str]] = set()
    different: set[frozenset[str]] = set()
    compared: list[str] = []
    for name in run.metrics:
        entry = run.metadata.metric(name)
        comparison = run.comparisons.of(setting, name)
        if comparison is None or entry.of != "method" or "contributions" in entry.needs:
            continue
        compared += [method for group in comparison.groups for method in group]
        table = run.matrix(setting, name)
        is_proportion = run.metadata.value(name).is_proportion
        is_coarse = is_proportion or (table is not None and _is_coarse(table.values))
        for group in comparison.groups:
            if not is_coarse:
                same.update(map(frozenset, combinations(group, 2)))
        for group, other in combinations(comparison.groups, 2):
            different.update(frozenset({left, right}) for left in group for right in other)
    pairs = same - different
    members_by_first: dict[str, list[str]] = {}
    for method in dict.fromkeys(compared):
        if method in run.metadata.controls:
            continue
        for first, members in members_by_first.items():
            if all(frozenset({method, member}) in pairs for member in members):
                members_by_first[first].append(method)
                break
        else:
            members_by_first[method] = [method]
    return tuple(tuple(members) for members in members_by_first.values() if len(members) > 1)


def _is_coarse(values: Floats) -> bool:
    """Return whether all values are -1, 0 or 1, as hits are, and rank correlations of two objects.

    Two different maps often have the same such values.
    """
    return bool(np.isin(values[np.isfinite(values)], (-1, 0, 1)).all())


def _has_differing_methods(run: RunFolder, comparison: Comparison) -> bool:
    """Return whether two methods that are no controls differ."""
    controls = run.metadata.controls
    return len([group for group in comparison.groups if not controls.issuperset(group)]) > 1


def _rivals(run: RunFolder, comparison: Comparison, leading: frozenset[str]) -> tuple[Rival, ...]:
    """Return the groups behind the leading methods, or behind the best value if none leads."""
    controls = run.metadata.controls
    ranked = []
    for group in comparison.ranked:
        methods = tuple(name for name in group if name not in controls)
        if methods:
            ranked.append((group[0], methods))
    best = ranked[0][0]
    rivals = []
    for first, methods in ranked[1:]:
        if leading.intersection(methods):
            continue
        pair = comparison.pair(first, best)
        rival = Rival(
            methods=methods,
            pair=ranked[0][1][0],
            difference=float(pair["difference"]),
            adjusted=float(pair["adjusted"]),
            images_needed=_images_needed(pair, comparison.images),
            is_worse=comparison.is_significant(first, best),
        )
        rivals.append(rival)
    return tuple(rivals)


def _images_needed(pair: Pair, images: int) -> float:
    """Return the number of images that would show a pair's difference; NaN without a test."""
    detectable = np.array([pair["detectable"]], dtype=np.float64)
    difference = np.array([pair["difference"]], dtype=np.float64)
    if not np.isfinite(detectable).all():
        return math.nan
    return float(paired_tests.images_to_separate(difference, detectable, images)[0])


def _not_compared(run: RunFolder, setting: Setting, comparison: Comparison) -> tuple[str, ...]:
    """Return the methods of a setting that a comparison leaves out, except controls. Methods that
    have no value of any metric there, because they can't explain the network, aren't listed.
    """
    rows = rows_at(run.summary, setting)
    measured = {*rows.loc[rows["n"] > 0, "method"]}
    left_out = measured - {*comparison.places.index} - run.metadata.controls
    return tuple(name for name in run.methods if name in left_out)


@dataclass(frozen=True)
class Conclusion:
    """The main result of a run."""

    sentence: str
    """The result, without a full stop; "" if no two methods are compared."""
    answer: Answer | None
    """The answer that the sentence repeats; `None` if it repeats none."""
    answers: Sequence[Answer]
    """The answers of all settings."""


def conclusion(
    run: RunFolder,
    headline: Sequence[str],
    columns: Sequence[str] = (),
    compare: str | None = None,
    rival: str = "",
) -> Conclusion:
    """Return the main result of a run, which is the title of its report, and all answers.

    If there is a method to compare, the sentence is its `verdict`: by the headline, or otherwise by
    the first of `columns` and of the run's metrics that both methods have. Without a verdict, the
    sentence says which methods to use in the first setting in which some lead.

    Otherwise it is the first sentence of `at_chance`, or says why no method can be chosen.

    Args:
        run: The run, as read from its folder.
        headline: Names of the metrics that decide, in this order.
        columns: Names of further metrics, which decide if no metric of the headline does.
        compare: A method whose comparison with `rival` is the result; `None`: no such method.
        rival: The method that it is compared with.
    """
    # a report without a headline has no answer
    all_answers = answers(run, headline, columns) if headline else []
    sentence = ""
    if compare is not None:
        sentence = _compared(run, compare, rival, headline, columns)
    if sentence:
        return Conclusion(sentence, None, all_answers)
    for answer in all_answers:
        if answer.leading:
            return Conclusion(_choice(run, answer, all_answers), answer, all_answers)
    if chance_sentences := at_chance(run):
        return Conclusion(chance_sentences[0], None, all_answers)
    for answer in all_answers:
        if sentence := _why_no_choice(run, answer, all_answers):
            return Conclusion(sentence, answer, all_answers)
    images = max((answer.images for answer in all_answers), default=0)
    if images > 0:
        sentence = f"No metric tells which method is best with {plural(images, 'image')}"
    return Conclusion(sentence, None, all_answers)


def _why_no_choice(run: RunFolder, answer: Answer, answers: Sequence[Answer]) -> str:
    """Return why no method of a setting, and of others like it, leads: a control is as good, or all
    draw the same map. "" if too few images are the reason.
    """
    reason = (answer.unbeaten, answer.metric, answer.same_maps)
    label = _labels(
        run,
        [other for other in answers if (other.unbeaten, other.metric, other.same_maps) == reason],
    )
    if answer.unbeaten:
        names = names_in_words(run, [(name,) for name in answer.unbeaten], "or")
        title = in_sentence(run.metadata.value(answer.metric).title)
        verb = "explains" if len(answer.unbeaten) == 1 else "explain"
        return f"No method beats {names}, which {verb} nothing, in {title} on {label}"
    if not answer.metric and len(answer.same_maps) == 1:
        names = names_in_words(run, [(name,) for name in answer.same_maps[0]], "or")
        return f"Use {names} on {label}: they draw the same map"
    return ""


def _compared(
    run: RunFolder, method: str, rival: str, headline: Sequence[str], columns: Sequence[str]
) -> str:
    """Return the verdict on two methods, or why there is none; "" if the run ranks no methods."""
    names_once = dict.fromkeys((*columns, *run.metrics))
    other_metrics = [name for name in names_once if name in run.metrics]
    # metrics in which no method can be best come last
    other_metrics.sort(key=lambda name: bool(run.metadata.value(name).reached_by))
    for names in (headline, *([name] for name in other_metrics)):
        if sentence := verdict([run], method, rival, names):
            return sentence
    # without a verdict, a reader must learn why the two methods aren't compared
    if {method, rival} <= {*run.methods} and any(map(run.ranks_methods, run.settings)):
        titles = " and ".join(map(run.metadata.method_title, (method, rival)))
        return f"No metric has values of both {titles} on the same images"
    return ""


def _choice(run: RunFolder, answer: Answer, answers: Sequence[Answer]) -> str:
    """Return which methods to use, on which networks, and by which metrics."""
    agreeing = [
        other
        for other in answers
        if (other.leading, other.metric) == (answer.leading, answer.metric)
    ]
    names = _method_names(run, answer.leading, "or")
    return f"Use {names} on {_labels(run, agreeing)}: {_why_chosen(run, answer, agreeing)}"


def _labels(run: RunFolder, answers: Sequence[Answer]) -> str:
    """Return the settings of these answers: of many, the first ones and how many follow."""
    labels = [run.label(answer.setting) for answer in answers]
    if len(labels) > MOST_NAMES + 1:
        labels = [*labels[:MOST_NAMES], f"{len(labels) - MOST_NAMES} more"]
    return joined(labels)


def _why_chosen(run: RunFolder, answer: Answer, agreeing: Sequence[Answer]) -> str:
    """Return the metrics in which the chosen methods lead in all of these settings, such as "it has
    the lowest sensitivity error".
    """
    shared = [name for name in answer.leads if all(name in other.leads for other in agreeing)]
    has_best_values = True
    titles_by_direction: dict[str, list[str]] = {}
    for name in shared:
        value = run.metadata.value(name)
        titles_by_direction.setdefault(value.better, []).append(in_sentence(value.title))
        for other in agreeing:
            comparison = run.comparisons.of(other.setting, name)
            if comparison and not answer.leading <= {*comparison.ranked[0]}:
                has_best_values = False
    subject = "they" if len(answer.leading) > 1 else "it"
    if not has_best_values:
        # some have another value than the best one, from which they don't differ significantly
        titles = joined([*chain.from_iterable(titles_by_direction.values())])
        return f"{subject} {_leads(answer.leading)} in {titles}"
    verb = "have" if len(answer.leading) > 1 else "has"
    extremes = {"lower": "lowest", "higher": "highest"}
    parts = [
        f"the {extremes[direction]} {joined(titles)}"
        for direction, titles in titles_by_direction.items()
    ]
    return f"{subject} {verb} {' and '.join(parts)}"


def same_map_lines(run: RunFolder, answers: Sequence[Answer]) -> list[str]:
    """Return a line for each setting in which methods draw the same map, and the reason once."""
    lines = []
    reasons: dict[str, None] = {}
    for answer in answers:
        for sentence in _same_map_sentences(run, answer):
            if sentence == WHY_SAME:
                reasons[sentence] = None
            else:
                lines.append(f"{run.label(answer.setting)}: {sentence}")
    return [*lines, *reasons]


def sentences(run: RunFolder, answer: Answer, with_choice: bool = True) -> list[str]:
    """Return an answer in whole sentences: the methods to use, methods that draw the same map,
    methods that are worse, methods that can't be distinguished, methods that aren't compared, and
    the best by other metrics. `with_choice` is False below a title that has the first sentence.
    """
    choice = []
    if answer.leading and with_choice:
        names = _method_names(run, answer.leading, "or")
        choice.append(f"Use {names}: {_why_chosen(run, answer, [answer])}.")
    return [
        *choice,
        *_same_map_sentences(run, answer, follows_choice=True),
        *_rival_sentences(run, answer),
        *_other_sentences(run, answer),
    ]


def _same_map_sentences(
    run: RunFolder, answer: Answer, follows_choice: bool = False
) -> Iterator[str]:
    """Yield a sentence on the groups of methods that draw the same map, and why they do.

    A table of equal numbers looks like a defect. So there is also a sentence on the criteria in
    which all methods have the same values, if no metric of the map says more. `follows_choice` says
    that the sentence before lists the methods to use.
    """
    same = [*chain.from_iterable(answer.same_maps)]
    groups = [names_in_words(run, [(name,) for name in group]) for group in answer.same_maps]
    if len(groups) == 1:
        is_chosen = follows_choice and answer.leading == frozenset(same)
        names = f"All {len(same)}" if is_chosen and len(same) > MOST_REPEATED else groups[0]
        yield f"{names} draw the same map: {SAME_VALUES}."
    elif groups:
        yield f"Methods that draw the same map: {'; '.join(groups)} ({SAME_VALUES})."
    if answer.coinciding and not same:
        titles = [in_sentence(run.metadata.value(name).title) for name in answer.coinciding]
        yield f"All methods with a value, controls aside, have the same {joined(titles)}."
        for name in answer.coinciding:
            comparison = run.comparisons.of(answer.setting, name)
            if comparison is not None:
                same.extend(comparison.places.index)
    if len(KNOWN_SAME.intersection(map(run.metadata.method_title, same))) > 1:
        yield WHY_SAME


def _rival_sentences(run: RunFolder, answer: Answer) -> Iterator[str]:
    """Yield sentences on the methods that are worse by the deciding metric, on those that can't be
    distinguished from the best, and on those that it doesn't compare.
    """
    if not answer.metric:
        return
    value = run.metadata.value(answer.metric)
    title = in_sentence(value.title)
    images = plural(answer.images, "image")
    worse = [rival for rival in answer.rivals if rival.is_worse]
    unclear = [rival for rival in answer.rivals if not rival.is_worse]
    if worse:
        best = run.metadata.method_title(worse[0].pair)
        names = _list_with_numbers(run, worse, partial(_difference_text, value=value))
        verb = "is" if len(worse) == 1 and len(worse[0].methods) == 1 else "are"
        yield f"By {title}, {names} {verb} significantly worse than {best} ({images})."
    if unclear and all(math.isnan(rival.adjusted) for rival in unclear):
        verb = "is" if answer.images == 1 else "are"
        yield f"{images} {verb} too few for a test of {title}: at least {FEWEST_IMAGES} are needed."
    elif unclear:
        best = run.metadata.method_title(unclear[0].pair)
        names = _list_with_numbers(run, unclear, _needed_text)
        yield f"{images} can't distinguish {best} from {names} by {title}."
    if answer.not_compared:
        names = names_in_words(run, [(name,) for name in answer.not_compared], "or")
        yield f"{value.title} doesn't compare {names}."


def _list_with_numbers(
    run: RunFolder, rivals: Sequence[Rival], text: Callable[[Rival], str]
) -> str:
    """Return the first rivals, each with a text in brackets, and the number of the others."""
    names = []
    for rival in rivals[:MOST_NAMES]:
        bracket = text(rival)
        names.append(group_name(run, rival.methods) + (f" ({bracket})" if bracket else ""))
    if len(rivals) > MOST_NAMES:
        names.append(f"{len(rivals) - MOST_NAMES} more")
    return joined(names)


def _difference_text(rival: Rival, value: Value) -> str:
    """Return by how much a rival is worse, such as "0.53 higher, p < 0.001"."""
    direction = "higher" if rival.difference > 0 else "lower"
    amount = number(abs(rival.difference), value.rounding)
    return f"{amount} {direction}, {p_value(rival.adjusted)}"


def _needed_text(rival: Rival) -> str:
    """Return how many images would show a rival's difference; "" if the values are equal."""
    if not math.isfinite(rival.images_needed):
        return ""
    if rival.images_needed > MOST_IMAGES:
        return f"over {MOST_IMAGES:,} images would show a difference"
    # two digits, because the estimate isn't more exact
    images = float(f"{rival.images_needed:.1e}")
    return f"about {images:,.0f} images would show a difference"


def _other_sentences(run: RunFolder, answer: Answer) -> Iterator[str]:
    """Yield sentences on the metrics that don't decide: those in which all of the chosen methods
    lead, too, those in which some of them lead, and those in which others do.
    """
    names = partial(_method_names, run)
    all_chosen = f"All {len(answer.leading)}"
    if 0 < len(answer.leading) <= MOST_REPEATED:
        all_chosen = names(answer.leading)
    metrics_by_chosen: dict[frozenset[str], list[str]] = {}
    for name, methods in answer.others:
        if name not in answer.leads:
            metrics_by_chosen.setdefault(answer.leading & methods, []).append(name)
    ordered = sorted(metrics_by_chosen.items(), key=lambda item: -len(item[0]))
    for chosen, metrics in ordered:
        titles = joined([in_sentence(run.metadata.value(name).title) for name in metrics])
        if chosen and chosen == answer.leading:
            yield f"{all_chosen} also {_leads(chosen)} in {titles}."
        elif chosen:
            missing = answer.leading - chosen
            negation = "doesn't" if len(missing) == 1 else "don't"
            yield f"In {titles}, {names(chosen)} {_leads(chosen)}, and {names(missing)} {negation}."
    instead = " instead" if answer.leading else ""
    methods_by_metric = dict(answer.others)
    for name in metrics_by_chosen.get(frozenset(), [])[:MOST_OTHER_METRICS]:
        methods = methods_by_metric[name]
        title = in_sentence(run.metadata.value(name).title)
        yield f"In {title}, {names(methods)} {_leads(methods)}{instead}."


def _method_names(run: RunFolder, methods: frozenset[str], last: str = "and") -> str:
    """Return "A, B and C" in the run's order."""
    return names_in_words(run, [(name,) for name in run.methods if name in methods], last)


def _leads(methods: frozenset[str]) -> str:
    """Return the verb "lead" for so many methods."""
    return "leads" if len(methods) == 1 else "lead"
