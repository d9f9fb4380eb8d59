"""Runs in a store: names, what is fetched and sent, and a lock made of objects. The store is fsspec's memory."""

import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from axiom_bench.cli.terminal import run_folder
from axiom_bench.errors import BenchError
from axiom_bench.records import files, mirror, remote
from axiom_bench.records.remote import Objects
from tests.faults.runs import wait_until

URL = "memory://bucket/results/quick/default"
RECORD = f"{'0' * 32}-12345678.parquet"


@pytest.fixture(autouse=True)
def _mirror(memory_store):
    mirror._mirror.cache_clear()


@pytest.fixture
def store():
    return remote.opened(URL, os.getpid())


@pytest.fixture
def folder():
    return remote.folder_of(URL)


def write(folder, name, content=b"content"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_an_url_has_a_folder_here_that_names_it_and_what_is_on_this_machine_is_one():
    for url in ("s3://bucket", "s3://bucket/a b/c=1/", "gs://bucket/results", URL):
        assert remote.is_url(url), url
        assert remote.url_of(remote.folder_of(url)) == url.rstrip("/")
    for path in ("results", "/data/results", "file:///data/results", "local:///data/results", "C:/x"):
        folder = remote.folder_of(path)
        assert not remote.is_url(path), path
        assert folder == Path(path.partition("//")[2] if "//" in path else path)
        assert remote.url_of(folder) is mirror.of(folder) is None
    for url in ("s3://", "s3://a/../b", "s3://a//b", "s3://a/./b", "simplecache::s3://a", "s3://a?v=1"):
        with pytest.raises(BenchError, match="can't hold results"):
            remote.folder_of(url)


def test_what_is_new_is_sent_once_and_records_after_their_curves(folder, monkeypatch):
    sent = []
    monkeypatch.setattr(Objects, "write", lambda self, name, content: sent.append(name))
    for name in (
        *("manifest.json", f"records/{RECORD}", f"curves/{RECORD}", "tables/t.csv", "report.html"),
        *(".run.lock", "records/.x.lock", ".report.html.0-1-2.tmp", "running/command.json"),
    ):
        write(folder, name)
    mirror.push(folder)
    assert sent[-2:] == [f"records/{RECORD}", "manifest.json"]
    assert sorted(sent) == [f"curves/{RECORD}", "manifest.json", f"records/{RECORD}", "report.html", "tables/t.csv"]
    write(folder, "report.html", b"another one")
    mirror.push(folder)
    assert sent[5:] == ["report.html"]


def test_an_empty_machine_fetches_what_a_run_goes_on_from(folder, store):
    folders = ("records", "curves", "predictions", "whole_set", "runtime", "pictures", "gallery")
    names = ["manifest.json", *(f"{place}/{RECORD}" for place in folders)]
    for name in (*names, "report.html", "figures/f.png", "lock/1"):
        store.write(name, b"content")
    mirror.pull(folder)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == sorted(names)


def test_no_name_in_a_store_leads_out_of_the_folder(folder, monkeypatch):
    names = ("../manifest.json", "records/../../x", "records/..", "records/.run.lock", "records/a/b", "/etc/passwd",
             "records/a\0b", "running/command.json", "x.py")  # fmt: skip
    monkeypatch.setattr(Objects, "sizes", lambda self: dict.fromkeys((*names, f"records/{RECORD}"), 1))
    monkeypatch.setattr(Objects, "read_all", lambda self, names: dict.fromkeys(names, b"x"))
    mirror.pull(folder)
    assert [path.name for path in folder.parents[5].rglob("*") if path.is_file()] == [RECORD]


def test_a_record_that_is_here_is_not_fetched_again_but_the_manifest_is(folder, store):
    here = {"manifest.json": b"before", f"records/{RECORD}": b"of us: same ", f"curves/{RECORD}": b"cut"}
    for name, content in here.items():
        store.write(name, b"of the store")  # as many bytes as the record has
        write(folder, name, content)
    mirror.pull(folder)
    assert [(folder / name).read_bytes() for name in here] == [b"of the store", b"of us: same ", b"of the store"]
    store.write("manifest.json", b"a later one")
    mirror.pull(folder)
    assert (folder / "manifest.json").read_bytes() == b"a later one"


def test_what_could_not_be_sent_is_sent_by_the_next_command_and_a_lost_folder_is_fetched(folder, store, monkeypatch):
    write(folder, f"records/{RECORD}")
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "pipe_file", lambda *arguments, **options: 1 / 0)
        with pytest.raises(BenchError, match=f"division by zero. What is made is kept in {folder}"):
            mirror.push(folder)
    mirror._mirror.cache_clear()
    mirror.pull(folder)
    mirror.push(folder)
    assert list(store.sizes()) == [f"records/{RECORD}"]
    (folder / "records" / RECORD).unlink()
    mirror.push(folder)
    mirror.pull(folder)
    assert (folder / "records" / RECORD).read_bytes() == b"content"


