"""`axiom-bench game-score`: how often people name what a method shows, as text and as files.

Answers of one player, and answers about one image, aren't independent. So the variance of every
number comes from two bootstraps, one that draws players and one that draws images. They are joined
as in Cameron, Gelbach and Miller 2011: V = V_players + V_images - V_answers. This sum can be too
small by chance, so the larger of the two variances is the least. The same resamples serve all
methods, so that the covariances of two methods' accuracies are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError, plural
from axiom_bench.records import files
from axiom_bench.report.tables.table import (
    Cell,
    Group,
    Table,
    count_cell,
    number_cell,
    to_csv,
    to_markdown,
    to_text,
)
from axiom_bench.statistics.bootstrap import LEVEL
from axiom_bench.statistics.labels import NOTHING, share
from axiom_bench.statistics.paired_tests import holm
from axiom_bench.statistics.summary import wilson

FORMAT = 1
# The fields that all answers of a file share, and their types.
SHARED: dict[str, type[str] | type[int]] = {
    "game": str,
    "model": str,
    "layer": str,
    "data": str,
    "weights": str,
    "share": str,
    "checks_needed": int,
    "player": int,
}
# The fields of one answer, and their types.
OWN: dict[str, type[str] | type[int]] = {
    "trial": int,
    "kind": str,
    "image": str,
    "method": str,
    "title": str,
    "class_index": int,
    "class": str,
    "answer_index": int,
    "answer": str,
    "correct": int,
    "milliseconds": int,
}
PART = "part"  # the kind of an answer about a part of a picture
Row = dict[str, str | int]  # one answer, with the fields SHARED and OWN
CHECK = "check"  # the kind of an answer about a whole picture, an attention check
CANT_TELL = -1  # the answer_index of "can't tell"


class Answers(NamedTuple):
    """The answers of the players who count."""

    table: pd.DataFrame  # the answers about parts of pictures, columns SHARED and OWN
    players: int  # the number of players
    notes: tuple[str, ...]  # sentences about players and answers that don't count


def read_answers(paths: Sequence[Path]) -> Answers:
    """Read the answers in these files, and in the files of these folders.

    Answers that occur twice, such as in a file that was saved again later, count once.

    Raises:
        BenchError: If a file can't be read, the answers are of several games, or two players have
            one number. The message has the file.
    """
    rows_by_file = _read_files(paths)
    file_by_game = {rows[0]["game"]: path for path, rows in rows_by_file.items()}
    if not file_by_game:
        raise BenchError("The files hold no answers: their players stopped before the first one.")
    if len(file_by_game) > 1:
        listed = "; ".join(f"{game} in {path}" for game, path in file_by_game.items())
        raise BenchError(
            f"The answers are of {len(file_by_game)} games, which can't be scored together: "
            f"{listed}."
        )
    rows_by_player, notes = _answers_by_player(rows_by_file)
    all_rows = [row for rows in rows_by_player.values() for row in rows]
    table = pd.DataFrame(all_rows, columns=[*SHARED, *OWN])
    needed = int(table["checks_needed"].iloc[0])
    # The answers of a player who named too few whole pictures correctly don't count.
    failed = []
    for player in sorted(rows_by_player):
        answers = table[table["player"] == player]
        checks = answers[answers["kind"] == CHECK]
        right = int(checks["correct"].sum())
        if right < needed:
            failed.append(player)
            stopped = (
                f" and stopped after {plural(len(answers), 'picture')}"
                if len(checks) < needed
                else ""
            )
            named = (
                f"{right} of {len(checks)} whole pictures correctly ({needed} are needed){stopped}"
            )
            notes.append(f"Left out: player {player}, who named {named}.")
    is_counted = ~table["player"].isin(failed) & (table["kind"] == PART)
    counted = table[is_counted].reset_index(drop=True)
    if counted.empty:
        raise BenchError(
            f"None of the answers can be used: none of {plural(len(rows_by_player), 'player')} "
            f"named {needed} whole pictures correctly; more players are needed."
        )
    return Answers(counted, counted["player"].nunique(), tuple(notes))


def _read_files(paths: Sequence[Path]) -> dict[Path, list[Row]]:
    """Return {file: its answers} of the files, and of the files of the folders, that have any."""
    rows_by_file: dict[Path, list[Row]] = {}
    for path in paths:
        answer_files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not answer_files:
            raise BenchError(f"There is no file of answers (JSON) in {path}.")
        if not all(file.is_file() for file in answer_files):
            raise BenchError(
                f"There is no file {path}; give the files that players saved, or a folder of them."
            )
        for file in answer_files:
            rows = _rows(file)
            if rows:
                rows_by_file[file] = rows
    return rows_by_file


def _answers_by_player(
    rows_by_file: dict[Path, list[Row]],
) -> tuple[dict[int, list[Row]], list[str]]:
    """Return {player: answers}, and notes on players who saved several files. The longest of a
    player's files counts, and must begin with the answers of the others.
    """
    rows_by_player: dict[int, list[Row]] = {}
    file_by_player: dict[int, Path] = {}
    notes = []
    for path, rows in rows_by_file.items():
        player = int(rows[0]["player"])
        previous_rows = rows_by_player.get(player, [])
        previous_file = file_by_player.get(player, path)
        # a player who saves again later has a longer file, which begins with the same answers
        shorter, longer = sorted((previous_rows, rows), key=len)
        if longer[: len(shorter)] != shorter:
            raise BenchError(
                f"{previous_file} and {path} have different answers of player {player}: two people "
                "had one number. Leave one of the files out."
            )
        if previous_rows:
            notes.append(
                f"Counted once: the answers of player {player}, which are in {previous_file.name} "
                f"and {path.name}."
            )
        rows_by_player[player] = longer
        file_by_player[player] = path
    return rows_by_player, notes


def _rows(path: Path) -> list[Row]:
    """Return the answers in a file, each with the fields SHARED and OWN."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        shared = {name: convert(content[name]) for name, convert in SHARED.items()}
        rows = []
        for answer in content["answers"]:
            own = {name: convert(answer[name]) for name, convert in OWN.items()}
            rows.append({**shared, **own})
        return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{path} isn't a file of answers that this version's game saved."
        ) from error


