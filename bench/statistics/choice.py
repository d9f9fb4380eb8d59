"""What a race of methods and layers says: which to show, which are worse, and which can't be told
apart.

A candidate is a method at a layer. Candidates whose values are the same on every image draw the
same map, and race as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import Value, number, p_value, plural
from axiom_bench.statistics.paired_tests import (
    coinciding,
    detectable_difference,
    images_to_separate,
    means_by_image,
    rounding_of,
)
from axiom_bench.statistics.race import Race
from axiom_bench.statistics.ranking import in_sentence, joined
from axiom_bench.statistics.run_folder import RunFolder

SMALLEST_DIFFERENCE = 0.05  # that matters, for the number of images that would show it
MOST_NAMES = 4  # candidates that a sentence lists
COSTLY = 1_000_000  # passes of a method that runs one per channel, or whose number is unknown
LEAST_SHARE = 0.5  # of images on which a candidate must have a value


@dataclass(frozen=True)
class Contest:
    """The values that race, and what is known about their methods and metrics.

    Attributes:
        records: Rows with the columns of records, of one model on one data set.
        values: {name: metadata} of the metrics that decide, in this order.
        titles: {method: title}.
        controls: The methods that explain nothing by design.
        passes: {method: the passes of the model per image}, COSTLY if they aren't a number.
    """

    records: pd.DataFrame
    values: Mapping[str, Value]
    titles: Mapping[str, str]
    controls: frozenset[str]
    passes: Mapping[str, int]

    @classmethod
    def of_run(cls, run: RunFolder, metrics: Sequence[str]) -> Contest:
        """Return the contest of a run by these metrics."""
        names = [name for name in metrics if name in run.metrics]
        passes = {}
        for name in run.methods:
            count = run.metadata.method(name).passes
            passes[name] = count if isinstance(count, int) else COSTLY
        return cls(
            run.records.rows(names),
            {name: run.metadata.value(name) for name in names},
            {name: run.metadata.method_title(name) for name in run.methods},
            run.metadata.controls,
            passes,
        )


class Candidate(NamedTuple):
    """A method at a layer."""

    layer: str
    method: str


@dataclass(frozen=True)
class Field:
    """The values of one metric that race, of the images so far.

    Attributes:
        value: The metric.
        groups: Candidates with the same values on all images, the first of which stands for all.
        controls: The controls, each once, at one layer if its values don't depend on the layer.
        gains: {candidate: (images,) its values, higher is better}.
    """

    value: Value
    groups: tuple[tuple[Candidate, ...], ...]
    controls: tuple[Candidate, ...]
    gains: Mapping[Candidate, Floats]

    @property
    def images(self) -> int:
        """The number of images."""
        return len(next(iter(self.gains.values()), ()))

    def group(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """Return the candidates that draw the same map as one."""
        return next(group for group in self.groups if candidate in group)


def fields(contest: Contest) -> dict[str, Field]:
    """Return {metric: its field} of those metrics in which candidates have values."""
    found = {}
    for name in contest.values:
        field = _field(contest, name)
        if field is not None:
            found[name] = field
    return found


def _field(contest: Contest, metric: str) -> Field | None:
    """Return the field of a metric: candidates and controls on the images on which all have values.

    It is None without candidates.
    """
    value = contest.values[metric]
    records = contest.records
    rows = records[(records["metric"] == metric) & (records["status"] == OK)]
    table = rows.astype({"layer": str, "method": str, "image_id": str}).pivot_table(
        "value", ["image_id", "target_class"], ["layer", "method"], sort=False
    )
    # a candidate without most values would leave few images to compare the others on
    table = table.loc[:, table.notna().mean() >= LEAST_SHARE].dropna()
    if table.empty:
        return None
    names = [Candidate(*map(str, column)) for column in table.columns]
    values = table.to_numpy(dtype=np.float64)
    places = [str(place) for place in range(len(names))]
    groups = []
    controls = []
    for same in coinciding(values, places, rounding_of(values, value)):
        members = tuple(names[int(place)] for place in same)
        control = next((name for name in members if name.method in contest.controls), None)
        if control is None:
            groups.append(members)
        else:  # a method that draws a control's map is no better than it
            controls.append(control)
    if not groups:
        return None
    sign = 1.0 if value.better == "higher" else -1.0
    by_image = sign * means_by_image(values, image_numbers(table.index.get_level_values(0)))
    gains = {name: by_image[:, column] for column, name in enumerate(names)}
    return Field(value, tuple(groups), tuple(controls), gains)


def race(field: Field, level: float, num_looks: int) -> Race:
    """Return the race of a field before its first look."""
    return Race(
        tuple(name_of(group[0]) for group in field.groups),
        tuple(map(name_of, field.controls)),
        level,
        num_looks,
    )


def gains(field: Field) -> dict[str, Floats]:
    """Return {name in the race: its values, higher is better}."""
    return {name_of(candidate): values for candidate, values in field.gains.items()}


@dataclass(frozen=True)
class Verdict:
    """The end of a race by one metric.

    Attributes:
        field: The values of all images so far.
        race: The race, as far as it has been run.
        chosen: The candidate to show; None if no contender is better than every control.
        is_best: True if the race has dropped all others. Otherwise `chosen` is the cheapest of
            those that can't be told apart.
    """

    field: Field
    race: Race
    chosen: Candidate | None
    is_best: bool


def verdict(contest: Contest, field: Field, race: Race) -> Verdict:
    """Return the end of a race. Of several contenders, the cheapest is chosen: that of the fewest
    passes, and of those the one with the best mean.

    Args:
        contest: The contest, with the passes of methods.
        field: The values of all images so far.
        race: The race, whose names are those of `name_of`.
    """
    by_name = {name_of(group[0]): group[0] for group in field.groups}
    choices = [by_name[name] for name in race.above_all_controls if name in by_name]
    if not choices:
        return Verdict(field, race, None, False)

    def cost(candidate: Candidate) -> tuple[int, float]:
        passes = min(contest.passes[member.method] for member in field.group(candidate))
        return passes, -float(field.gains[candidate].mean())

    chosen = min(choices, key=cost)
    return Verdict(field, race, chosen, len(race.contenders) == 1)


def name_of(candidate: Candidate) -> str:
    """Return the name of a candidate in a race."""
    return f"{candidate.method} at {candidate.layer}"


def candidate_of(name: str) -> Candidate:
    """Return the candidate that has a name in a race."""
    method, _, layer = name.partition(" at ")
    return Candidate(layer, method)


def sentences(contest: Contest, verdict: Verdict) -> list[str]:
    """Return what a race by one metric says, in whole sentences, without the choice itself."""
    field = verdict.field
    title = in_sentence(field.value.title)
    images = plural(field.images, "image")
    if verdict.chosen is None:
        return [_no_choice(contest, field, verdict.race, title, images)]
    chosen = verdict.chosen
    lines = []
    same = [_title(contest, name) for name in field.group(chosen) if name.layer == chosen.layer]
    if len(same) > 1:
        lines.append(f"{joined(same)} draw the same map at {chosen.layer}.")
    defeats = sorted(verdict.race.dropped.items(), key=lambda item: item[1].difference)
    worse = []
    for name, defeat in defeats[:MOST_NAMES]:
        amount = number(defeat.difference, field.value.rounding)
        worse.append(
            f"{_label(contest, candidate_of(name), chosen)} ({amount}, {p_value(defeat.p)})"
        )
    if len(defeats) > MOST_NAMES:
        worse.append(f"{len(defeats) - MOST_NAMES} more")
    if worse:
        verb = "is" if len(defeats) == 1 else "are"
        lines.append(f"{joined(worse)} {verb} worse by {title}.")
    unclear = [
        group[0]
        for group in field.groups
        if group[0] != chosen and name_of(group[0]) in verdict.race.contenders
    ]
    if unclear:
        names = [_label(contest, name, chosen) for name in unclear[:MOST_NAMES]]
        if len(unclear) > MOST_NAMES:
            names.append(f"{len(unclear) - MOST_NAMES} more")
        needed = images_needed([field.gains[chosen] - field.gains[name] for name in unclear])
        lines.append(
            f"{joined(names, 'or')} can't be distinguished from it on {images}; about {needed:,} "
            f"images would show a difference of {SMALLEST_DIFFERENCE}."
        )
    return lines


def same_maps(contest: Contest, field: Field) -> list[str]:
    """Return a sentence for each layer and group of methods that draw the same map there."""
    lines = []
    for group in field.groups:
        for layer in dict.fromkeys(name.layer for name in group):
            same = [_title(contest, name) for name in group if name.layer == layer]
            if len(same) > 1:
                lines.append(f"{joined(same)} draw the same map at {layer}.")
    return lines


def disagreements(contest: Contest, verdicts: Mapping[str, Verdict], deciding: str) -> list[str]:
    """Return a sentence for each other metric in which the chosen candidate is dropped, or which
    no method can win.
    """
    chosen = verdicts[deciding].chosen
    assert chosen is not None
    lines = []
    for metric, other in verdicts.items():
        title = in_sentence(other.field.value.title)
        if metric == deciding:
            continue
        if other.chosen is None:
            lines.append(sentences(contest, other)[0])
        elif chosen not in other.field.group(other.chosen):
            defeat = other.race.dropped.get(name_of(other.field.group(chosen)[0]))
            if defeat is not None:
                lines.append(
                    f"By {title}, {_label(contest, other.chosen, chosen)} is better than "
                    f"{_title(contest, chosen)} ({p_value(defeat.p)})."
                )
    return lines


def images_needed(differences: Sequence[Floats]) -> int:
    """Return how many images would show the smallest difference that matters, for all pairs.

    Args:
        differences: The differences of each pair, (images,).
    """
    images = len(differences[0])
    errors = np.array([float(np.std(pair, ddof=1)) / images**0.5 for pair in differences])
    detectable = detectable_difference(errors, len(differences), images)
    wanted = np.full(len(differences), SMALLEST_DIFFERENCE)
    needed = images_to_separate(wanted, detectable, images)
    return int(np.ceil(needed.max()))


def _no_choice(contest: Contest, field: Field, race: Race, title: str, images: str) -> str:
    """Return why nothing can be chosen: the controls that the best contender doesn't beat."""
    candidates = [group[0] for group in field.groups if name_of(group[0]) in race.contenders]
    best = max(candidates, key=lambda name: float(field.gains[name].mean()))
    beaten = race.above.get(name_of(best), frozenset())
    unbeaten = [name for name in field.controls if name_of(name) not in beaten]
    names = dict.fromkeys(_label(contest, name, best) for name in unbeaten)
    verb = "explains" if len(names) == 1 else "explain"
    needed = images_needed([field.gains[best] - field.gains[name] for name in unbeaten])
    return (
        f"By {title} on {images}, none of these shows more than {joined([*names], 'or')}, which "
        f"{verb} nothing: {_title(contest, best)} at {best.layer} has the best value. About "
        f"{needed:,} images would show a difference of {SMALLEST_DIFFERENCE}."
    )


def _title(contest: Contest, candidate: Candidate) -> str:
    return contest.titles[candidate.method]


def _label(contest: Contest, candidate: Candidate, chosen: Candidate) -> str:
    """Return a candidate's title, with the layer if it isn't that of the chosen one."""
    title = _title(contest, candidate)
    return title if candidate.layer == chosen.layer else f"{title} at {candidate.layer}"
