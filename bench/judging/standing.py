"""Compute a method's places among a suite's published methods, network by network, for
`axiom-bench rank`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import mean

from axiom_bench.columns import OK
from axiom_bench.statistics.comparison import Answers
from axiom_bench.statistics.labels import Setting, number, rows_at, share
from axiom_bench.statistics.run_folder import RunFolder

EXAMPLES = 3  # the number of images with a method's best values, and with its worst values


@dataclass(frozen=True)
class Standing:
    """The standing of a method by one metric in one setting.

    Methods that coincide are one group. Places are those of the groups that have a place in the
    part of the suite, and of the method's own. The groups without a value share the last place.
    """

    network: str
    value: float = math.nan  # the leading statistic over the rows where the method has a value
    answered: int = 0  # the number of rows where the method has a value
    rows: int = 0  # the number of all rows
    compared: float = math.nan  # the leading statistic over all rows, as tests take them
    low: float = math.nan  # the ends of the 95 % interval of `compared`
    high: float = math.nan
    place_low: int = 0  # the first place that can't be excluded, see `Comparison.places`
    place_high: int = 0  # the last place that can't be excluded
    groups: int = 0  # the number of places
    tied: tuple[str, ...] = ()  # the methods that don't differ significantly from this one
    beats_controls: bool = False  # whether it is significantly better than every control
    images: int = 0  # the number of images on which all methods are compared
    best: tuple[str, ...] = ()  # the ids of the images with the method's best values
    worst: tuple[str, ...] = ()  # the ids of the images with the method's worst values

    @property
    def num_similar(self) -> int:
        """The number of other methods, or groups of them, that don't differ significantly."""
        return self.place_high - self.place_low

    @property
    def value_text(self) -> str:
        """The value in words, with the share of rows in brackets if the method lacks some."""
        text = number(self.value)
        if self.answered < self.rows:
            text += f" ({share(self.answered, self.rows)})"
        return text


@dataclass(frozen=True)
class Standings:
    """The standings of a method by one metric in a part of a suite."""

    answers: Answers  # on how much of the part the method has values
    # By the network's label. A method with a place has a standing on every network, the last one
    # if it has no value. Other methods have one on networks where they lack at most a tenth of the
    # rows.
    networks: Mapping[str, Standing]

    @property
    def places_text(self) -> str:
        """The first and the last place that can't be excluded on any network.

        A range of more than half of the places says little. The text then has the number of methods
        from which this one differs significantly, on the network with the fewest. It is in brackets
        if the method has no place in the part.
        """
        text = self._differs or self._range
        return text if self.answers.has_place else f"({text})"

    @property
    def places_in_words(self) -> str:
        """The places as a part of a sentence; see `places_text`."""
        if self._differs:
            return f"{self._differs} methods"
        return f"places {self._range}"

    @property
    def _range(self) -> str:
        low = min(standing.place_low for standing in self.networks.values())
        high = max(standing.place_high for standing in self.networks.values())
        return f"{low} to {high} of {self._num_places}"

    @property
    def _num_places(self) -> int:
        return max(standing.groups for standing in self.networks.values())

    @property
    def _differs(self) -> str:
        """The number of methods that differ from this one; empty if its range is narrow."""
        standings = self.networks.values()
        low = min(standing.place_low for standing in standings)
        high = max(standing.place_high for standing in standings)
        if low == high or 2 * (high - low + 1) <= self._num_places:
            return ""
        widest = max(standings, key=lambda standing: standing.num_similar / standing.groups)
        others = widest.groups - 1
        return f"differs from {others - widest.num_similar} of {others}"

    @property
    def middle(self) -> float:
        """The middle of the places, the mean over networks."""
        return mean(
            (standing.place_low + standing.place_high) / 2 for standing in self.networks.values()
        )

    @property
    def num_above_controls(self) -> int:
        """The number of networks on which the method is better than all controls."""
        return sum(standing.beats_controls for standing in self.networks.values())

    @property
    def tied(self) -> set[str]:
        """The methods that don't differ significantly from this one on any network."""
        return set.intersection(*(set(standing.tied) for standing in self.networks.values()))

    @property
    def values(self) -> list[float]:
        """The method's values on the networks where it has one, the lowest first."""
        return sorted(standing.value for standing in self.networks.values() if standing.answered)

    def as_dict(self) -> dict[str, object]:
        """Return the standings for JSON, with None for NaN."""
        networks = []
        for standing in self.networks.values():
            fields = asdict(standing)
            for name, value in fields.items():
                if value != value:  # only NaN isn't equal to itself
                    fields[name] = None
            networks.append(fields)
        return {
            "has_place": self.answers.has_place,
            "answers": asdict(self.answers),
            "networks": networks,
        }


