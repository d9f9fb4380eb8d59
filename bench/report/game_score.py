"""`axiom-bench game-score`: how often people name what a method shows, as text and as files.

Answers of one player, and answers about one image, aren't independent. The variance of every number is therefore that
of two bootstraps, one that draws players and one that draws images, joined as in Cameron, Gelbach and Miller 2011. V =
V_players + V_images - V_answers, and at least the larger of the two, since the sum can be too small by chance. The same
resamples serve all methods, so that the covariances of two methods' accuracies are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric, to_csv, to_markdown, to_text
from axiom_bench.statistics.labels import NOTHING, share
from axiom_bench.statistics.paired_tests import LEVEL, holm

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

Rows = list[dict[str, Any]]  # the keys of SHARED and OWN


@dataclass(frozen=True)
class Answers:
    """table: the answers about parts of pictures, columns SHARED and OWN, of the players who count.
    players: how many they are. notes: sentences about who and what doesn't count."""

    table: pd.DataFrame
    players: int
    notes: tuple[str, ...]


def read_answers(paths: Sequence[Path]) -> Answers:
    """The answers in these files, and in those of these folders.

    The same answers twice, as in a file saved again later, count once. Raises BenchError, naming the file, for one that
    can't be read, for answers of several games, and for two players with one number.
    """
    files = {path: _rows(path) for path in _files(paths)}
    of_game = {row["game"]: path for path, rows in files.items() for row in rows}
    if not of_game:
        raise BenchError("The files hold no answers: their players stopped before the first one.")
    if len(of_game) > 1:
        listed = "; ".join(f"{game} in {path}" for game, path in of_game.items())
        raise BenchError(f"The answers are of {len(of_game)} games, which can't be scored together: {listed}.")
    by_player, notes = _each_player_once(files)
    table = pd.DataFrame([row for rows in by_player.values() for row in rows], columns=[*SHARED, *OWN])
    failed = dict(_failed(table))
    notes += [f"Left out: player {player}, {reason}." for player, reason in failed.items()]
    counted = table[~table["player"].isin(list(failed)) & (table["kind"] == PART)].reset_index(drop=True)
    if counted.empty:
        raise BenchError(
            f"No answer counts: of {len(by_player)} players none named {table['checks_needed'][0]} whole pictures "
            "correctly; more players are needed."
        )
    return Answers(counted, counted["player"].nunique(), tuple(notes))


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the JSON files of the folders. Raises BenchError."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise BenchError(f"There is no file of answers (JSON) in {path}.")
        if not all(file.is_file() for file in inside):
            raise BenchError(f"There is no file {path}; give the files that players saved, or a folder of them.")
        files.update(dict.fromkeys(inside))
    return list(files)


