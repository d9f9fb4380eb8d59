"""The answers of a game as its players saved them: read, checked, and without the players who failed the checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError

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


def read(paths: Sequence[Path]) -> Answers:
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
