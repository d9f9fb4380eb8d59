"""Data in a store: which files an URL names, that each is fetched once, and errors. The store is fsspec's memory."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from axiom_bench.cli import trust
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.formats.files import files_named
from axiom_bench.errors import BenchError
from axiom_bench.run import fetching
from axiom_bench.run.composing import settings
from axiom_bench.run.spine import configuration
from tests.faults.runs import Run, wait_until, write_line

URL = "memory://bucket/val"
NAMES = ("a-08.tar", "a-09.tar", "a-10.tar", "b/c.tar", "notes.txt", "classes.txt")


@pytest.fixture(autouse=True)
def cache(memory_store) -> Path:
    return memory_store / "data"


@pytest.fixture
def local(tmp_path) -> Path:
    """The same files in a folder and in the store."""
    for name in NAMES:
        path = tmp_path / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode())
        put(name, path.read_bytes())
    return tmp_path / "local"


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The objects that are read, as often as they are."""
    names: list[str] = []
    of_store = MemoryFileSystem.open

    def read(self: object, path: str, mode: str = "rb", **options: object) -> object:
        if mode == "rb":
            names.append(path)
        return of_store(self, path, mode, **options)

    monkeypatch.setattr(MemoryFileSystem, "open", read)
    return names


def put(name: str, content: bytes) -> None:
    MemoryFileSystem().pipe_file(f"/bucket/val/{name}", content)


def here(path: str | list[str], kind: str = "webdataset") -> dict[str, Path]:
    return {name: Path(file) for name, file in fetching.here({"kind": kind, "path": path})["path"].items()}


PATTERNS = ("{}", "{}/", "{}/a-09.tar", "{}/a-{{08..10}}.tar", "{}/a-*.tar", "{}/a-{{0,1}}[0-8].tar", "{}/?/*.tar")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_names_and_bytes_are_those_of_the_same_files_in_a_folder(local, pattern):
    found = here(pattern.format(URL))
    expected = files_named(pattern.format(local), ".tar")
    assert list(found) == list(expected)
    assert [path.read_bytes() for path in found.values()] == [path.read_bytes() for path in expected.values()]


def test_a_list_may_name_both_and_classes_are_a_file(local):
    files = here([f"{URL}/a-08.tar", f"file://{local}/a-09.tar", f"{local}/b"])
    contents = {"a-08": "a-08.tar", "a-09": "a-09.tar", "c": "b/c.tar"}
    assert {name: path.read_text() for name, path in files.items()} == {
        name: f"content of {file}" for name, file in contents.items()
    }
    of = {"kind": "webdataset", "path": f"file://{local}", "classes": f"{URL}/classes.txt"}
    config = fetching.here({"kind": "mosaic", "of": of})["of"]
    assert config["path"] == str(local)
    assert Path(config["classes"]).read_bytes() == b"content of classes.txt"
    sentence = r"names two files 'a-08', .*local/a-08\.tar and memory:///?bucket/val/a-08\.tar"
    with pytest.raises(BenchError, match=sentence):
        here([f"{local}/a-08.tar", f"{URL}/a-08.tar"])


def test_a_file_is_fetched_once_and_again_when_it_has_changed(local, opened, capsys):
    before = here(URL)
    assert "fetching data: 4 files, 0.0 MB, to " in capsys.readouterr().out
    assert here(URL) == here(f"{URL}/*.tar") | {"b/c": before["b/c"]} == before
    assert len(opened) == 4
    assert capsys.readouterr().out == ""
    put("a-09.tar", b"content of a-99.tar")  # as many bytes
    after = here(URL)
    assert "1 file, 0.0 MB (1 changed since it was fetched before)" in capsys.readouterr().out
    assert [after[name].read_bytes() for name in ("a-08", "a-09")] == [b"content of a-08.tar", b"content of a-99.tar"]
    assert before["a-09"].read_bytes() == b"content of a-09.tar"  # another command may read it
    after["a-09"].write_bytes(b"cut")
    assert here(URL)["a-09"].read_bytes() == b"content of a-99.tar"


def forked(work: Callable[[], object], said: Path) -> Run:
    """A process that does this and ends with 0."""
    pid = os.fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            work()
        finally:
            os._exit(int(sys.exc_info()[0] is not None))
    return Run(pid, said, said)


@pytest.fixture
def held(tmp_path, monkeypatch) -> Callable[[], str]:
    """Reading waits for a file called go, and is told to a log, as is waiting for another process: what it says."""
    log, go, of_store = tmp_path / "log", tmp_path / "go", MemoryFileSystem.open

    def read(self: object, path: str, *more: object, **all: object) -> object:
        write_line(log, "open")
        wait_until(go.exists)
        return of_store(self, path)

    monkeypatch.setattr(MemoryFileSystem, "open", read)
    monkeypatch.setattr(fetching, "LOOK", 0.01)
    monkeypatch.setattr(fetching.Shown, "says", lambda self, title: write_line(log, title))
    return lambda: log.read_text() if log.exists() else ""


