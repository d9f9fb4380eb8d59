"""A finished run folder with one file damaged, gone, or something else in its place: readers refuse it or read the same
values, and what the same command would take as computed is what was computed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

from axiom_bench.records import files, holdings, store

from .. import made_run
from ..case import Case, Kind
from ..damage import damaged


def attempt(case: Case) -> None:
    made_run.write(case.folder)
    name = case.random.choice(sorted(made_run.files()))
    if case.random.random() < 0.15:
        what = _beside(case.folder, name, case.random)
    elif case.random.random() < 0.4:
        what, content = damaged((case.folder / name).read_bytes(), case.random)
        (case.folder / name).write_bytes(content)
    else:
        what = case.random.choice(sorted(REPLACED))
        REPLACED[what](case.folder / name, case.random)
    case.say(f"{name}: {what}")
    _check_held(case.folder)
    made_run.check_read(case.folder, deep=False)


def _beside(folder: Path, name: str, random: Random) -> str:
    """A file that no manifest lists; it counts for nothing."""
    others = ("records/old.parquet", f"records/{'c' * 32}-00000000.parquet", f"{name}.tmp", "notes.txt", "running")
    other = random.choice(others)
    (folder / other).write_bytes(damaged(made_run.files()[name], random)[1])
    return f"damaged, as {other}"


def _check_held(folder: Path) -> None:
    """Of every shard nothing is missing, with the rows that were written, or all is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", files.DamagedFile)
        held = holdings.read(folder)
    for shard in made_run.SHARDS:
        missing = held.missing(shard, made_run.VALUES)
        assert missing in ({}, made_run.VALUES), f"of {shard} a part is missing: {missing}"
        for file in held.needed(shard, made_run.VALUES):
            assert _rows(folder / file.name) == _rows_written()[file.name], f"other rows in {file.name}"


def _rows(path: Path) -> list[dict[str, object]]:
    return store.read_table(path).to_pylist()


def _rows_written() -> dict[str, list[dict[str, object]]]:
    return {
        name: store.parse(Path(name), content).to_pylist()
        for name, content in made_run.files().items()
        if name.startswith("records/")
    }


def _deleted(path: Path, random: Random) -> None:
    path.unlink()


def _folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()
    if random.random() < 0.5:
        (path / "mine.txt").write_text("mine")


def _pipe(path: Path, random: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, random: Random) -> None:
    """To nothing, to itself, to a device, or to another file of the run."""
    others = [other for other in path.parent.iterdir() if other != path and other.is_file()]
    target = random.choice([Path("nowhere"), Path(path.name), Path(os.devnull), Path("/dev/zero"), *others])
    path.unlink()
    path.symlink_to(target)


def _another(path: Path, random: Random) -> None:
    """The content of another file of the run."""
    others = sorted(set(made_run.files().values()) - {path.read_bytes()})
    path.write_bytes(random.choice(others))


REPLACED: dict[str, Callable[[Path, Random], None]] = {
    "deleted": _deleted,
    "a folder in its place": _folder,
    "a pipe in its place": _pipe,
    "a link in its place": _link,
    "another file in its place": _another,
}
KIND = Kind(attempt, share=70)
