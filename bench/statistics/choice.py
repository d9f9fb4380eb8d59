"""The answer of `axiom-bench choose`, from records alone.

It says which method to show at which layer, which ones are worse, and which can't be distinguished.

A candidate is a method at a layer. Candidates with the same values on every image draw the same
map, and race as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError, plural
from axiom_bench.records.by_metric import count_images, image_numbers
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.chosen import CHOSEN, CONTROL, IN_THE_RACE, WORSE, Choice, Standing
from axiom_bench.statistics.labels import Metadata, Value, number, p_value
from axiom_bench.statistics.paired_tests import (
    coinciding,
    detectable_difference,
    images_to_separate,
    means_by_image,
    rounding_of,
)
from axiom_bench.statistics.race import LEAST_IMAGES, Candidate, Defeat, Race
from axiom_bench.statistics.ranking import in_sentence, joined

LEVEL = 0.05  # the largest probability of a wrong answer, over all metrics that decide
SMALLEST_DIFFERENCE = 0.05  # that matters, for the number of images that would show it
MOST_NAMES = 3  # candidates that a sentence lists
MOST_IMAGES = 10_000  # a larger number of images is "over 10,000"
COSTLY = 1_000_000  # passes of a method that runs one per channel, or whose number is unknown
LEAST_SHARE = 0.5  # of images on which a candidate must have a value


@dataclass(frozen=True)
class Contest:
    """The values that race, and what is known about their methods and metrics."""

    records: pd.DataFrame
    """Rows with the columns of records, of one model on one data set."""
    values: Mapping[str, Value]
    """{name: metadata} of the metrics that decide. The first one with values chooses."""
    titles: Mapping[str, str]
    """{method: title}."""
    controls: frozenset[str]
    """The methods that explain nothing by design."""
    passes: Mapping[str, int]
    """{method: the passes of the model per image}, COSTLY if they aren't a number."""
    default_layer: str | None = None
    """The only layer at which metrics of contributions compare methods; None for all layers."""
    earlier_fields: Mapping[str, Field] = field(default_factory=dict)
    """{metric: the field of the look before}. It has candidates that are no longer measured."""

    @classmethod
    def of(
        cls,
        records: pd.DataFrame,
        metadata: Metadata,
        metrics: Sequence[str],
        default_layer: str | None = None,
        earlier: Contest | None = None,
    ) -> Contest:
        """Return the contest of a run's records by these metrics.

        Args:
            records: Rows of at least these metrics.
            metadata: The metadata of the run's methods and metrics.
            metrics: Names of values. Those that the run doesn't have are left out.
            default_layer: See the field.
            earlier: The contest of the look before.
        """
        methods = metadata.manifest.methods
        passes = {}
        for name, entry in methods.items():
            passes[name] = entry.passes if isinstance(entry.passes, int) else COSTLY
        names = [name for name in metrics if name in metadata.manifest.metrics]
        contest = cls(
            records=records,
            values={name: metadata.value(name) for name in names},
            titles={name: metadata.method_title(name) for name in methods},
            controls=metadata.controls,
            passes=passes,
            default_layer=default_layer,
        )
        if earlier is None:
            return contest
        return replace(
            contest,
            values={**earlier.values, **contest.values},
            titles={**earlier.titles, **contest.titles},
            controls=earlier.controls | contest.controls,
            passes={**earlier.passes, **contest.passes},
            earlier_fields=fields(earlier),
        )