def standings(
    run: RunFolder, metric: str, method: str, with_examples: bool = True
) -> Standings | None:
    """Return the standings of a method on all networks of a run.

    Args:
        run: The run of the suite.
        metric: The name of a value.
        method: The method.
        with_examples: Find the best and worst images, which takes most of the time.

    Returns:
        The standings, or None if no value of the method is compared.
    """
    answers = run.comparisons.answers(metric).get(method)
    networks = {}
    for setting in run.settings:
        network = standing(run, setting, metric, method, with_examples)
        if network is not None:
            networks[run.label(setting)] = network
    if answers is None or not networks:
        return None
    return Standings(answers, networks)


def standing(
    run: RunFolder, setting: Setting, metric: str, method: str, with_examples: bool = True
) -> Standing | None:
    """Return the standing of a method on one network, or None if it isn't compared there.

    See `standings` for the arguments.
    """
    comparison = run.comparisons.of(setting, metric)
    placed = run.comparisons.methods_with_place(metric)
    if comparison is None:
        return None
    compared = {name for group in comparison.groups for name in group}
    # Methods that have a place in the part, but no value here, share the last place.
    without_value = [name for name in run.methods if name in placed and name not in compared]
    if method in without_value:
        last = 1 + sum(not placed.isdisjoint(group) for group in comparison.groups)
        return Standing(
            network=setting.model,
            rows=comparison.rows,
            place_low=last,
            place_high=last,
            groups=last,
            tied=tuple(name for name in without_value if name != method),
            images=comparison.images,
        )
    if method not in compared:
        return None

    place = comparison.place(method)
    own = comparison.group_of(method)
    others = [group for group in comparison.groups if group != own]
    differing = {group for group in others if comparison.is_significant(own[0], group[0])}
    sign = 1 if comparison.better == "higher" else -1
    worse = {
        group for group in differing if sign * (place.value - comparison.place(group[0]).value) > 0
    }
    controls = [group for group in others if not run.metadata.controls.isdisjoint(group)]
    ranked = [group for group in others if not placed.isdisjoint(group)]
    number_better = len((differing - worse).intersection(ranked))
    number_worse = len(worse.intersection(ranked))
    tied = [name for group in (own, *others) if group not in differing for name in group]
    answered, value = run.comparisons.answered_statistics(setting, metric)[method]
    best, worst = _examples(run, setting, metric, method, sign) if with_examples else ((), ())
    return Standing(
        network=setting.model,
        value=value,
        answered=answered,
        rows=comparison.rows,
        compared=place.value,
        low=place.value_low,
        high=place.value_high,
        place_low=1 + number_better,
        place_high=1 + len(ranked) - number_worse,
        groups=1 + len(ranked) + bool(without_value),
        tied=tuple(name for name in tied if name != method),
        beats_controls=bool(controls) and all(group in worse for group in controls),
        images=comparison.images,
        best=best,
        worst=worst,
    )


def _examples(
    run: RunFolder, setting: Setting, metric: str, method: str, sign: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the images with the method's best values and with its worst values."""
    rows = rows_at(run.records.rows([metric]), setting)
    rows = rows[(rows["method"].astype(str) == method) & (rows["status"] == OK)]
    rows = rows.assign(value=-sign * rows["value"])
    best_first = rows.sort_values(["value", "image_id"], kind="stable")["image_id"]
    ids = list(dict.fromkeys(map(str, best_first)))  # an image may have several rows
    return tuple(ids[:EXAMPLES]), tuple(reversed(ids[-EXAMPLES:]))
