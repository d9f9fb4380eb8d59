"""The tables of a game's score, as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from axiom_bench.report.game.accuracy import HIGH, LOW, POWER, Score, independent_answers
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.statistics.numbers import NOTHING, share
from axiom_bench.statistics.run_folder import RunFolder

SIGNIFICANCE = 0.05
FEW_METHODS = 10
ACCURACY_NOTES = (
    'Accuracy: the share of answers that name the class whose map is shown; "can\'t tell" counts as not naming it. Who '
    'always guesses between the two classes is right in 50 %, and less often with every "can\'t tell".',
    "Interval if independent: Wilson's. Interval: Wilson's for n / design effect answers, with Student's t; the design "
    "effect is the variance by players and images (two-way cluster bootstrap: V = V_players + V_images - V_answers, at "
    "least the larger of the two, 2,000 resamples each) over that of independent answers. Both 95 %.",
)
PAIRS_NOTE = (
    "Difference of the accuracies, with the 95 % interval and p of the same two-way cluster bootstrap (Student's t), "
    "and p adjusted by Holm over all pairs of this table. Bold: adjusted p below 0.05."
)
AREA_NOTE = (
    "Of single answers: the probability that of two answers, one right and one not, the right one's picture has the "
    "better value; 0.5 predicts nothing. 95 % interval by the two-way cluster bootstrap, of players and images."
)


def accuracy_table(score: Score, titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (
            Cell(titles[entry["method"]]),
            count(entry["n"]),
            numeric(entry["accuracy"], f"{entry['accuracy']:.2f}"),
            Cell(_interval(entry["low"], entry["high"])),
            Cell(_interval(entry["wilson_low"], entry["wilson_high"])),
            numeric(entry["design_effect"], f"{entry['design_effect']:.2f}"),
            numeric(entry["cant_tell"] / entry["n"], share(entry["cant_tell"], entry["n"])),
        )
        for entry in score.accuracies.to_dict("records")
    )
    header = ("Method", "n", "Accuracy", "Interval", "If independent", "Design effect", "Can't tell")
    return Table("accuracy", "What people see", header, (Group("", rows),), ACCURACY_NOTES)


def pairs_table(score: Score, titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (
            Cell(titles[entry["method"]], entry["adjusted"] < SIGNIFICANCE),
            Cell(titles[entry["other"]]),
            numeric(entry["difference"], _signed(entry["difference"])),
            Cell(_interval(entry["low"], entry["high"])),
            numeric(entry["p"]),
            numeric(entry["adjusted"], bold=entry["adjusted"] < SIGNIFICANCE),
        )
        for entry in score.pairs.to_dict("records")
    )
    header = ("Method", "Compared with", "Difference", "Interval", "p", "p adjusted")
    return Table("pairs", "Methods in pairs", header, (Group("", rows),), (PAIRS_NOTE,), text_columns=2)


def predictions_table(metrics: pd.DataFrame, run: RunFolder) -> Table:
    """Which automatic metric predicts what people see."""
    rows = tuple(
        (
            Cell(run.metadata.value(entry["metric"]).title),
            numeric(entry["rank_correlation"], _signed(entry["rank_correlation"])),
            numeric(entry["p"]),
            count(entry["methods"]),
            numeric(entry["auc"], f"{entry['auc']:.2f}"),
            Cell(_interval(entry["low"], entry["high"])),
            count(entry["answers"]),
        )
        for entry in metrics.to_dict("records")
    )
    header = ("Metric", "Rank correlation", "p", "Methods", "Single answers", "Interval", "Answers")
    notes = [
        "Rank correlation: Spearman's over methods, between their accuracy and the metric's median (errors) or mean on "
        "the pictures of the game; over 0 where the metric agrees with people. p: by permuting the methods, not "
        "adjusted.",
        AREA_NOTE,
    ]
    most = int(metrics["methods"].max()) if len(metrics) else 0
    if most < FEW_METHODS:
        notes.append(
            f"With {most} methods, which are no sample of all methods, a rank correlation says little: read it "
            "as a description of these, and the column of single answers first."
        )
    return Table("metrics", "Which metric predicts what people see", header, (Group("", rows),), tuple(notes))


def needed_line(score: Score, players: int) -> str:
    """How many answers are still needed, and how many players that is."""
    effect = NOTHING if math.isnan(score.design_effect) else f"{score.design_effect:.2f}"
    start = (
        f"For {100 * POWER:.0f} % power to tell {LOW:.2f} from {HIGH:.2f}, each method needs {score.needed:,} answers "
        f"({math.ceil(independent_answers())} if independent, times the design effect of a difference, {effect}, at "
        "least 1)"
    )
    if score.least >= score.needed:
        return f"{start}: each has them."
    missing = score.needed - score.least
    more = math.ceil(missing * players / score.least)
    return f"{start}: {missing:,} more for the method with the fewest, about {more:,} more players."


def _interval(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if math.isfinite(low) and math.isfinite(high) else NOTHING


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else NOTHING