RESAMPLES = 2000
FORMATS = (".csv", ".md")
NOTES = {
    "accuracy": (
        'Accuracy: the share of answers that name the class whose map is shown; "can\'t tell" '
        "counts as not naming it. A player who guesses between the two classes is right in 50 %, "
        "and less often with every \"can't tell\". Interval: of 95 %, Wilson's for as many "
        "independent answers as have the variance of the two-way cluster bootstrap of players and "
        "images, with Student's t."
    ),
    "pairs": (
        "Difference of the accuracies, with the 95 % interval and p of the same two-way cluster "
        "bootstrap (Student's t), and p adjusted by Holm over all pairs of this table. Bold: "
        "adjusted p below 0.05."
    ),
}

Matrix = NDArray[np.float64]


class Score(NamedTuple):
    """The accuracies of all methods, and their differences."""

    # The columns method, n, correct, cant_tell, accuracy, low, high; the best method is first.
    accuracies: pd.DataFrame
    # The columns method, other, difference (accuracy of method - other), low, high, p, adjusted.
    pairs: pd.DataFrame


def report_score(paths: Sequence[Path], output: Path | None = None, seed: int = 0) -> list[str]:
    """Return the lines of the report of these files of answers.

    Args:
        paths: Files of answers, or folders of them.
        output: A file to which the report is also written, in the format of its ending, one of
            FORMATS. A CSV report has a file for each table.
        seed: The seed of the resamples.

    Raises:
        BenchError: If the answers can't be read or scored, or the file can't be written.
    """
    if output is not None and output.suffix not in FORMATS:
        raise BenchError(
            f"--output {output} must end with one of {', '.join(FORMATS)}; the ending sets the "
            "format."
        )
    files.check_output(output)
    if seed < 0:
        raise BenchError(f"--seed {seed}: give 0 or more.")
    answers = read_answers(paths)
    result = score(answers.table, seed)
    titles = dict(zip(answers.table["method"], answers.table["title"], strict=True))
    tables = _tables(result, titles)
    game = answers.table["game"][0]
    lines = [
        f"{plural(len(answers.table), 'answer')} of {plural(answers.players, 'player')}, game "
        f"{game}",
        *answers.notes,
    ]
    table_lines = []
    for table in tables:
        table_lines += ["", *to_text(table)]
    if output is None:
        return [*lines, *table_lines]
    if output.suffix == ".csv":  # a file has one table only
        pairs_output = output.with_stem(f"{output.stem}_pairs")
        contents = {output: to_csv(result.accuracies), pairs_output: to_csv(result.pairs)}
    else:
        contents = {output: "\n\n".join([*lines, *map(to_markdown, tables)])}
    for path, text in contents.items():
        files.write(path, text.encode())
    return [*lines, *table_lines, "", *(f"written: {path}" for path in contents)]


