"""Every file of a run folder, each damaged in another way: readers refuse it, and the same command
computes it again.

Every way at every byte: tests/fuzzing/run_folders.py.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.errors import BenchError
from axiom_bench.records import files, reading, record_files, store
from axiom_bench.run.manifest import keep
from axiom_bench.statistics.run_folder import RunFolder

from .conftest import RUN, tiny

EVERY_KIND = (
    "data.size=4", "metric=[zeta,max_box_acc,single_deletion]", "method=[grad_cam]", "model.weights=default",
    "runtime.repeats=1", "pictures.rows=1", "pictures.gallery=2", "data.only_correct=true", "shard_size=4",
)  # fmt: skip
Damage = Callable[[Path], object]


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Damage] = {
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flipped,
    "deleted": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a full folder": lambda path: (
        path.unlink(),
        path.mkdir(),
        (path / "mine.txt").write_text("a user's"),
    ),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "unreadable text": lambda path: path.write_text("[" * 100_000),
}


def run_again(results: Path) -> tuple[Path, list[str]]:
    """The run folder, and the lines of a command without its report."""
    settings, outcomes = run_jobs([*tiny(EVERY_KIND), f"results={results}"])
    assert [outcome.failure for outcome in outcomes] == [None]
    keep(settings, outcomes)
    return results / "quick/default", [note for outcome in outcomes for note in outcome.lines]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> dict[str, bytes]:
    """{file: content} of a finished run."""
    folder, _ = run_again(tmp_path_factory.mktemp("original"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


@pytest.fixture
def folder(original, results) -> Path:
    """A copy of the finished run."""
    for name, content in original.items():
        path = results / RUN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return results / RUN


def values(folder: Path) -> list[pd.DataFrame]:
    """All numbers that a run folder's readers see, but for measured seconds."""
    manifest = reading.read_manifest(folder)
    runtime = reading.read_runtime(folder, manifest)[
        ["model", "layer", "data", "method", "step", "batch_size"]
    ]
    return [
        reading.read_records(folder, manifest),
        pd.concat([part.table.to_pandas() for part in reading.read_curves(folder, manifest)]),
        reading.read_whole_set(folder, manifest),
        pd.DataFrame(store.read_gallery(folder, manifest)),
        runtime,
        *(pd.DataFrame({"x": [each.tobytes()]}) for name in manifest.pictures
          for each in store.read_arrays(folder / name).values()),
    ]  # fmt: skip


def same(first: list[pd.DataFrame], second: list[pd.DataFrame]) -> bool:
    return len(first) == len(second) and all(
        a.equals(b) for a, b in zip(first, second, strict=True)
    )


def damages_of(names: Iterable[str]) -> dict[str, str]:
    """{file: its damage}, each the next one of DAMAGES."""
    return dict(zip(sorted(names), cycle(DAMAGES), strict=False))


def test_the_run_has_every_kind_of_file(original):
    kinds = (
        "answers curves examination gallery manifest.json pictures predictions records runtime "
        "whole_set"
    )
    assert sorted({name.partition("/")[0] for name in original}) == kinds.split()


def test_the_same_command_computes_what_is_damaged_again(folder, results, original):
    before = values(folder)
    counted = 0
    damaged = damages_of(original)
    for name, kind in damaged.items():
        DAMAGES[kind](folder / name)
        # without which nothing knows of its curves
        record = damaged.get(name.replace("curves", "records"))
        counted += "deleted" not in (kind, record) and not name.startswith("manifest")
    _, lines = run_again(results)
    (line,) = [line for line in lines if "damaged" in line]
    assert line.startswith(f"{counted} damaged files are written anew: ")
    assert same(values(folder), before)
    _, lines = run_again(results)
    # nothing is left to mend, or to be deleted by hand
    assert not [line for line in lines if "damaged" in line]
    kept = list(folder.rglob("mine.txt"))  # a folder that isn't ours is moved out of the way
    assert all(".set-aside-" in path.parent.name for path in kept)
    assert len(kept) == list(damaged.values()).count("a full folder")


def test_readers_refuse_every_damaged_file(folder, original):
    for name, kind in damages_of(original).items():
        # which only the command itself reads
        if name.startswith(("answers", "predictions", "examination")):
            continue
        path = folder / name
        for damage in {kind, "flipped"}:
            DAMAGES[damage](path)
            with pytest.raises(BenchError) as caught:  # as report and gate read it, and game
                values(RunFolder.read(folder).path)
            assert str(folder) in str(caught.value)
            assert "run the same command again" in str(caught.value) or "is no run folder" in str(
                caught.value
            )
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(original[name])
    assert len(values(folder)) > 5


def test_an_intact_file_in_the_place_of_another_is_noticed(folder, original):
    """As a link, or a slip of a hand, puts it there."""
    of = {
        kind: sorted(name for name in original if name.startswith(kind))
        for kind in ("records", "gallery", "curves")
    }
    store.write(
        folder / of["gallery"][0], store.read_table(folder / of["gallery"][0]).slice(1), schema=None
    )
    (folder / of["curves"][0]).unlink()
    (folder / of["curves"][0]).symlink_to(folder / of["records"][0])
    with pytest.raises(files.Damaged, match="checksum doesn't match"):
        list(store.read_gallery(folder, reading.read_manifest(folder)))
    assert record_files.read(folder).damaged == (of["curves"][0],)
