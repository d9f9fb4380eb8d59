"""Tests of damaged files in a run folder: each file has another kind of damage.

Readers refuse a damaged file, and the same command computes it again.
tests/fuzzing/run_folders.py tries every kind of damage at every byte.
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

from .conftest import RUN, tiny_overrides

EVERY_KIND = (
    "data.size=4",
    "metric=[zeta,max_box_acc,single_deletion]",
    "method=[grad_cam]",
    "model.weights=default",
    "runtime.repeats=1",
    "pictures.rows=1",
    "pictures.gallery=2",
    "data.only_correct=true",
    "shard_size=4",
)
Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_full_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("a user's")


def replace_by_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_brackets(path: Path) -> None:
    path.write_text("[" * 100_000)


DAMAGES: dict[str, Damage] = {
    "emptied": empty,
    "truncated": truncate,
    "flipped": flip_bit,
    "deleted": Path.unlink,
    "a folder": replace_by_folder,
    "a full folder": replace_by_full_folder,
    "a dangling link": replace_by_dangling_link,
    "a pipe": replace_by_pipe,
    "unreadable text": replace_by_brackets,
}


def run_command(results: Path) -> tuple[Path, tuple[str, ...]]:
    """Run the command without its report; return the run folder and the printed lines."""
    settings, outcomes = run_jobs([*tiny_overrides(EVERY_KIND), f"results={results}"])
    (outcome,) = outcomes
    assert outcome.failure is None
    keep(settings, outcomes)
    return results / RUN, outcome.lines


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> dict[str, bytes]:
    """The content of each file of a finished run."""
    folder, _ = run_command(tmp_path_factory.mktemp("original"))
    contents = {}
    for path in folder.rglob("[!.]*"):
        if path.is_file():
            contents[path.relative_to(folder).as_posix()] = path.read_bytes()
    return contents


@pytest.fixture
def folder(original, results) -> Path:
    """A copy of the finished run."""
    for name, content in original.items():
        path = results / RUN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return results / RUN


def values(folder: Path) -> list[pd.DataFrame]:
    """Return all numbers that a run folder's readers see, except measured seconds."""
    manifest = reading.read_manifest(folder)
    curves = [part.table.to_pandas() for part in reading.read_curves(folder, manifest)]
    runtime = reading.read_runtime(folder, manifest)
    tables = [
        reading.read_records(folder, manifest),
        pd.concat(curves),
        reading.read_whole_set(folder, manifest),
        pd.DataFrame(store.read_gallery(folder, manifest)),
        runtime[["model", "layer", "data", "method", "step", "batch_size"]],
    ]
    for name in manifest.pictures:
        arrays = store.read_arrays(folder / name).values()
        tables += [pd.DataFrame({"x": [array.tobytes()]}) for array in arrays]
    return tables


def are_equal(first: list[pd.DataFrame], second: list[pd.DataFrame]) -> bool:
    if len(first) != len(second):
        return False
    return all(table.equals(other) for table, other in zip(first, second, strict=True))


def damage_by_file(names: Iterable[str]) -> dict[str, str]:
    """Return the damage of each file; the next file has the next one of DAMAGES."""
    return dict(zip(sorted(names), cycle(DAMAGES), strict=False))


@pytest.mark.slow
def test_the_run_has_every_kind_of_file(original):
    kinds = (
        "answers curves examination gallery manifest.json pictures predictions records runtime "
        "whole_set"
    )
    assert sorted({name.partition("/")[0] for name in original}) == kinds.split()


@pytest.mark.slow
def test_the_same_command_computes_what_is_damaged_again(folder, results, original):
    before = values(folder)
    num_damaged = 0
    damages = damage_by_file(original)
    for name, damage in damages.items():
        DAMAGES[damage](folder / name)
        # If a file of records is deleted, nothing knows about its curves.
        damage_of_records = damages.get(name.replace("curves", "records"))
        is_deleted = "deleted" in (damage, damage_of_records)
        num_damaged += not is_deleted and not name.startswith("manifest")

    _, lines = run_command(results)
    (line,) = [line for line in lines if "damaged" in line]
    assert line.startswith(f"{num_damaged} damaged files are replaced: ")
    assert are_equal(values(folder), before)

    _, lines = run_command(results)
    # The first command left no damage that it or a person must fix.
    assert not any("damaged" in line for line in lines)
    user_files = list(folder.rglob("mine.txt"))  # a folder that isn't ours is moved out of the way
    assert all(".set-aside-" in path.parent.name for path in user_files)
    assert len(user_files) == list(damages.values()).count("a full folder")


@pytest.mark.slow
def test_readers_refuse_every_damaged_file(folder, original):
    for name, file_damage in damage_by_file(original).items():
        # Only the command itself reads these files.
        if name.startswith(("answers", "predictions", "examination")):
            continue
        path = folder / name
        for damage in {file_damage, "flipped"}:
            DAMAGES[damage](path)
            # report, gate and game read a run folder in this way.
            with pytest.raises(BenchError) as error:
                values(RunFolder.read(folder).path)
            message = str(error.value)
            assert str(folder) in message
            assert "run the same command again" in message or "is no run folder" in message
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(original[name])
    assert len(values(folder)) > 5


@pytest.mark.slow
def test_an_intact_file_in_the_place_of_another_is_noticed(folder, original):
    """Check files that a link or a user's mistake puts there."""

    def first_file(kind: str) -> str:
        return min(name for name in original if name.startswith(kind))

    gallery = folder / first_file("gallery")
    store.write(gallery, store.read_table(gallery).slice(1), schema=None)
    curves = folder / first_file("curves")
    curves.unlink()
    curves.symlink_to(folder / first_file("records"))
    with pytest.raises(files.Damaged, match="checksum doesn't match"):
        list(store.read_gallery(folder, reading.read_manifest(folder)))
    assert record_files.read(folder).damaged == (first_file("curves"),)
