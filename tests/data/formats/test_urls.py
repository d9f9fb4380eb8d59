"""Data by URL: which files a URL names, when each is fetched, and errors. The store is fsspec's
memory, or a server.
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
    """The objects that are fetched, as often as they are."""
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
    with pytest.raises(
        BenchError, match=r"data\.classes=memory:.* names 6 files; give the URL of one file"
    ):
        class_list(URL)
    with pytest.raises(
        BenchError, match=r"names two files 'a-08', .*local/a-08\.tar and .*/memory/"
    ):
        contents([f"{local}/a-08.tar", f"{URL}/a-08.tar"])


def test_a_file_is_fetched_once_and_again_when_it_has_changed(local, fetched, capsys):
    contents(URL)
    assert "fetching memory://bucket/val: 4 files, 0.0 MB, to " in capsys.readouterr().err
    assert contents(f"{URL}/*.tar").items() <= contents(URL).items()
    assert sorted(fetched) == ["a-08.tar", "a-09.tar", "a-10.tar", "c.tar"]
    assert capsys.readouterr().err == ""
    put("a-09.tar", b"content of a-99.tar")  # as many bytes
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
    with pytest.raises(
        BenchError,
        match=r"Can't use memory://bucket/val/a-09\.tar .*: it can't be reached; check the",
    ):
        contents(f"{URL}/a-09.tar")  # nobody asked for it before


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


@pytest.mark.slow
def test_two_processes_fetch_a_file_once_and_after_a_kill_the_next_command_does(
    local, tmp_path, monkeypatch
):
    log, go, get_file = tmp_path / "log", tmp_path / "go", MemoryFileSystem.get_file
    log.touch()

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


FAULTS = {
    "lost": (
        lambda patch: patch.setattr(
            MemoryFileSystem, "get_file", Mock(side_effect=ConnectionError("reset"))
        ),
        r"Can't use memory://.*a-08\.tar \(copies are kept in .*\): it can't be reached; check the network",
    ),
    "full": (
        lambda patch: patch.setattr(
            MemoryFileSystem, "get_file", Mock(side_effect=OSError(28, "No space left"))
        ),
        r"Can't use memory://.*: \[Errno 28\] No space left",
    ),
    "too small": (
        lambda patch: patch.setattr(urls, "free_bytes", lambda folder: 10),
        r"takes 1 file, 0\.0 MB, and 0\.0 MB are free in .*; free some space, or name another folder by AXIOM_BENCH",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_befalls_a_fetch_is_a_sentence_and_the_next_command_fetches(local, monkeypatch, fault):
    befall, sentence = FAULTS[fault]
    with monkeypatch.context() as patched:
        befall(patched)
        with pytest.raises(BenchError, match=sentence) as caught:
            contents(f"{URL}/a-08.tar")
    assert "\n" not in str(caught.value)
    assert contents(f"{URL}/a-08.tar") == {"a-08": b"content of a-08.tar"}


STORE = "s3://bucket"
NOT_FOUND = {
    "memory://absent/val": r"Can't use memory://absent/val .*: there is no such file; correct the URL",
    f"{URL}/a-{{08..11}}.tar": "there is no such file",
    f"{URL}/x*.tar": "there is no such file",
    "nosuch://bucket/val": "Can't use nosuch://bucket/val .*: Protocol not known: nosuch",
    "gs://bucket/val": "gs://bucket/val needs a package that isn't installed: Please install gcsfs",
    f"{STORE}/val": r"s3://bucket/val needs a package that isn't installed: pip install '\.\[s3\]' in",
}
OTHER_GROUPS: dict[str, dict] = {"model": {}, "method": {}, "metric": {}}
REFUSED = {
    **{url: (functools.partial(contents, url), sentence) for url, sentence in NOT_FOUND.items()},
    "no such files": (
        functools.partial(contents, URL, ".parquet"),
        r"no file whose name ends in \.parquet below memory://bucket/val;",
    ),
    "a root": (
        lambda: Settings.of(
            configuration(
                ["data=folder", f"data.root={STORE}/val", f"data.classes={STORE}/classes.txt"]
            )
        ),
        r"^data\.root=s3://bucket/val must be on this machine, or mounted: only data",
    ),
    "a cache": (
        lambda: check_urls({"of": {"path": f"{STORE}/val", "cache": f"{STORE}/cache"}}),
        r"^data\.of\.cache=s3://bucket/cache must be on this machine",
    ),
    "a stranger's run": (
        lambda: trust.trusted(
            {**OTHER_GROUPS, "data": {"kind": "mosaic", "of": {"path": ["x", f"{STORE}/val"]}}},
            False,
        ),
        r"names data by URL, .*: data\.of\.path=s3://bucket/val\. Add --trust",
    ),
}


@pytest.mark.parametrize(("asked", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_found_or_used_is_a_sentence(local, monkeypatch, asked, sentence):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(BenchError, match=sentence) as caught:
        asked()
    assert "\n" not in str(caught.value)
