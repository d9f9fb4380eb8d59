"""Runs in a store: names, what is fetched and sent, and claims without locks. The store is fsspec's memory."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from axiom_bench.cli.terminal import local_folder, run_folder
from axiom_bench.errors import BenchError
from axiom_bench.records import files, leases, mirror, remote
from axiom_bench.records.leases import Leases
from axiom_bench.records.remote import Objects

URL = "memory://bucket/results/quick/default"
RECORD = f"{'0' * 32}-12345678.parquet"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv(remote.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    mirror._mirror.cache_clear()
    remote.opened.cache_clear()


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
        *(".run.lock", "records/.x.lock", ".report.html.0-1-2.tmp", "running/command.json", "image_hashes.json"),
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
    for name in (*names, "report.html", "figures/f.png", "claims/shard.0", "image_hashes.json"):
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


def test_a_shard_is_claimed_by_one_until_it_is_given_back(store):
    with Leases.of(store) as first, Leases.of(store) as second:
        assert first.take("shard")
        assert second.take("other")
        assert not second.take("shard")
        first.release("shard")
        assert second.take("shard")
        assert sorted(store.sizes("claims", "shard")) == ["claims/shard.0"]
    # Those that have ended hold nothing, nor do claims that make no sense.
    for number, content in enumerate((None, b"", b"[]", b"{", b'{"holder": "x", "place": "y", "process": "z"}'), -1):
        if content is not None:
            store.write(f"claims/shard.{number}", content)
        with Leases.of(store) as own:
            assert own.take("shard")
            own.release("shard")


def test_the_claim_of_a_process_that_says_nothing_is_stale_and_one_takes_it(store, monkeypatch):
    with Leases.of(store) as silent, Leases.of(store) as first, Leases.of(store) as second:
        assert silent.take("shard")
        seen = second._claims("shard")
        monkeypatch.setattr(leases, "LEASE", -1.0)
        assert first.take("shard")
        monkeypatch.setattr(Leases, "_claims", lambda self, shard: seen)  # both have looked before either took it
        assert not second.take("shard")
    assert list(store.sizes("claims")) == ["claims/shard.1"]


@pytest.mark.parametrize(("silence", "is_taken"), [(15, False), (55, False), (65, True)])
def test_a_claim_is_stale_after_a_minute_of_the_store_s_own_clock(store, monkeypatch, silence, is_taken):
    """Sooner two would compute what a slow store delayed; later the shards of a killed machine would wait."""
    with Leases.of(store) as silent, Leases.of(store) as other:
        assert silent.take("shard")
        now = datetime(2020, 1, 1, tzinfo=UTC)
        before = now - timedelta(seconds=silence)
        monkeypatch.setattr(Objects, "modified", lambda self, name: before if silent.holder in name else now)
        assert other.take("shard") is is_taken


def test_a_claim_that_an_outage_kept_is_given_back_after_it(store, monkeypatch):
    """Its process goes on with other shards, and others wait for this one."""
    monkeypatch.setattr(leases, "BEAT", 0.01)
    monkeypatch.setattr(leases, "LOOK", 0.01)
    with Leases.of(store) as first, Leases.of(store) as second:
        assert first.take("shard")
        assert first.take("other")
        with monkeypatch.context() as patched:
            patched.setattr(MemoryFileSystem, "rm_file", lambda *arguments: 1 / 0)
            first.release("shard")
            first.release("other")
            assert not second.take("shard")
        second.wait("shard", print)
        assert first.take("other")


def test_the_claim_of_a_process_of_this_machine_that_is_gone_is_stale_at_once(store, monkeypatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with Leases.of(store) as killed, Leases.of(store) as other:
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: gone.pid)
            assert killed.take("shard")
        with monkeypatch.context() as patched:
            patched.setattr(files, "place", lambda: "of another machine")
            assert not other.take("shard")
        assert other.take("shard")


def test_a_put_that_was_repeated_has_made_the_claim_and_one_given_back_meanwhile_is_had(store, monkeypatch):
    store.write("claims/shard.0", b"mine")
    assert store.make("claims/shard.0", b"mine")
    assert not store.make("claims/shard.0", b"another's")
    read = Objects.read
    monkeypatch.setattr(Objects, "read", lambda self, name: (self.remove(name), read(self, name))[1])
    assert store.make("claims/shard.0", b"another's")
    assert read(store, "claims/shard.0") == b"another's"


@pytest.mark.parametrize(
    "pipe_file",
    [
        AbstractFileSystem.pipe_file,  # looks, and then writes
        lambda self, path, value, mode="overwrite": AbstractFileSystem.pipe_file(self, path, value),
    ],
)
def test_where_a_store_can_not_keep_two_apart_it_is_said_and_nobody_waits(pipe_file, folder, monkeypatch, capsys):
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    mirror.begin(folder)
    assert "can't make an object only where there is none" in capsys.readouterr().err
    store = remote.opened(URL, os.getpid())
    with Leases.of(store) as first, Leases.of(store) as second:
        assert first.take("shard")
        assert second.take("shard")


def test_shards_come_with_what_others_computed_and_their_files_are_sent(folder, store, monkeypatch):
    monkeypatch.setattr(leases, "LOOK", 0.0)
    first, second, third = shards = [digit * 32 for digit in "012"]
    said, done = [], []
    with Leases.of(store) as other:
        assert other.take(first)
        store.write(f"records/{second}-0.parquet", b"by another")
        for shard in mirror.claimed(shards, folder, lambda line: (said.append(line), other.release(first))):
            done.append((shard, len(list((folder / "records").glob("*.parquet")))))
            write(folder, f"records/{shard}-1.parquet")
            write(folder, f"curves/{shard}-1.parquet")
    assert done == [(second, 1), (third, 2), (first, 3)]
    assert said == ["waiting for 1 shard that other machines compute"]
    assert [len(store.sizes(place)) for place in ("records", "curves", "claims")] == [4, 3, 0]


def test_a_shard_that_failed_is_given_back_and_nothing_of_it_is_sent(folder, store):
    claimed = mirror.claimed(["0" * 32], folder, print)
    assert next(claimed) == "0" * 32
    write(folder, f"records/{RECORD}")
    with pytest.raises(RuntimeError, match="a defect"):
        claimed.throw(RuntimeError("a defect"))
    assert not store.sizes()


def test_urls_without_a_run_or_of_no_store_are_refused():
    for function, url, sentence in (
        (run_folder, URL, f"There is no finished run in {URL}: it has no manifest.json"),
        (local_folder, "s3://bucket/run", "of this machine only, not in s3://bucket/run"),
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
