"""Data by URL: the files that a URL names, when each is fetched, and errors.

The store is fsspec's memory, or a server.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from axiom_bench.cli import trust
from axiom_bench.data.formats import urls
from axiom_bench.data.formats.files import files_named
from axiom_bench.data.layouts.classes import class_list
from axiom_bench.errors import BenchError
from axiom_bench.run.composing.settings import Settings, check_urls
from axiom_bench.run.spine import configuration
from tests.faults.runs import Run, wait_until, write_line

URL = "memory://bucket/val"
NAMES = ("a-08.tar", "a-09.tar", "a-10.tar", "b/c.tar", "notes.txt", "classes.txt")


@pytest.fixture
def local(tmp_path, memory_store) -> Path:
    """The same files in a folder and in the store."""
    for name in NAMES:
        path = tmp_path / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode())
        put(name, path.read_bytes())
    return tmp_path / "local"


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The names of the objects that are fetched, one for each fetch."""
    names: list[str] = []
    get_file = MemoryFileSystem.get_file

    def get(self: object, path: str, *more: object, **options: object) -> None:
        names.append(path.rpartition("/")[2])
        get_file(self, path, *more, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get)
    return names


@pytest.fixture
def server(local, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    """A web server of the same files."""
    pytest.importorskip("aiohttp", reason="the extra https isn't installed")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(local))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def put(name: str, content: bytes) -> None:
    MemoryFileSystem().pipe_file(f"/bucket/val/{name}", content)


def contents(paths: str | list[str], suffix: str = ".tar") -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_named(paths, suffix).items()}