def _rows(path: Path) -> Rows:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        shared = {name: kind(content[name]) for name, kind in SHARED.items()}
        return [{**shared, **{name: kind(row[name]) for name, kind in OWN.items()}} for row in content["answers"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path} isn't a file of answers that this version's game saved.") from error


def _each_player_once(files: Mapping[Path, Rows]) -> tuple[dict[int, Rows], list[str]]:
    """({player: rows}, sentences about files that repeat another's answers). Raises BenchError."""
    kept: dict[int, tuple[Path, Rows]] = {}
    notes = []
    for path, rows in files.items():
        if not rows:
            continue
        player = rows[0]["player"]
        if player not in kept:
            kept[player] = (path, rows)
            continue
        before, others = kept[player]
        shorter, longer = sorted((others, rows), key=len)
        if longer[: len(shorter)] != shorter:
            raise BenchError(
                f"{before} and {path} have different answers of player {player}: two people had one number. "
                "Leave one of the files out."
            )
        kept[player] = (path, longer)
        notes.append(f"Counted once: the answers of player {player}, which are in {before.name} and {path.name}.")
    return {player: rows for player, (_, rows) in kept.items()}, notes


def _failed(table: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """(player, why their answers don't count)."""
    for player in sorted(table["player"].unique().tolist()):
        rows = table[table["player"] == player]
        checks = rows[rows["kind"] == CHECK]
        right, needed = int(checks["correct"].sum()), int(rows["checks_needed"].iloc[0])
        if right < needed:
            stopped = f" and stopped after {len(rows)} pictures" if len(checks) < needed else ""
            yield player, f"who named {right} of {len(checks)} whole pictures correctly ({needed} are needed){stopped}"


RESAMPLES = 2000
FORMATS = (".csv", ".md")
NOTES = {
    "accuracy": 'Accuracy: the share of answers that name the class whose map is shown; "can\'t tell" counts as not '
    'naming it. Who always guesses between the two classes is right in 50 %, and less often with every "can\'t tell". '
    "Interval: of 95 %, Wilson's for as many independent answers as have the variance of the two-way cluster bootstrap "
    "of players and images, with Student's t.",
    "pairs": "Difference of the accuracies, with the 95 % interval and p of the same two-way cluster bootstrap "
    "(Student's t), and p adjusted by Holm over all pairs of this table. Bold: adjusted p below 0.05.",
}

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """accuracies: method, n, correct, cant_tell, accuracy, low, high, the best first. pairs: method, other, difference
    (accuracy of method - other), low, high, p, adjusted."""

    accuracies: pd.DataFrame
    pairs: pd.DataFrame


def report_score(paths: Sequence[Path], output: Path | None = None, seed: int = 0) -> list[str]:
    """The lines of the report of these files of answers. output: also written as FORMATS tell; of CSV a file for each
    table.

    Raises BenchError.
    """
    if output is not None and output.suffix not in FORMATS:
        raise BenchError(f"--output {output} ends with none of {', '.join(FORMATS)}, which tell its format.")
    files.check_output(output)
    if seed < 0:
        raise BenchError(f"--seed {seed}: give 0 or more.")
    read = read_answers(paths)
    result = score(read.table, seed)
    tables = _score_tables(result, dict(zip(read.table["method"], read.table["title"], strict=True)))
    lines = [f"{len(read.table):,} answers of {read.players} players, game {read.table['game'][0]}", *read.notes]
    contents: dict[Path, str] = {}
    if output is not None and output.suffix == ".csv":
        frames = {output: result.accuracies, output.with_stem(f"{output.stem}_pairs"): result.pairs}
        contents = {path: to_csv(frame) for path, frame in frames.items()}
    elif output is not None:
        contents = {output: "\n\n".join([*lines, *map(to_markdown, tables)])}
    for path, text in contents.items():
        files.write(path, text.encode())
    shown = [line for table in tables for line in ("", *to_text(table))]
    return [*lines, *shown, *([""] if contents else []), *(f"written: {path}" for path in contents)]


def score(table: pd.DataFrame, seed: int = 0) -> Score:
    """The score of answers with the columns player, image, method, correct and answer_index. seed: of the resamples."""
    marked = table.assign(cant_tell=table["answer_index"] == CANT_TELL)
    counted = marked.groupby("method").agg(
        n=("correct", "size"), correct=("correct", "sum"), cant_tell=("cant_tell", "sum")
    )
    counted = counted.reset_index().assign(accuracy=lambda rows: rows["correct"] / rows["n"])
    spread = Spread.of(table, counted, seed)
    accuracies = _with_intervals(counted, spread).sort_values("accuracy", ascending=False, kind="stable")
    return Score(accuracies.reset_index(drop=True), _pairs(accuracies, spread))


@dataclass(frozen=True)
class Spread:
    """Covariances of the methods' accuracies, each (M, M): if answers were independent, with players as clusters, and
    with images as clusters. degrees: of freedom of Student's t, the smaller number of clusters - 1; a single cluster
    tells nothing, so the other decides."""

    of_answers: Matrix
    by_player: Matrix
    by_image: Matrix
    degrees: int

    @classmethod
    def of(cls, table: pd.DataFrame, counted: pd.DataFrame, seed: int) -> Spread:
        methods, accuracy = counted["method"].tolist(), counted["accuracy"].to_numpy()
        by_player, by_image = (cluster_covariance(table, name, methods, seed) for name in ("player", "image"))
        clusters = [number for name in ("player", "image") if (number := table[name].nunique()) > 1]
        of_answers = np.diag(accuracy * (1 - accuracy) / counted["n"].to_numpy())
        return cls(of_answers, by_player, by_image, min(clusters, default=2) - 1)

    def variances(self, weights: Matrix) -> tuple[float, float]:
        """(the variance of the weighted sum of the accuracies, what it would be for independent answers)."""
        parts = (self.of_answers, self.by_player, self.by_image)
        independent, *clustered = (float(weights @ part @ weights) for part in parts)
        return joined(independent, *clustered), independent

    @property
    def reach(self) -> float:
        """So many standard errors on either side of a number are its interval."""
        from scipy.stats import t  # here, because it takes half a second to import

        return float(t.ppf(1 - LEVEL / 2, self.degrees))


def wilson(correct: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share, Journal of the American Statistical Association 22, 1927. n may be an
    effective number of answers, not whole."""
    share, square = correct / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def cluster_covariance(table: pd.DataFrame, cluster: str, methods: Sequence[str], seed: int) -> Matrix:
    """(M, M): covariances of the methods' accuracies when whole clusters are drawn with replacement.

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
    return np.atleast_2d(np.cov((draws @ correct)[complete] / totals[complete], rowvar=False)) * groups / (groups - 1)


def joined(of_answers: float, by_player: float, by_image: float) -> float:
    """The variance with players and images as clusters; where one of them is unknown, by the other."""
    finite = [value for value in (by_player, by_image) if math.isfinite(value)]
    both = [by_player + by_image - of_answers] if len(finite) == 2 else []
    return max([*finite, *both], default=of_answers)


def _with_intervals(counted: pd.DataFrame, spread: Spread) -> pd.DataFrame:
    """Wilson's intervals for n / design effect answers. The design effect is the variance over that of independent
    answers, 1 at least; a method that is always or never right has that of all methods together."""
    both = np.array([spread.variances(row) for row in np.eye(len(counted))])
    clustered, independent = np.maximum(both[:, 0], both[:, 1]), both[:, 1]
    pooled = clustered.sum() / independent.sum() if independent.sum() > 0 else 1.0
    effect = np.divide(clustered, independent, out=np.full(len(both), pooled), where=independent > 0)
    rows = zip(counted["correct"] / effect, counted["n"] / effect, strict=True)
    low, high = np.array([wilson(correct, n, spread.reach) for correct, n in rows]).T
    return counted.assign(low=low, high=high)


def _pairs(accuracies: pd.DataFrame, spread: Spread) -> pd.DataFrame:
    """All pairs. accuracies: the best first, with the index that the covariances have."""
    from scipy.stats import t  # here, because it takes half a second to import

    pairs = list(combinations(accuracies.index, 2))
    identity, accuracy, names = np.eye(len(accuracies)), accuracies["accuracy"], accuracies["method"]
    error = np.sqrt([spread.variances(identity[a] - identity[b])[0] for a, b in pairs])
    difference = np.array([accuracy[a] - accuracy[b] for a, b in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):  # without any spread, p is unknown
        p = np.where(error > 0, 2 * t.sf(np.abs(difference) / error, spread.degrees), np.nan)
    ends = {"low": difference - spread.reach * error, "high": difference + spread.reach * error}
    of_pairs = {"method": [names[a] for a, _ in pairs], "other": [names[b] for _, b in pairs]}
    return pd.DataFrame({**of_pairs, "difference": difference, **ends, "p": p, "adjusted": holm(p)})


def _score_tables(score: Score, titles: Mapping[str, str]) -> list[Table]:
    """As a reader sees them."""
    accuracies, pairs = [], []
    for entry in score.accuracies.to_dict("records"):
        accuracy, cant_tell = entry["accuracy"], entry["cant_tell"]
        about, cell = (Cell(titles[entry["method"]]), count(entry["n"])), numeric(accuracy, f"{accuracy:.2f}")
        unsure = numeric(cant_tell / entry["n"], share(cant_tell, entry["n"]))
        accuracies.append((*about, cell, _interval(entry), unsure))
    for entry in score.pairs.to_dict("records"):
        is_clear = entry["adjusted"] < LEVEL
        names = (Cell(titles[entry["method"]], is_clear), Cell(titles[entry["other"]]))
        difference = numeric(entry["difference"], f"{entry['difference']:+.2f}")
        tests = (numeric(entry["p"]), numeric(entry["adjusted"], bold=is_clear))
        pairs.append((*names, difference, _interval(entry), *tests))
    of_methods = ("Method", "n", "Accuracy", "Interval", "Can't tell")
    of_pairs = ("Method", "Compared with", "Difference", "Interval", "p", "p adjusted")
    return [
        Table("accuracy", "What people see", of_methods, (Group("", tuple(accuracies)),), (NOTES["accuracy"],)),
        Table("pairs", "Methods in pairs", of_pairs, (Group("", tuple(pairs)),), (NOTES["pairs"],), text_columns=2),
    ]


def _interval(entry: Mapping[Any, Any]) -> Cell:
    low, high = entry["low"], entry["high"]
    return Cell(f"{low:.2f} to {high:.2f}" if math.isfinite(low) and math.isfinite(high) else NOTHING)