ELSEWHERE = {**files.process(), "place": "of another machine"}


def test_a_run_in_a_store_is_one_command_s_until_it_ends_and_a_second_is_told(folder, store):
    with mirror.held(folder):
        mine = json.loads(store.read(mirror.LOCK))
        assert mine["process"] == os.getpid()
    assert list(store.sizes()) == []
    store.write(mirror.LOCK, json.dumps({**mine, **ELSEWHERE}).encode())
    with pytest.raises(BenchError, match=f"{URL} is in use: process {os.getpid()} on {files.host()}") as raised:
        mirror.held(folder).__enter__()
    assert "\n" not in str(raised.value)
    assert json.loads(store.read(mirror.LOCK))["place"] == ELSEWHERE["place"]  # it keeps the run


def test_a_lock_is_written_anew_so_that_it_stays_fresh(folder, store, monkeypatch):
    monkeypatch.setattr(mirror, "BEAT", 0.02)
    with mirror.held(folder):
        first = store.read(mirror.LOCK)
        wait_until(lambda: store.read(mirror.LOCK) != first)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{", b'{"process": "z"}', b'{"process": 1, "place": "y"}'),
        pytest.param(json.dumps({**ELSEWHERE, "time": time.time() - 3600}).encode(), id="stale"),
        pytest.param(json.dumps({**files.process(), "process": 2**22 + 1, "time": time.time()}).encode(), id="gone"),
    ],
)
def test_what_makes_no_sense_is_stale_or_gone_holds_nothing(folder, store, content):
    """The process of the last one is of this machine, and no number of a process is as large."""
    store.write(mirror.LOCK, content)
    with mirror.held(folder):
        assert json.loads(store.read(mirror.LOCK))["process"] == os.getpid()


def test_urls_without_a_run_or_of_no_store_are_refused():
    for function, url, sentence in (
        (run_folder, URL, f"There is no finished run in {URL}: it has no manifest.json"),
        (partial(remote.opened, process=0), "nowhere://x/y", "Can't use nowhere://x/y: Protocol not known: nowhere"),
    ):
        with pytest.raises(BenchError, match=sentence):
            function(url)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("no bucket"), "make the bucket first"),
        (PermissionError("denied"), "check the credentials"),
        (type("NoCredentialsError", (Exception,), {})(), "there are no credentials"),
        (ConnectionRefusedError(), "can't be reached"),
        (TimeoutError(), "doesn't answer"),
        (OSError(5, "slow\n  down"), r"\[Errno 5\] slow down"),
        (ImportError("Install s3fs to access S3"), r"pip install '\.\[s3\]' in axiom-bench's checkout"),
    ],
)
def test_what_a_store_raises_is_one_sentence(error, words):
    with pytest.raises(BenchError, match=words) as raised, remote.store_errors("s3://bucket"):
        raise error
    assert "s3://bucket" in str(raised.value)
    assert "\n" not in str(raised.value)