PATTERNS = (
    "{}",
    "{}/",
    "{}/a-09.tar",
    "{}/a-{{08..10}}.tar",
    "{}/a-*.tar",
    "{}/a-{{0,1}}[0-8].tar",
    "{}/?/*.tar",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_names_and_bytes_are_those_of_the_same_files_in_a_folder(local, pattern):
    expected = contents(pattern.format(local))
    assert list(contents(pattern.format(URL)).items()) == list(expected.items())


def test_a_list_may_name_both_and_classes_are_a_file(local):
    assert list(contents([f"{URL}/a-08.tar", f"{local}/b"])) == ["a-08", "c"]
    put("classes.txt", b"n01 tench\nn02 shark")
    assert class_list(f"{URL}/classes.txt") == {"n01": "tench", "n02": "shark"}
    several = r"data\.classes=memory:.* names 6 files; give the URL of one file"
    with pytest.raises(BenchError, match=several):
        class_list(URL)
    same_name = r"names two files 'a-08', .*local/a-08\.tar and .*/memory/"
    with pytest.raises(BenchError, match=same_name):
        contents([f"{local}/a-08.tar", f"{URL}/a-08.tar"])


def test_a_file_is_fetched_once_and_again_when_it_has_changed(local, fetched, capsys):
    contents(URL)
    assert "fetching memory://bucket/val: 4 files, 0.0 MB, to " in capsys.readouterr().err
    assert contents(f"{URL}/*.tar").items() <= contents(URL).items()
    assert sorted(fetched) == ["a-08.tar", "a-09.tar", "a-10.tar", "c.tar"]
    assert capsys.readouterr().err == ""
    put("a-09.tar", b"content of a-99.tar")  # the same number of bytes
    assert contents(URL)["a-09"] == b"content of a-99.tar"
    assert fetched[4:] == ["a-09.tar"]


def lose_connection(monkeypatch) -> None:
    for name in ("info", "find", "glob", "get_file"):
        monkeypatch.setattr(MemoryFileSystem, name, Mock(side_effect=ConnectionError("reset")))


def test_copies_work_offline_and_say_so(local, monkeypatch, capsys):
    before = contents(URL)
    contents(f"{URL}/a-08.tar")
    capsys.readouterr()
    lose_connection(monkeypatch)
    assert contents(URL) == before
    line = "axiom-bench: the copies of memory://bucket/val in "
    assert capsys.readouterr().err.startswith(line)

    message = r"Can't use memory://bucket/val/a-09\.tar .*: it can't be reached; check the"
    with pytest.raises(BenchError, match=message):
        contents(f"{URL}/a-09.tar")  # this URL was never used before


@pytest.mark.slow
def test_a_web_server_s_files_are_fetched_again_when_they_change_and_work_offline(
    server, local, capsys
):
    url = f"http://127.0.0.1:{server.server_address[1]}/a-{{08..10}}.tar"
    expected = contents(f"{local}/a-{{08..10}}.tar")
    assert contents(url) == expected
    (local / "a-09.tar").write_bytes(b"another content")
    os.utime(local / "a-09.tar", (0, 0))
    expected["a-09"] = b"another content"
    assert contents(url) == contents(f"{url}?download=true") == expected
    server.shutdown()
    server.server_close()
    capsys.readouterr()
    assert contents(url) == expected
    assert "it can't be reached" in capsys.readouterr().err


def forked(work: Callable[[], object], output: Path) -> Run:
    """Start a process that does this work, and ends with 0 if it succeeds."""
    pid = os.fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            work()
        finally:
            os._exit(int(sys.exc_info()[0] is not None))
    return Run(pid, output, output)


@pytest.mark.slow
def test_two_processes_fetch_a_file_once_and_after_a_kill_the_next_command_does(
    local, tmp_path, monkeypatch
):
    log = tmp_path / "log"
    go = tmp_path / "go"
    log.touch()
    get_file = MemoryFileSystem.get_file

    def get(self: object, path: str, copy: str, **options: object) -> None:
        Path(copy).write_bytes(b"half of")
        write_line(log, "begun")
        wait_until(go.exists)
        get_file(self, path, copy, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get)

    def fetch() -> None:
        assert contents(f"{URL}/a-08.tar") == {"a-08": b"content of a-08.tar"}

    killed = forked(fetch, tmp_path / "killed")
    wait_until(lambda: "begun" in log.read_text(), killed)
    killed.kill()

    first = forked(fetch, tmp_path / "first")
    wait_until(lambda: log.read_text().count("begun") == 2, first)
    second = forked(fetch, tmp_path / "second")
    go.touch()
    assert first.wait() == second.wait() == 0
    assert log.read_text().count("begun") == 2


def lose_each_fetch(patch) -> None:
    patch.setattr(MemoryFileSystem, "get_file", Mock(side_effect=ConnectionError("reset")))


def fill_the_disk(patch) -> None:
    patch.setattr(MemoryFileSystem, "get_file", Mock(side_effect=OSError(28, "No space left")))


def leave_ten_free_bytes(patch) -> None:
    patch.setattr(urls, "free_bytes", lambda folder: 10)


FAULTS = {
    "lost": (
        lose_each_fetch,
        r"Can't use memory://.*a-08\.tar \(copies are kept in .*\): it can't be reached; "
        r"check the network",
    ),
    "full": (fill_the_disk, r"Can't use memory://.*: \[Errno 28\] No space left"),
    "too small": (
        leave_ten_free_bytes,
        r"has 1 file, 0\.0 MB, but only 0\.0 MB are free in .*; free some space, or choose "
        r"another folder with AXIOM_BENCH",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_befalls_a_fetch_is_a_sentence_and_the_next_command_fetches(local, monkeypatch, fault):
    cause_fault, sentence = FAULTS[fault]
    with monkeypatch.context() as patch:
        cause_fault(patch)
        with pytest.raises(BenchError, match=sentence) as caught:
            contents(f"{URL}/a-08.tar")
    assert "\n" not in str(caught.value)
    assert contents(f"{URL}/a-08.tar") == {"a-08": b"content of a-08.tar"}


STORE = "s3://bucket"


def name_no_such_files() -> None:
    contents(URL, ".parquet")


def name_a_root() -> None:
    overrides = ["data=folder", f"data.root={STORE}/val", f"data.classes={STORE}/classes.txt"]
    Settings.of(configuration(overrides))


def name_a_cache() -> None:
    check_urls({"of": {"path": f"{STORE}/val", "cache": f"{STORE}/cache"}})


def continue_a_stranger_s_run() -> None:
    data = {"kind": "mosaic", "of": {"path": ["x", f"{STORE}/val"]}}
    trust.trusted_settings({"model": {}, "method": {}, "metric": {}, "data": data}, False)


NOT_FOUND = {
    "memory://absent/val": (
        r"Can't use memory://absent/val .*: there is no such file; correct the URL"
    ),
    f"{URL}/a-{{08..11}}.tar": "there is no such file",
    f"{URL}/x*.tar": "there is no such file",
    "nosuch://bucket/val": "Can't use nosuch://bucket/val .*: Protocol not known: nosuch",
    "gs://bucket/val": (
        "gs://bucket/val needs a package that isn't installed: Please install gcsfs"
    ),
    f"{STORE}/val": (
        r"s3://bucket/val needs a package that isn't installed: pip install '\.\[s3\]' in"
    ),
}
REFUSED = {
    **{url: (functools.partial(contents, url), sentence) for url, sentence in NOT_FOUND.items()},
    "no such files": (
        name_no_such_files,
        r"no file whose name ends in \.parquet below memory://bucket/val;",
    ),
    "a root": (
        name_a_root,
        r"^data\.root=s3://bucket/val must be on this machine, or mounted: only data",
    ),
    "a cache": (
        name_a_cache,
        r"^data\.of\.cache=s3://bucket/cache must be on this machine",
    ),
    "a stranger's run": (
        continue_a_stranger_s_run,
        r"names data by URL, .*: data\.of\.path=s3://bucket/val\. Add --trust",
    ),
}


@pytest.mark.parametrize(("use", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_found_or_used_is_a_sentence(local, monkeypatch, use, sentence):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(BenchError, match=sentence) as caught:
        use()
    assert "\n" not in str(caught.value)
