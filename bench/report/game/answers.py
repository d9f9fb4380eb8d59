"""The answers of a game as its players saved them: read, checked, and without the players who failed the checks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError

FORMAT = 1
SHARED = ("game", "model", "layer", "data", "weights", "share", "checks_needed", "player")  # the same in a file
OWN = (
    "trial", "kind", "image", "method", "title", "class_index", "class", "answer_index", "answer", "correct",
    "milliseconds",
)  # fmt: skip
NUMBERS = ("checks_needed", "player", "trial", "class_index", "answer_index", "correct", "milliseconds")
PART, CHECK = "part", "check"
CANT_TELL = -1  # the answer_index of "can't tell"

Rows = list[tuple[str, ...]]  # the columns SHARED and OWN, as text


@dataclass(frozen=True)
class Answers:
    """table: the answers about parts of pictures, columns SHARED and OWN, of the players who count.
    players: how many they are. notes: sentences about who and what doesn't count."""

    table: pd.DataFrame
    players: int
    notes: tuple[str, ...]


def read(paths: Sequence[Path]) -> Answers:
    """The answers in these files, and in those of these folders.

    The same answers twice, as in a file saved again later, count once. Raises BenchError, naming the file, for
    one that can't be read or was changed after it was saved, for answers of several games, and for two players with
    one number.
    """
    files = {path: _rows(path) for path in _files(paths)}
    _check_one_game(files)
    by_player, notes = _each_player_once(files)
    columns = [*SHARED, *OWN]
    table = pd.DataFrame([row for rows in by_player.values() for row in rows], columns=columns)
    table = table.astype(dict.fromkeys(NUMBERS, int))
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
    """The rows of a file as text. Raises BenchError."""
    try:
        rows, checksum = _of_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path} isn't a file of answers that this version's game saved.") from error
    if checksum != checksum_of(rows):
        raise BenchError(
            f"{path} was changed after the game saved it: its checksum doesn't fit. Ask the player for the file as it "
            "was saved, or leave it out."
        )
    return rows


def checksum_of(rows: Iterable[Sequence[str]]) -> str:
    """CRC-32 over the rows, as the page computes it. It finds what was changed by mistake; it can't find fraud."""
    text = "\x1e".join("\x1f".join(row) for row in rows)
    return f"{zlib.crc32(text.encode()):08x}"


def _of_json(content: Mapping[str, Any]) -> tuple[Rows, str]:
    if content["format"] != FORMAT:
        raise ValueError(content["format"])
    shared = [str(content[name]) for name in SHARED]
    return [(*shared, *(str(row[name]) for name in OWN)) for row in content["answers"]], str(content["checksum"])


def _check_one_game(files: Mapping[Path, Rows]) -> None:
    of_game: dict[str, list[Path]] = {}
    for path, rows in files.items():
        for game in {row[0] for row in rows}:
            of_game.setdefault(game, []).append(path)
    if not of_game:
        raise BenchError("The files hold no answers: their players stopped before the first one.")
    if len(of_game) > 1:
        listed = "; ".join(f"{game} in {len(paths)}, such as {paths[0]}" for game, paths in of_game.items())
        raise BenchError(f"The answers are of {len(of_game)} games, which can't be scored together: {listed}.")


def _each_player_once(files: Mapping[Path, Rows]) -> tuple[dict[str, Rows], list[str]]:
    """({player: rows}, sentences about files that repeat another's answers). Raises BenchError."""
    place = SHARED.index("player")
    kept: dict[str, tuple[Path, Rows]] = {}
    notes = []
    for path, rows in files.items():
        for player in dict.fromkeys(row[place] for row in rows):
            own = [row for row in rows if row[place] == player]
            if player not in kept:
                kept[player] = (path, own)
                continue
            before, others = kept[player]
            shorter, longer = sorted((others, own), key=len)
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