@dataclass(frozen=True)
class Field:
    """The values of one metric that race, on the images so far."""

    value: Value
    """The metric."""
    groups: tuple[tuple[Candidate, ...], ...]
    """Candidates with the same values on all images. The first of a group races for all."""
    controls: tuple[Candidate, ...]
    """The controls. Those with the same values on all images are one."""
    gains: Mapping[Candidate, Floats]
    """{candidate or control: (images,) its values, higher is better}."""
    earlier_gains: Mapping[Candidate, Floats] = field(default_factory=dict)
    """The same of those that are no longer measured, on the images of their last look."""

    @property
    def images(self) -> int:
        """The number of images on which all have values."""
        return len(next(iter(self.gains.values())))

    def same(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """Return the candidates with the same values as one."""
        return next(group for group in self.groups if candidate in group)


def fields(contest: Contest) -> dict[str, Field]:
    """Return {metric: its field} of those metrics in which candidates have values."""
    all_fields = {}
    for name in contest.values:
        measured = _field(contest, name)
        earlier = contest.earlier_fields.get(name)
        if measured is not None:
            all_fields[name] = measured if earlier is None else _joined(measured, earlier)
        elif earlier is not None:
            all_fields[name] = earlier
    return all_fields


def _joined(measured: Field, earlier: Field) -> Field:
    """Return a field with the candidates and controls that only the look before has measured."""
    all_earlier = {**earlier.earlier_gains, **earlier.gains}
    gains = {name: values for name, values in all_earlier.items() if name not in measured.gains}
    groups = [group for group in earlier.groups if gains.keys() >= set(group)]
    controls = [name for name in earlier.controls if name in gains]
    return replace(
        measured,
        groups=(*measured.groups, *groups),
        controls=(*measured.controls, *controls),
        earlier_gains=gains,
    )


def _field(contest: Contest, metric: str) -> Field | None:
    """Return the field of a metric, on the images on which all have values; None without
    candidates.
    """
    value = contest.values[metric]
    records = contest.records
    rows = records[(records["metric"] == metric) & (records["status"] == OK)]
    if value.reads_contributions and contest.default_layer is not None:
        rows = rows[rows["layer"] == contest.default_layer]
    table = rows.astype({"layer": str, "method": str, "image_id": str}).pivot_table(
        "value", ["image_id", "target_class"], ["layer", "method"], sort=False
    )
    # a candidate without most values would leave few images to compare the others on
    table = table.loc[:, table.notna().mean() >= LEAST_SHARE].dropna()
    if table.empty:
        return None
    names = [Candidate(*map(str, column)) for column in table.columns]
    values = table.to_numpy(dtype=np.float64)
    columns = [str(column) for column in range(len(names))]
    groups = []
    controls = []
    for same in coinciding(values, columns, rounding_of(values, value)):
        members = tuple(names[int(column)] for column in same)
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


def levels_of(metrics: Sequence[str]) -> dict[str, float]:
    """Return {metric: its part of LEVEL}. The first one, which decides, has half of it.

    Args:
        metrics: The metrics that race, in their order.
    """
    if len(metrics) == 1:
        return {metrics[0]: LEVEL}
    first, *others = metrics
    return {first: LEVEL / 2, **dict.fromkeys(others, LEVEL / 2 / len(others))}


def raced(contest: Contest, races: Mapping[str, Race], num_looks: int) -> dict[str, Race]:
    """Return {metric: its race} after a look at the contest.

    The metrics with values in the first look race. A metric without a value there gets no part of
    the level later.

    Args:
        contest: All images so far.
        races: The races until now; empty before the first look.
        num_looks: The number of looks that share the level.
    """
    all_fields = fields(contest)
    levels = levels_of([*all_fields]) if all_fields else {}
    after = {}
    for name, metric_field in all_fields.items():
        if races and name not in races:
            continue
        candidates = tuple(group[0] for group in metric_field.groups)
        race = races.get(name) or Race(candidates, metric_field.controls, levels[name], num_looks)
        if metric_field.images >= LEAST_IMAGES:
            with threadpool_limits(1, "blas"):  # small products are slower in several threads
                race = race.look(metric_field.gains)
        after[name] = race
    return after


def still_racing(contest: Contest, races: Mapping[str, Race]) -> frozenset[Candidate]:
    """Return the candidates and controls that a further look must measure.

    These are the contenders of each race, those that draw their maps, and the controls that some
    contender hasn't beaten yet.

    Args:
        contest: The images so far.
        races: The races after the look at them.
    """
    measured: set[Candidate] = set()
    for name, metric_field in fields(contest).items():
        race = races.get(name)
        if race is None:
            continue
        for contender in race.contenders:
            measured.update(*(group for group in metric_field.groups if contender in group))
        measured.update(set(race.controls) - race.beaten_by_all_contenders)
    return frozenset(measured)


@dataclass(frozen=True)
class Verdict:
    """The end of a race by one metric."""

    field: Field
    """The values of all images."""
    race: Race
    """The race after its last look."""
    chosen: Candidate | None
    """The candidate to show: the cheapest contender that is better than every control. Of several,
    the one with the best mean. None if there is none.
    """

    @property
    def title(self) -> str:
        """The metric's title, as it is written inside a sentence."""
        return in_sentence(self.field.value.title)

    @property
    def unclear(self) -> tuple[Candidate, ...]:
        """The other contenders, the best mean first."""
        others = [
            name for name in _measured_contenders(self.field, self.race) if name != self.chosen
        ]
        return tuple(sorted(others, key=lambda name: -self.field.gains[name].mean()))


def verdict_of(contest: Contest, field: Field, race: Race) -> Verdict:
    """Return the end of a race.

    Args:
        contest: The contest, with the passes of its methods.
        field: The values of all images.
        race: The race after its last look.
    """

    def cost(candidate: Candidate) -> tuple[int, float]:
        passes = min(contest.passes[same.method] for same in field.same(candidate))
        return passes, -float(field.gains[candidate].mean())

    measured = [name for name in race.above_all_controls if name in field.gains]
    return Verdict(field, race, min(measured, key=cost, default=None))


def _measured_contenders(field: Field, race: Race) -> list[Candidate]:
    """Return the contenders of a race that have values on most of the images."""
    return [name for name in race.contenders if name in field.gains]


def decided(
    contest: Contest, races: Mapping[str, Race], reasons: Mapping[str, str] | None = None
) -> Choice:
    """Return the answer by the first metric that has values, and what the other metrics say.

    Args:
        contest: All images.
        races: The races after their last look.
        reasons: {layer: the reason why methods draw the same map there, such as "only global
            average pooling and one linear layer follow"}.

    Raises:
        BenchError: If no metric has values.
    """
    all_fields = fields(contest)
    if not all_fields:
        names = joined([value.title for value in contest.values.values()], "or")
        raise BenchError(f"No method has values of {names}; choose others by report.headline.")
    verdicts = {
        name: verdict_of(contest, field, races[name])
        for name, field in all_fields.items()
        if name in races
    }
    metric, verdict = next(iter(verdicts.items()))
    chosen = verdict.chosen
    same_maps = _same_maps(contest, verdict.field, reasons or {})
    methods: tuple[str, ...] = ()
    if verdict.field.images < LEAST_IMAGES:
        too_few = (
            f"{plural(verdict.field.images, 'image')} with values are too few to rank methods: "
            f"give at least {LEAST_IMAGES}."
        )
        sentences = [too_few, *same_maps.values()]
    elif chosen is None:
        sentences = [
            *_unbeaten(contest, verdict),
            *_other_winners(contest, verdicts, metric),
            *same_maps.values(),
        ]
    else:
        methods = tuple(
            same.method for same in verdict.field.same(chosen) if same.layer == chosen.layer
        )
        sentences = [_advice(contest, verdicts, metric)]
        if chosen.layer in same_maps:
            sentences.append(same_maps[chosen.layer])
        sentences += _comparisons(contest, verdict)
        sentences += _disagreements(contest, verdicts, metric)
    sentences += _without_values(contest, verdict.field)
    sentences += _left_out_images(contest, verdict.field)
    return Choice(
        layer=chosen.layer if chosen else None,
        methods=methods,
        metric=metric,
        images=verdict.field.images,
        is_best=chosen is not None and not verdict.unclear,
        sentences=tuple(sentences),
        use="",
        report=None,
        standings=_standings(contest, verdict),
    )


def without_race(images: int, metric: str, algebra: str) -> Choice:
    """Return the answer for too few images, of which nothing is measured.

    Args:
        images: The number of images.
        metric: The metric that would decide.
        algebra: The methods that draw the same map whatever the images are.
    """
    too_few = (
        f"{plural(images, 'image')} are too few to rank methods: give at least {LEAST_IMAGES}."
    )
    return Choice(
        layer=None,
        methods=(),
        metric=metric,
        images=images,
        is_best=False,
        sentences=(too_few, f"{algebra[:1].upper()}{algebra[1:]}."),
        use="",
        report=None,
        standings=(),
    )


def _same_maps(contest: Contest, field: Field, reasons: Mapping[str, str]) -> dict[str, str]:
    """Return {layer: a sentence on the methods that draw the same map there}."""
    sentence_by_layer = {}
    for group in field.groups:
        for layer in dict.fromkeys(name.layer for name in group):
            titles = [contest.titles[name.method] for name in group if name.layer == layer]
            if len(titles) > 1:
                reason = f": {reasons[layer]}" if reasons.get(layer) else ""
                sentence = f"{joined(titles)} draw the same map at {layer}{reason}."
                sentence_by_layer[layer] = sentence
    return sentence_by_layer


def _comparisons(contest: Contest, verdict: Verdict) -> list[str]:
    """Return the sentences on the candidates that are worse, and on those that can't be
    distinguished.
    """
    field = verdict.field
    chosen = verdict.chosen
    assert chosen is not None
    sentences = []
    defeats = sorted(verdict.race.dropped.items(), key=lambda item: item[1].difference)
    worse = [
        f"{_label(contest, name, chosen)} ({_amount(contest, field, defeat, chosen)})"
        for name, defeat in defeats[:MOST_NAMES]
    ]
    if worse:
        verb = "is" if len(defeats) == 1 else "are"
        names = _listed(worse, len(defeats))
        sentences.append(f"{names} {verb} worse by {verdict.title}.")
    if verdict.unclear:
        labels = [_label(contest, name, chosen) for name in verdict.unclear[:MOST_NAMES]]
        names = _listed(labels, len(verdict.unclear))
        pairs = [field.gains[chosen] - field.gains[name] for name in verdict.unclear]
        needed = images_needed(verdict.race, pairs, [SMALLEST_DIFFERENCE] * len(pairs))
        images = plural(field.images, "image")
        shows = f"; {in_words(needed)} would show"
        if needed <= field.images:
            shows = ", which would show"
        sentences.append(
            f"{names} can't be distinguished from {_label(contest, chosen, chosen)} on "
            f"{images}{shows} a difference of {SMALLEST_DIFFERENCE}."
        )
    return sentences


def _unbeaten(contest: Contest, verdict: Verdict) -> list[str]:
    """Return why nothing can be chosen: the controls that the best contender doesn't beat."""
    field = verdict.field
    contenders = _measured_contenders(field, verdict.race)
    if not contenders:
        return [f"By {verdict.title}, what could win has values of too few images to be chosen."]
    best = max(contenders, key=lambda name: float(field.gains[name].mean()))
    beaten = verdict.race.above.get(best, frozenset())
    unbeaten = [
        name for name in verdict.race.controls if name in field.gains and name not in beaten
    ]
    titles = [*dict.fromkeys(contest.titles[name.method] for name in unbeaten)]
    verb = "explains" if len(titles) == 1 else "explain"
    names = _listed(titles[:MOST_NAMES], len(titles), "or")
    closest = min(unbeaten, key=lambda name: float((field.gains[best] - field.gains[name]).mean()))
    pair = field.gains[best] - field.gains[closest]
    difference = float(pair.mean())
    sentences = [
        f"By {verdict.title} on {plural(field.images, 'image')}, none of these methods is "
        f"significantly better than {names}, which {verb} nothing."
    ]
    place = f"{contest.titles[best.method]} at {best.layer}"
    if difference > 0:
        amount = number(difference, field.value.rounding)
        needed = in_words(images_needed(verdict.race, [pair], [difference]))
        sentences.append(
            f"{place} has the best value, {amount} better than {_label(contest, closest, best)}; "
            f"{needed} would show such a difference."
        )
    else:
        sentences.append(f"{place} has the best value of them, and it is no better either.")
    return sentences


def _advice(contest: Contest, verdicts: Mapping[str, Verdict], deciding: str) -> str:
    """Return the first sentence: the chosen candidate, and the winners by metrics in which it is
    worse.
    """
    verdict = verdicts[deciding]
    chosen = verdict.chosen
    assert chosen is not None
    shown = f"{contest.titles[verdict.field.same(chosen)[0].method]} at {chosen.layer}"
    metrics_by_winner: dict[str, list[str]] = {}
    for metric, other in verdicts.items():
        if metric != deciding and other.chosen is not None and _defeat(other, chosen) is not None:
            winner = _label(contest, other.chosen, chosen)
            metrics_by_winner.setdefault(winner, []).append(other.title)
    if not metrics_by_winner:
        return f"Show {shown}."
    parts = [f"by {joined(titles)}, {winner}" for winner, titles in metrics_by_winner.items()]
    return f"By {verdict.title}, show {shown}; {'; '.join(parts)}."


def _defeat(verdict: Verdict, candidate: Candidate) -> Defeat | None:
    """Return the defeat of a candidate by another metric; None if it isn't worse there."""
    groups = [group for group in verdict.field.groups if candidate in group]
    return verdict.race.dropped.get(groups[0][0]) if groups else None


def _disagreements(contest: Contest, verdicts: Mapping[str, Verdict], deciding: str) -> list[str]:
    """Return a sentence for each other metric in which the chosen candidate is worse than another,
    or which no method can win.
    """
    chosen = verdicts[deciding].chosen
    assert chosen is not None
    sentences = []
    defeats_by_better: dict[str, list[tuple[str, float]]] = {}
    for metric, other in verdicts.items():
        if metric == deciding or other.field.images < LEAST_IMAGES:
            continue
        defeat = _defeat(other, chosen)
        if other.chosen is None:
            sentences.append(_unbeaten(contest, other)[0])
        elif defeat is not None:
            better = _label(contest, defeat.better, chosen)
            defeats_by_better.setdefault(better, []).append((other.title, defeat.p))
    for better, defeats in defeats_by_better.items():
        titles = joined([title for title, _ in defeats])
        largest = p_value(max(p for _, p in defeats))
        worse = _label(contest, chosen, chosen)
        sentences.append(f"By {titles}, {better} is better than {worse} ({largest}).")
    return sentences


def _other_winners(contest: Contest, verdicts: Mapping[str, Verdict], deciding: str) -> list[str]:
    """Return a sentence for each candidate that is better than all others by other metrics."""
    metrics_by_winner: dict[str, list[str]] = {}
    for metric, other in verdicts.items():
        is_won = other.race.is_decided and len(other.race.candidates) > 1
        if metric != deciding and other.chosen is not None and is_won:
            winner = f"{contest.titles[other.chosen.method]} at {other.chosen.layer}"
            metrics_by_winner.setdefault(winner, []).append(other.title)
    return [
        f"By {joined(titles)}, {winner} is better than all others."
        for winner, titles in metrics_by_winner.items()
    ]


def _without_values(contest: Contest, field: Field) -> list[str]:
    """Return a sentence on the methods without values at any layer, except controls."""
    methods = {name.method for name in (*field.gains, *field.earlier_gains)}
    missing = [
        title
        for name, title in contest.titles.items()
        if name not in methods and name not in contest.controls
    ]
    if not missing:
        return []
    verb = "has" if len(missing) == 1 else "have"
    names = _listed(missing[:MOST_NAMES], len(missing))
    return [f"{names} {verb} no values of {in_sentence(field.value.title)} here."]


def _left_out_images(contest: Contest, field: Field) -> list[str]:
    """Return a sentence on the images on which a method of the last look has no value."""
    rows = contest.records[contest.records["metric"] == field.value.name]
    images = count_images(rows["image_id"])
    missing = images - field.images
    if missing <= 0:
        return []
    measured = {name.method for name in field.gains}
    reasons = rows[(rows["status"] != OK) & rows["method"].isin(measured)]["status"]
    verb = "is" if missing == 1 else "are"
    names = joined(sorted(set(map(str, reasons))))
    return [f"{missing} of {plural(images, 'image')} {verb} left out: {names}."]


def images_needed(race: Race, pairs: Sequence[Floats], differences: Sequence[float]) -> float:
    """Return the number of images that would show these differences with a probability of 80 %.

    It is an upper estimate: the race's own tests correct less for candidates that agree.

    Args:
        race: The race, which tests at its level of a look, over all its candidates.
        pairs: The differences of each pair of candidates on the images so far, (images,).
        differences: The true mean difference that is supposed for each pair.
    """
    images = len(pairs[0])
    errors = np.array([float(np.std(pair, ddof=1)) / images**0.5 for pair in pairs])
    level = 2 * race.level_of_look  # tests are one-sided
    detectable = detectable_difference(errors, len(race.candidates), images, level)
    return float(images_to_separate(np.asarray(differences), detectable, images).max())


def in_words(images: float) -> str:
    """Return an estimated number of images in two digits, such as "about 46 images".

    Args:
        images: The number.
    """
    if images > MOST_IMAGES:
        return f"over {MOST_IMAGES:,} images"
    return f"about {float(f'{images:.2g}'):,.0f} images"


def _standings(contest: Contest, verdict: Verdict) -> tuple[Standing, ...]:
    """Return all candidates and controls, the best value first."""
    field = verdict.field
    sign = 1.0 if field.value.better == "higher" else -1.0
    statuses = {}
    for group in field.groups:
        status = IN_THE_RACE
        if group[0] == verdict.chosen:
            status = CHOSEN
        elif group[0] in verdict.race.dropped:
            status = WORSE
        statuses.update(dict.fromkeys(group, status))
    standings = []
    all_gains = {**field.gains, **field.earlier_gains}
    for name, gains in sorted(all_gains.items(), key=lambda item: -item[1].mean()):
        if name.method in contest.controls and name not in verdict.race.controls:
            continue  # it has the same values as another control
        defeat = None
        if name in statuses:
            defeat = verdict.race.dropped.get(field.same(name)[0])
        spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
        standings.append(
            Standing(
                layer=name.layer,
                method=name.method,
                title=contest.titles[name.method],
                mean=sign * float(gains.mean()),
                error=spread / len(gains) ** 0.5,
                status=statuses.get(name, CONTROL),
                images=defeat.images if defeat else len(gains),
            )
        )
    return tuple(standings)


def _amount(contest: Contest, field: Field, defeat: Defeat, chosen: Candidate) -> str:
    """Return by how much a candidate is worse, and how sure that is."""
    amount = number(defeat.difference, field.value.rounding)
    if defeat.better == chosen:
        amount = f"by {amount}"
    else:
        amount = f"{amount} worse than {_label(contest, defeat.better, chosen)}"
    images = "" if defeat.images == field.images else f", {plural(defeat.images, 'image')}"
    return f"{amount}, {p_value(defeat.p)}{images}"


def _label(contest: Contest, candidate: Candidate, chosen: Candidate) -> str:
    """Return a candidate's title, with the layer if it isn't that of the chosen one."""
    title = contest.titles[candidate.method]
    return title if candidate.layer == chosen.layer else f"{title} at {candidate.layer}"


def _listed(names: Sequence[str], total: int, last: str = "and") -> str:
    """Return the names, and the number of those that aren't among them."""
    others = [f"{total - len(names)} more"] if total > len(names) else []
    return joined([*names, *others], last)