def score(table: pd.DataFrame, seed: int = 0) -> Score:
    """Return the score of answers.

    Args:
        table: The answers, with the columns player, image, method, correct and answer_index.
        seed: The seed of the resamples.
    """
    from scipy.stats import t  # imported here, because it takes half a second

    marked = table.assign(cant_tell=table["answer_index"] == CANT_TELL).groupby("method")
    counted = marked.agg(
        n=("correct", "size"), correct=("correct", "sum"), cant_tell=("cant_tell", "sum")
    )
    counted = counted.reset_index().assign(accuracy=lambda rows: rows["correct"] / rows["n"])
    accuracy = counted["accuracy"].to_numpy()
    n = counted["n"].to_numpy()
    methods = counted["method"].tolist()
    independent = np.diag(accuracy * (1 - accuracy) / n)
    by_player = cluster_covariance(table, "player", methods, seed)
    by_image = cluster_covariance(table, "image", methods, seed)
    # Student's t has the smaller number of clusters - 1 degrees of freedom. A single cluster tells
    # nothing, so the other kind decides.
    num_clusters = [table["player"].nunique(), table["image"].nunique()]
    degrees = min((number for number in num_clusters if number > 1), default=2) - 1
    # So many standard errors are on either side of a number.
    reach = float(t.ppf(1 - LEVEL / 2, degrees))

    def variance(weights: Matrix) -> float:
        """Return the variance of the weighted sum of the accuracies."""
        return two_way_variance(
            float(weights @ independent @ weights),
            float(weights @ by_player @ weights),
            float(weights @ by_image @ weights),
        )

    # Wilson's intervals for n / design effect answers. The design effect is the variance divided by
    # that of independent answers, at least 1. A method that is always or never right has no
    # variance of its own, so it gets the design effect of all methods together.
    identity = np.eye(len(counted))
    alone = np.diag(independent)
    clustered = np.maximum([variance(row) for row in identity], alone)
    pooled = clustered.sum() / alone.sum() if alone.sum() > 0 else 1.0
    effect = np.divide(clustered, alone, out=np.full(len(clustered), pooled), where=alone > 0)
    ends = [
        wilson(correct, total, reach)
        for correct, total in zip(counted["correct"] / effect, n / effect, strict=True)
    ]
    low, high = np.transpose(ends)
    accuracies = counted.assign(low=low, high=high).sort_values(
        "accuracy", ascending=False, kind="stable"
    )
    pairs = list(combinations(accuracies.index, 2))
    error = np.sqrt([variance(identity[a] - identity[b]) for a, b in pairs])
    difference = np.array([accuracy[a] - accuracy[b] for a, b in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):  # without any spread, p is unknown
        p = np.where(error > 0, 2 * t.sf(np.abs(difference) / error, degrees), np.nan)
    pair_scores = pd.DataFrame(
        {
            "method": [methods[a] for a, _ in pairs],
            "other": [methods[b] for _, b in pairs],
            "difference": difference,
            "low": difference - reach * error,
            "high": difference + reach * error,
            "p": p,
            "adjusted": holm(p),
        }
    )
    return Score(accuracies.reset_index(drop=True), pair_scores)


def cluster_covariance(
    table: pd.DataFrame, cluster: str, methods: Sequence[str], seed: int
) -> Matrix:
    """Return (M, M), the covariances of the methods' accuracies when whole clusters are drawn with
    replacement.

    Covariances are NaN for fewer than two clusters. The factor G / (G - 1) makes them unbiased for
    G clusters.
    """
    codes, names = pd.factorize(table[cluster])
    groups = len(names)
    if groups < 2:
        return np.full((len(methods), len(methods)), np.nan)
    place = pd.Categorical(table["method"], categories=list(methods)).codes
    n = np.zeros((groups, len(methods)))
    correct = np.zeros((groups, len(methods)))
    np.add.at(n, (codes, place), 1)
    np.add.at(correct, (codes, place), table["correct"].to_numpy(float))
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    totals = draws @ n
    complete = (totals > 0).all(1)  # a resample may have no answer of a method
    accuracies = (draws @ correct)[complete] / totals[complete]
    return np.atleast_2d(np.cov(accuracies, rowvar=False)) * groups / (groups - 1)


def two_way_variance(of_answers: float, by_player: float, by_image: float) -> float:
    """Return the variance with players and images as clusters. If one of the two is unknown, return
    the other.
    """
    variances = [value for value in (by_player, by_image) if math.isfinite(value)]
    if len(variances) == 2:
        variances.append(by_player + by_image - of_answers)
    return max(variances, default=of_answers)


def _tables(score: Score, titles: dict[str, str]) -> list[Table]:
    """Return the tables of accuracies and of pairs."""
    accuracies: list[tuple[Cell, ...]] = []
    for row in score.accuracies.to_dict("records"):
        accuracy_cells = (
            Cell(titles[row["method"]]),
            count_cell(row["n"]),
            number_cell(row["accuracy"], f"{row['accuracy']:.2f}"),
            _interval_cell(row["low"], row["high"]),
            number_cell(row["cant_tell"] / row["n"], share(row["cant_tell"], row["n"])),
        )
        accuracies.append(accuracy_cells)
    pairs: list[tuple[Cell, ...]] = []
    for row in score.pairs.to_dict("records"):
        is_significant = row["adjusted"] < LEVEL
        pair_cells = (
            Cell(titles[row["method"]], is_significant),
            Cell(titles[row["other"]]),
            number_cell(row["difference"], f"{row['difference']:+.2f}"),
            _interval_cell(row["low"], row["high"]),
            number_cell(row["p"]),
            number_cell(row["adjusted"], bold=is_significant),
        )
        pairs.append(pair_cells)  # bold below the level, after Holm
    return [
        Table(
            "accuracy",
            "What people see",
            ("Method", "n", "Accuracy", "Interval", "Can't tell"),
            (Group("", tuple(accuracies)),),
            (NOTES["accuracy"],),
        ),
        Table(
            "pairs",
            "Methods in pairs",
            ("Method", "Compared with", "Difference", "Interval", "p", "p adjusted"),
            (Group("", tuple(pairs)),),
            (NOTES["pairs"],),
            text_columns=2,
        ),
    ]


def _interval_cell(low: float, high: float) -> Cell:
    """Return an interval, or a dash if it is unknown."""
    is_known = math.isfinite(low) and math.isfinite(high)
    return Cell(f"{low:.2f} to {high:.2f}" if is_known else NOTHING)
