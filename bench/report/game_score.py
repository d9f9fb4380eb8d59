"""`axiom-bench game-score`: how often people name what a method shows, as text and as files.

Answers of one player, and answers about one image, aren't independent. The variance of every number
is therefore that of two bootstraps, one that draws players and one that draws images, joined as in
Cameron, Gelbach and Miller 2011. V = V_players + V_images - V_answers, and at least the larger of
the two, since the sum can be too small by chance. The same resamples serve all methods, so that the
covariances of two methods' accuracies are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.report.tables.table import (
    Cell,
    Group,
    Table,
    count,
    numeric,
    to_csv,
    to_markdown,
    to_text,
)
from axiom_bench.statistics.labels import NOTHING, share
from axiom_bench.statistics.paired_tests import LEVEL, holm
from axiom_bench.statistics.summary import wilson

FORMAT = 1
SHARED = {  # by all answers of a file
    **dict.fromkeys(("game", "model", "layer", "data", "weights", "share"), str), "checks_needed": int, "player": int,
}  # fmt: skip
OWN = {
    "trial": int, "kind": str, "image": str, "method": str, "title": str, "class_index": int, "class": str,
    "answer_index": int, "answer": str, "correct": int, "milliseconds": int,
}  # fmt: skip
PART, CHECK = "part", "check"
CANT_TELL = -1  # the answer_index of "can't tell"


class Answers(NamedTuple):
    """table: the answers about parts of pictures, columns SHARED and OWN, of the players who count.
    players: how many they are. notes: sentences about who and what doesn't count.
    """

    table: pd.DataFrame
    players: int
    notes: tuple[str, ...]


def read_answers(paths: Sequence[Path]) -> Answers:
    """The answers in these files, and in those of these folders.

    The same answers twice, as in a file saved again later, count once. Raises BenchError, naming
    the file, for one that can't be read, for answers of several games, and for two players with one
    number.
    """
    of_file: dict[Path, list[dict[str, Any]]] = {}
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise BenchError(f"There is no file of answers (JSON) in {path}.")
        if not all(file.is_file() for file in inside):
            raise BenchError(
                f"There is no file {path}; give the files that players saved, or a folder of them."
            )
        of_file |= {file: rows for file in inside if (rows := _rows(file))}
    of_game = {rows[0]["game"]: path for path, rows in of_file.items()}
    if not of_game:
        raise BenchError("The files hold no answers: their players stopped before the first one.")
    if len(of_game) > 1:
        listed = "; ".join(f"{game} in {path}" for game, path in of_game.items())
        raise BenchError(
            f"The answers are of {len(of_game)} games, which can't be scored together: {listed}."
        )
    of_player: dict[int, tuple[Path, list[dict[str, Any]]]] = {}
    notes = []
    for path, rows in of_file.items():
        player = rows[0]["player"]
        before, others = of_player.get(player, (path, []))
        shorter, longer = sorted((others, rows), key=len)
        if longer[: len(shorter)] != shorter:
            raise BenchError(
                f"{before} and {path} have different answers of player {player}: two people had "
                "one number. Leave one of the files out."
            )
        if others:
            notes.append(
                f"Counted once: the answers of player {player}, which are in {before.name} and "
                f"{path.name}."
            )
        of_player[player] = path, longer
    table = pd.DataFrame(
        [row for _, rows in of_player.values() for row in rows], columns=[*SHARED, *OWN]
    )
    needed, failed = int(table["checks_needed"].iloc[0]), []
    for player in sorted(of_player):
        own = table[table["player"] == player]
        checks = own[own["kind"] == CHECK]
        if (right := int(checks["correct"].sum())) < needed:
            failed.append(player)
            stopped = f" and stopped after {len(own)} pictures" if len(checks) < needed else ""
            named = (
                f"{right} of {len(checks)} whole pictures correctly ({needed} are needed){stopped}"
            )
            notes.append(f"Left out: player {player}, who named {named}.")
    counted = table[~table["player"].isin(failed) & (table["kind"] == PART)].reset_index(drop=True)
    if counted.empty:
        raise BenchError(
            f"No answer counts: of {len(of_player)} players none named {needed} whole pictures "
            "correctly; more players are needed."
        )
    return Answers(counted, counted["player"].nunique(), tuple(notes))


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        shared = {name: kind(content[name]) for name, kind in SHARED.items()}
        return [
            {**shared, **{name: kind(row[name]) for name, kind in OWN.items()}}
            for row in content["answers"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{path} isn't a file of answers that this version's game saved."
        ) from error


RESAMPLES = 2000
FORMATS = (".csv", ".md")
NOTES = {
    "accuracy": 'Accuracy: the share of answers that name the class whose map is shown; "can\'t tell" counts as not '
    'naming it. Who always guesses between the two classes is right in 50 %, and less often with every "can\'t tell". '
    "Interval: of 95 %, Wilson's for as many independent answers as have the variance of the "
    "two-way cluster bootstrap of players and images, with Student's t.",
    "pairs": "Difference of the accuracies, with the 95 % interval and p of the same two-way cluster bootstrap "
    "(Student's t), and p adjusted by Holm over all pairs of this table. Bold: adjusted p below "
    "0.05.",
}

Matrix = NDArray[np.float64]


class Score(NamedTuple):
    """accuracies: method, n, correct, cant_tell, accuracy, low, high, the best first. pairs:
    method, other, difference (accuracy of method - other), low, high, p, adjusted.
    """

    accuracies: pd.DataFrame
    pairs: pd.DataFrame


def report_score(paths: Sequence[Path], output: Path | None = None, seed: int = 0) -> list[str]:
    """The lines of the report of these files of answers. output: also written as FORMATS tell; of
    CSV a file for each table. Raises BenchError.
    """
    if output is not None and output.suffix not in FORMATS:
        raise BenchError(
            f"--output {output} ends with none of {', '.join(FORMATS)}, which tell its format."
        )
    files.check_output(output)
    if seed < 0:
        raise BenchError(f"--seed {seed}: give 0 or more.")
    read = read_answers(paths)
    result = score(read.table, seed)
    tables = _tables(result, dict(zip(read.table["method"], read.table["title"], strict=True)))
    lines = [
        f"{len(read.table):,} answers of {read.players} players, game {read.table['game'][0]}",
        *read.notes,
    ]
    shown = [line for table in tables for line in ("", *to_text(table))]
    if output is None:
        return [*lines, *shown]
    contents = {output: "\n\n".join([*lines, *map(to_markdown, tables)])}
    if output.suffix == ".csv":
        frames = {output: result.accuracies, output.with_stem(f"{output.stem}_pairs"): result.pairs}
        contents = {path: to_csv(frame) for path, frame in frames.items()}
    for path, text in contents.items():
        files.write(path, text.encode())
    return [*lines, *shown, "", *(f"written: {path}" for path in contents)]


def score(table: pd.DataFrame, seed: int = 0) -> Score:
    """The score of answers with the columns player, image, method, correct and answer_index. seed:
    of the resamples.
    """
    from scipy.stats import t  # here, because it takes half a second to import

    marked = table.assign(cant_tell=table["answer_index"] == CANT_TELL).groupby("method")
    counted = marked.agg(
        n=("correct", "size"), correct=("correct", "sum"), cant_tell=("cant_tell", "sum")
    )
    counted = counted.reset_index().assign(accuracy=lambda rows: rows["correct"] / rows["n"])
    accuracy, n, methods = (
        counted["accuracy"].to_numpy(),
        counted["n"].to_numpy(),
        counted["method"].tolist(),
    )
    independent = np.diag(accuracy * (1 - accuracy) / n)
    by_player, by_image = (
        cluster_covariance(table, name, methods, seed) for name in ("player", "image")
    )
    # Of Student's t: the smaller number of clusters - 1; a single cluster tells nothing, so the
    # other decides.
    clusters = [number for name in ("player", "image") if (number := table[name].nunique()) > 1]
    degrees = min(clusters, default=2) - 1
    reach = float(
        t.ppf(1 - LEVEL / 2, degrees)
    )  # so many standard errors on either side of a number

    def variance(weights: Matrix) -> float:
        """Of the weighted sum of the accuracies."""
        return joined(
            *(float(weights @ part @ weights) for part in (independent, by_player, by_image))
        )

    # Wilson's intervals for n / design effect answers. The design effect is the variance over that
    # of independent answers, 1 at least; a method that is always or never right has that of all
    # methods together.
    identity, alone = np.eye(len(counted)), np.diag(independent)
    clustered = np.maximum([variance(row) for row in identity], alone)
    pooled = clustered.sum() / alone.sum() if alone.sum() > 0 else 1.0
    effect = np.divide(clustered, alone, out=np.full(len(clustered), pooled), where=alone > 0)
    ends = [
        wilson(*row, reach) for row in zip(counted["correct"] / effect, n / effect, strict=True)
    ]
    low, high = np.transpose(ends)
    best = counted.assign(low=low, high=high).sort_values(
        "accuracy", ascending=False, kind="stable"
    )
    pairs = list(combinations(best.index, 2))
    error = np.sqrt([variance(identity[a] - identity[b]) for a, b in pairs])
    difference = np.array([accuracy[a] - accuracy[b] for a, b in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):  # without any spread, p is unknown
        p = np.where(error > 0, 2 * t.sf(np.abs(difference) / error, degrees), np.nan)
    names = {"method": [methods[a] for a, _ in pairs], "other": [methods[b] for _, b in pairs]}
    bounds = {"low": difference - reach * error, "high": difference + reach * error}
    of_pairs = pd.DataFrame(
        {**names, "difference": difference, **bounds, "p": p, "adjusted": holm(p)}
    )
    return Score(best.reset_index(drop=True), of_pairs)


def cluster_covariance(
    table: pd.DataFrame, cluster: str, methods: Sequence[str], seed: int
) -> Matrix:
    """(M, M): covariances of the methods' accuracies when whole clusters are drawn with
    replacement.

    NaN for fewer than two clusters. The factor G / (G - 1) makes it unbiased for G clusters.
    """
    codes, names = pd.factorize(table[cluster])
    groups = len(names)
    if groups < 2:
        return np.full((len(methods), len(methods)), np.nan)
    place = pd.Categorical(table["method"], categories=list(methods)).codes
    n, correct = np.zeros((groups, len(methods))), np.zeros((groups, len(methods)))
    np.add.at(n, (codes, place), 1)
    np.add.at(correct, (codes, place), table["correct"].to_numpy(float))
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    totals = draws @ n
    complete = (totals > 0).all(1)  # a resample may have no answer of a method
    return (
        np.atleast_2d(np.cov((draws @ correct)[complete] / totals[complete], rowvar=False))
        * groups
        / (groups - 1)
    )


def joined(of_answers: float, by_player: float, by_image: float) -> float:
    """The variance with players and images as clusters; where one of them is unknown, by the
    other.
    """
    finite = [value for value in (by_player, by_image) if math.isfinite(value)]
    both = [by_player + by_image - of_answers] if len(finite) == 2 else []
    return max([*finite, *both], default=of_answers)


def _tables(score: Score, titles: dict[str, str]) -> list[Table]:
    """As a reader sees them."""

    def interval(row: dict[Any, Any]) -> Cell:
        ends = [row["low"], row["high"]]
        return Cell(f"{ends[0]:.2f} to {ends[1]:.2f}" if np.isfinite(ends).all() else NOTHING)

    accuracies = tuple(
        (
            Cell(titles[row["method"]]), count(row["n"]), numeric(row["accuracy"], f"{row['accuracy']:.2f}"),
            interval(row), numeric(row["cant_tell"] / row["n"], share(row["cant_tell"], row["n"])),
        )
        for row in score.accuracies.to_dict("records")
    )  # fmt: skip
    pairs = tuple(
        (
            Cell(titles[row["method"]], row["adjusted"] < LEVEL), Cell(titles[row["other"]]),
            numeric(row["difference"], f"{row['difference']:+.2f}"), interval(row), numeric(row["p"]),
            numeric(row["adjusted"], bold=row["adjusted"] < LEVEL),
        )
        for row in score.pairs.to_dict("records")
    )  # fmt: skip
    of_methods = ("Method", "n", "Accuracy", "Interval", "Can't tell")
    of_pairs = ("Method", "Compared with", "Difference", "Interval", "p", "p adjusted")
    return [
        Table(
            "accuracy",
            "What people see",
            of_methods,
            (Group("", accuracies),),
            (NOTES["accuracy"],),
        ),
        Table(
            "pairs",
            "Methods in pairs",
            of_pairs,
            (Group("", pairs),),
            (NOTES["pairs"],),
            text_columns=2,
        ),
    ]
