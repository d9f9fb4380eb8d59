"""A method's places among a suite's published methods, network by network, as `axiom-bench rank`
tells them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from axiom_bench.columns import OK
from axiom_bench.statistics.comparison import Answers
from axiom_bench.statistics.labels import Setting, number, rows_at, share
from axiom_bench.statistics.run_folder import RunFolder

EXAMPLES = 3  # images where a method has its best values, and its worst


@dataclass(frozen=True)
class Standing:
    """Of a method by one metric in one setting. value: the leading statistic over rows where the
    method has a value, `answered` of `rows`; compared: over all rows, as tests take them, with its
    95 % interval. place_low, place_high: places that can't be excluded, as in `Comparison.places`,
    of `groups` of methods that have a place in the part, and this one; those without a value are
    the last. tied: methods that it can't be told from. beats_controls: whether it is significantly
    better than every control. images: how many all are compared on. best, worst: ids of images.
    """

    network: str
    value: float = math.nan
    answered: int = 0
    rows: int = 0
    compared: float = math.nan
    low: float = math.nan
    high: float = math.nan
    place_low: int = 0
    place_high: int = 0
    groups: int = 0
    tied: tuple[str, ...] = ()
    beats_controls: bool = False
    images: int = 0
    best: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()

    @property
    def value_text(self) -> str:
        """The value, with the share of rows that it is over in brackets where these aren't all."""
        return number(self.value) + (
            f" ({share(self.answered, self.rows)})" if self.answered < self.rows else ""
        )


@dataclass(frozen=True)
class Standings:
    """Of a method by one metric in a part of a suite. answers: on how much of the part it has
    values. networks: {label: standing}, of a method with a place of all networks, the last place
    where it has no value; of another one of those where it lacks a tenth of the rows at most.
    """

    answers: Answers
    networks: Mapping[str, Standing]

    @property
    def places_text(self) -> str:
        """From the first place that can't be excluded on any network to the last; in brackets
        without a place in the part.
        """
        each = self.networks.values()
        low, high = (
            min(network.place_low for network in each),
            max(network.place_high for network in each),
        )
        text = f"{low} to {high} of {max(network.groups for network in each)}"
        return text if self.answers.has_place else f"({text})"

    @property
    def middle(self) -> float:
        """The middle of the places, the mean over networks."""
        return mean((each.place_low + each.place_high) / 2 for each in self.networks.values())

    @property
    def num_above_controls(self) -> int:
        """On how many networks the method is better than all controls."""
        return sum(each.beats_controls for each in self.networks.values())

    @property
    def tied(self) -> set[str]:
        """The methods that it can't be told from on any network."""
        return set.intersection(*(set(each.tied) for each in self.networks.values()))

    @property
    def values(self) -> list[float]:
        """By network, the lowest first, where it has any."""
        return sorted(each.value for each in self.networks.values() if each.answered)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; null where there is no number."""
        networks = [
            {name: None if entry != entry else entry for name, entry in asdict(each).items()}
            for each in self.networks.values()
        ]
        return {
            "has_place": self.answers.has_place,
            "answers": asdict(self.answers),
            "networks": networks,
        }


def standings(
    run: RunFolder, metric: str, method: str, with_examples: bool = True
) -> Standings | None:
    """None where the method has no value that is compared. with_examples: whether best and worst
    images are looked up, which takes most of the time.
    """
    answers = run.comparisons.answers(metric).get(method)
    each = {
        run.label(setting): standing(run, setting, metric, method, with_examples)
        for setting in run.settings
    }
    networks = {label: network for label, network in each.items() if network is not None}
    return Standings(answers, networks) if answers is not None and networks else None


def standing(
    run: RunFolder, setting: Setting, metric: str, method: str, with_examples: bool = True
) -> Standing | None:
    """As `standings`, on one network; None where the method isn't compared there."""
    comparison, placed = run.comparisons.of(setting, metric), run.comparisons.placed(metric)
    if comparison is None:
        return None
    compared = {name for group in comparison.groups for name in group}
    silent = [
        name for name in run.methods if name in placed - compared
    ]  # they share the last place
    if method not in compared | {*silent}:
        return None
    if method in silent:
        last = 1 + sum(not placed.isdisjoint(group) for group in comparison.groups)
        tied = tuple(name for name in silent if name != method)
        return Standing(
            setting.model, rows=comparison.rows, place_low=last, place_high=last, groups=last, tied=tied,
            images=comparison.images,
        )  # fmt: skip
    place, own = comparison.place(method), comparison.group_of(method)
    others = [group for group in comparison.groups if group != own]
    differing = [group for group in others if comparison.differ(own[0], group[0])]
    sign = 1 if comparison.better == "higher" else -1
    behind = [
        group for group in differing if sign * (place.value - comparison.place(group[0]).value) > 0
    ]
    controls = [group for group in others if not run.metadata.controls.isdisjoint(group)]
    ranked = [group for group in others if not placed.isdisjoint(group)]
    answered, value = run.comparisons.answered(setting, metric)[method]
    best, worst = _examples(run, setting, metric, method, sign) if with_examples else ((), ())
    return Standing(
        setting.model, value, answered, comparison.rows, place.value, place.value_low, place.value_high,
        place_low=1 + sum(group in differing and group not in behind for group in ranked),
        place_high=1 + len(ranked) - sum(group in behind for group in ranked),
        groups=1 + len(ranked) + bool(silent),
        tied=tuple(name for group in (own, *others) if group not in differing for name in group if name != method),
        beats_controls=bool(controls) and all(group in behind for group in controls),
        images=comparison.images, best=best, worst=worst,
    )  # fmt: skip


def _examples(
    run: RunFolder, setting: Setting, metric: str, method: str, sign: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    rows = rows_at(run.records.rows([metric]), setting)
    rows = rows[(rows["method"].astype(str) == method) & (rows["status"] == OK)]
    ids = rows.assign(value=-sign * rows["value"]).sort_values(
        ["value", "image_id"], kind="stable"
    )["image_id"]
    ordered = list(dict.fromkeys(map(str, ids)))
    return tuple(ordered[:EXAMPLES]), tuple(reversed(ordered[-EXAMPLES:]))