@pytest.mark.slow
def test_two_processes_fetch_a_file_once_and_after_a_kill_the_next_command_does(local, held, tmp_path, cache):
    def fetched() -> bytes:
        return here(f"{URL}/a-08.tar")["a-08"].read_bytes()

    killed = forked(fetched, tmp_path / "killed")
    wait_until(lambda: "open" in held(), killed)
    killed.kill()
    assert (len(list(cache.rglob(".*draft"))), list(cache.rglob("*.tar"))) == (1, [])
    first = forked(fetched, tmp_path / "first")
    wait_until(lambda: held().count("open") == 2, first)
    second = forked(fetched, tmp_path / "second")
    wait_until(lambda: "waiting for another process" in held(), second)
    (tmp_path / "go").touch()
    assert first.wait() == second.wait() == 0
    assert fetched() == b"content of a-08.tar"
    assert held().count("open") == 2
    assert not list(cache.rglob(".*draft"))


def change(monkeypatch) -> None:
    of_store = MemoryFileSystem.open

    def read(self: object, path: str, *_: object, **__: object) -> object:
        of_store(self, path, "wb", data=b"others")
        return of_store(self, path)

    monkeypatch.setattr(MemoryFileSystem, "open", read)


FAULTS = {
    "lost": (
        lambda patch: patch.setattr(MemoryFileSystem, "open", Mock(side_effect=ConnectionError("reset"))),
        "Can't use memory://.*a-08.tar: it can't be reached; check the network .* Files that are here",
    ),
    "changed": (change, "a-08.tar was changed while it was fetched; give the command again when nothing writes there"),
    "full": (
        lambda patch: patch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device"))),
        "Can't keep memory://.*: the disk is full; free some space, or name another folder by AXIOM_BENCH",
    ),
    "too small": (
        lambda patch: patch.setattr(fetching, "free_bytes", lambda folder: 10),
        r"The data takes 1 file, 0\.0 MB, and 0\.0 MB are free in .*/data, where it is kept: free some space",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_befalls_a_fetch_is_a_sentence_and_leaves_nothing_half(local, cache, monkeypatch, fault):
    befall, sentence = FAULTS[fault]
    with monkeypatch.context() as patched:
        befall(patched)
        with pytest.raises(BenchError, match=sentence) as caught:
            here(f"{URL}/a-08.tar")
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file() and not path.name.endswith("lock")]
    assert here(f"{URL}/a-08.tar")["a-08"].stat().st_size > 0


STORE = "s3://bucket"
NOT_FOUND = {
    "memory://absent/val": "There is nothing at memory://absent/val; correct the bucket or the path",
    f"{URL}/a-{{08..11}}.tar": "There is nothing at memory://bucket/val/a-11.tar",
    f"{URL}/x*.tar": r"There is nothing at memory://bucket/val/x\*.tar",
    f"{URL}/b/../..": "There is no",
    "nosuch://bucket/val": "Can't use nosuch://bucket: Protocol not known: nosuch",
    "gs://bucket/val": "gs://bucket needs a package that isn't installed: Please install gcsfs",
    "simplecache::s3://bucket/val": "is no place in a store; write PROTOCOL://BUCKET/FOLDER",
}
OTHER_GROUPS: dict[str, dict] = {"model": {}, "method": {}, "metric": {}}
REFUSED = {
    **{url: (lambda url=url: here(url), sentence) for url, sentence in NOT_FOUND.items()},
    "no such files": (lambda: here(URL, "parquet"), r"no file whose name ends in \.parquet below memory://bucket/val;"),
    "a folder of classes": (
        lambda: fetching.here({"kind": "folder", "classes": URL}), "memory://bucket/val is a folder; give a file",
    ),
    "a root": (
        lambda: settings.check(
            configuration(["data=folder", f"data.root={STORE}/val", f"data.classes={STORE}/classes.txt"])
        ),
        r"^data\.root=s3://bucket/val must be on this machine, or mounted: only data",
    ),
    "a cache": (
        lambda: fetching.check({"of": {"path": f"{STORE}/val", "cache": f"{STORE}/cache"}}),
        r"^data\.of\.cache=s3://bucket/cache must be on this machine",
    ),
    "a stranger's run": (
        lambda: trust.check_config(
            {**OTHER_GROUPS, "data": {"kind": "mosaic", "of": {"path": ["x", f"{STORE}/val"]}}}, False
        ),
        r"data in a store, .*: data\.of\.path=s3://bucket/val\. Add --trust",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_found_or_used_is_a_sentence(local, monkeypatch, asked, sentence):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(BenchError, match=sentence) as caught:
        asked()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_values_and_keys_of_a_run_are_those_of_local_files(run, rows, results, tmp_path):
    path = tmp_path / "parquet/val/0.parquet"
    path.parent.mkdir(parents=True)
    contents = []
    for index in range(3):
        Scenes(size=3).read(index).image.save(tmp_path / "scene.png")
        contents.append((tmp_path / "scene.png").read_bytes())
    pq.write_table(pa.table({"image": pa.array(contents), "label": [1, 2, 3]}), path)
    put("0.parquet", path.read_bytes())
    expected = rows(run("data=parquet", "data.size=3", f"data.path={path.parent}", "data.target=predicted"))
    files = {file.name for file in results.rglob("records/*.parquet")}
    outcomes = run("data=parquet", "data.size=3", f"data.path={URL}", "data.target=predicted")
    assert outcomes[0].shards_computed == 0  # the keys are the same
    assert files == {file.name for file in results.rglob("records/*.parquet")}
    pd.testing.assert_frame_equal(rows(outcomes), expected, check_exact=True)
