"""What a run says, as sentences with their numbers: for each headline metric and setting who is best, by how much, and
what can't be told.

API: `findings(run)` -> list of Finding, in the order in which a page shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from axiom_bench.report.numbers import number, with_interval
from axiom_bench.report.run_folder import RunFolder, Setting, Value
from axiom_bench.report.statistics.comparison import Comparison
from axiom_bench.report.statistics.differences import LEVEL

Kind = Literal["best", "undecided", "coinciding", "by_construction"]


@dataclass(frozen=True)
class Finding:
    """sentence: what can be said, or what can't. kind: "best" (a difference is significant), "undecided" (none is),
    "coinciding" (no method differs from another), "by_construction". metric: the value's name. settings: where it
    holds. methods: the methods that it is about, the best first. images, rows: of the comparison in the first setting.
    numbers: value, low, high, other, difference, difference_low, difference_high, adjusted, effect, better, same, worse,
    detectable; those that the sentence has.
    """

    sentence: str
    kind: Kind
    metric: str
    settings: tuple[Setting, ...]
    methods: tuple[str, ...]
    images: int
    rows: int
    numbers: Mapping[str, float] = field(default_factory=dict)


def findings(run: RunFolder) -> list[Finding]:
    """Of the metrics of `config.report.headline` with a direction, in their order; none of models with random weights."""
    values = [run.value(name) for name in run.options.headline if name in run.metrics]
    settings = [setting for setting in run.settings if not run.has_random_weights(setting.model)]
    found = []
    for value in values:
        if value.has_direction:
            compared = {setting: run.comparison(setting, value.name) for setting in settings}
            found += _of_metric(run, value, {setting: c for setting, c in compared.items() if c is not None})
    return found


def _of_metric(run: RunFolder, value: Value, comparisons: Mapping[Setting, Comparison]) -> Iterator[Finding]:
    for setting, comparison in comparisons.items():
        yield from _of_setting(run, value, setting, comparison)
    constructed = tuple(dict.fromkeys(name for c in comparisons.values() for name in c.by_construction))
    if constructed:
        first = next(iter(comparisons.values()))
        sentence = f"{_listed(run, constructed)}: 0 by construction in {value.title.lower()}, so not ranked there."
        yield Finding(
            sentence, "by_construction", value.name, tuple(comparisons), constructed, first.images, first.rows
        )


def _of_setting(run: RunFolder, value: Value, setting: Setting, comparison: Comparison) -> Iterator[Finding]:
    """Placeholder order: best against the next that is worse, then what can't be told from it."""
    where = f"{run.label(setting)}: "
    place = ((setting,), comparison.images, comparison.rows)
    ranked = comparison.ranked(value.better)
    if len(ranked) == 1:
        sentence = f"{where}{_name(run, ranked[0])} coincide in {value.title.lower()}: none is better than another."
        yield Finding(sentence, "coinciding", value.name, place[0], ranked[0], place[1], place[2])
        return
    best, *others = ranked
    worse = [group for group in others if not comparison.places.loc[group[0], "is_best"]]
    same = [group for group in others if comparison.places.loc[group[0], "is_best"]]
    if worse:
        pair = comparison.pair(best[0], worse[0][0])
        sentence, numbers = _difference(run, value, comparison, best, worse[0], pair)
        yield Finding(where + sentence, "best", value.name, place[0], (*best, *worse[0]), place[1], place[2], numbers)
    if same:
        pair = comparison.pair(best[0], same[0][0])
        names = ", ".join(_name(run, group) for group in same)
        sentence = (
            f"Whether {_name(run, best)} or {names} is better in {value.title.lower()} can't be told: {comparison.images} "
            f"images would have shown a difference of {number(pair['detectable'])}."
        )
        numbers = {"detectable": float(pair["detectable"])}
        methods = tuple(name for group in (best, *same) for name in group)
        yield Finding(where + sentence, "undecided", value.name, place[0], methods, place[1], place[2], numbers)


def _difference(
    run: RunFolder, value: Value, comparison: Comparison, best: Sequence[str], other: Sequence[str], pair: pd.Series
) -> tuple[str, dict[str, float]]:
    first = pair["first"] in best
    sign = 1 if first else -1
    ends = sorted((sign * pair["low"], sign * pair["high"]))
    numbers = {
        "value": comparison.places.loc[best[0], "value"], "other": comparison.places.loc[other[0], "value"],
        "difference": sign * pair["difference"], "difference_low": ends[0], "difference_high": ends[1],
        "adjusted": pair["adjusted"], "effect": abs(pair["effect"]), "better": pair["better" if first else "worse"],
        "same": pair["same"], "worse": pair["worse" if first else "better"],
    }  # fmt: skip
    sentence = (
        f"{_name(run, best)}'s {value.title.lower()} is {value.better} than {_name(run, other)}'s on {numbers['better']} of "
        f"{pair['n']} images, {value.lead} {number(numbers['value'])} against {number(numbers['other'])}; difference "
        f"{with_interval(numbers['difference'], *ends)}, p {_p(pair['adjusted'])} after Holm."
    )
    return sentence, {key: float(entry) for key, entry in numbers.items()}


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}" if p < LEVEL else f"= {p:.2f}"


def _name(run: RunFolder, group: Sequence[str]) -> str:
    """A group of methods that coincide: "XGrad-CAM = HiResCAM"."""
    return " = ".join(run.method_title(name) for name in group)


def _listed(run: RunFolder, methods: Sequence[str]) -> str:
    return ", ".join(run.method_title(name) for name in methods)
