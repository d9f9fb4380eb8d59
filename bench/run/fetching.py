"""Data in a store of objects: which settings may name an URL, which files it names, and the same settings with the
files' copies here. Each file is fetched once, by one process at a time, under another name until it is complete. A
copy's name has the hash of its URL and of the object's version, so one that a run reads is never replaced under it."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from axiom_bench.data.formats.files import by_name, expanded, files_named
from axiom_bench.data.layouts import parquet_images, tar_shards
from axiom_bench.errors import BenchError
from axiom_bench.records import remote
from axiom_bench.records.files import safe_name
from axiom_bench.run.progress import Shown, progress

FOLDER = "data"  # in the cache
AT_ONCE = 8  # requests
PIECE = 2**23  # bytes of a request; so many are in memory for each file that is fetched at once
LOOK = 0.5  # seconds between two looks whether the command has been stopped
ELSEWHERE = f"or name another folder by {remote.CACHE}"
SUFFIXES = {"webdataset": tar_shards.SUFFIX, "parquet": parquet_images.SUFFIX}  # of kinds whose path may be an URL
ALLOWED = ("path", "classes")
HASHES = ("ETag", "etag", "md5Hash", "Content-MD5", "blob_id")  # what stores call the hash of an object's content
TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modificationTime", "created")
_BASE = re.compile(r"[^:/]+://[^/]*")  # the store, and the bucket or host


def urls(data: Mapping[str, Any], prefix: str = "data.") -> Iterator[tuple[str, str]]:
    """(setting, URL) of all that the data's settings name in a store."""
    for key, value in data.items():
        if key == "of" and isinstance(value, Mapping):
            yield from urls(value, f"{prefix}of.")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and remote.is_url(text):
                yield f"{prefix}{key}", text


def check(data: Mapping[str, Any]) -> None:
    """Raises BenchError for an URL where only a place of this machine can be."""
    for key, url in urls(data):
        if key.rpartition(".")[2] not in ALLOWED:
            raise BenchError(
                f"{key}={url[:200]} must be on this machine, or mounted: only data.path, of tar shards "
                "(data=webdataset) or Parquet (data=parquet), and data.classes may be in a store."
            )


def here(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data's settings with local files in place of URLs, which are fetched. Raises BenchError."""
    config = dict(data)
    if isinstance(config.get("of"), Mapping):
        config["of"] = here(config["of"])
    if isinstance(classes := config.get("classes"), str):
        config["classes"] = _file_here(classes) if remote.is_url(classes) else _unmarked(classes)
    suffix, path = SUFFIXES.get(str(config.get("kind"))), config.get("path")
    if suffix is not None and path and not isinstance(path, Mapping):
        paths = [_unmarked(text) for text in ([path] if isinstance(path, str) else path)]
        if any(map(remote.is_url, paths)):
            listed, by_url = _listed(paths, suffix)
            fetch(list(by_url.values()))
            config["path"] = {name: str(by_url[file].copy) if file in by_url else file for name, file in listed.items()}
        else:
            config["path"] = paths[0] if isinstance(path, str) else paths
    return config


def in_store(data: Mapping[str, Any]) -> dict[str, RemoteFile]:
    """{name: file} of a data set whose files are all in a store; {} of any other. Raises BenchError."""
    suffix, path = SUFFIXES.get(str(data.get("kind"))), data.get("path")
    paths = [path] if isinstance(path, str) else path
    if suffix is None or not isinstance(paths, list | tuple) or not all(map(remote.is_url, paths)):
        return {}
    listed, by_url = _listed(paths, suffix)
    return {name: by_url[file] for name, file in listed.items()}


def _unmarked(text: str) -> str:
    """A path of this machine without file://."""
    return str(remote.folder_of(text)) if "://" in text and not remote.is_url(text) else text


def _file_here(url: str) -> str:
    """The copy of one file, which is fetched. Raises BenchError where there is none."""
    about = _info(url)
    if about["type"] == "directory":
        raise BenchError(f"{url} is a folder; give a file.")
    file = _file(_store_of(url), about)
    fetch([file])
    return str(file.copy)


@dataclass(frozen=True)
class RemoteFile:
    """size: bytes; None where the store doesn't say. version: another one after each change."""

    url: str
    size: int | None
    version: str

    @property
    def folder(self) -> Path:
        """Where its copies are: below the cache, by store and bucket."""
        return remote.cache_folder().joinpath(FOLDER, *map(safe_name, _base_of(self.url).split("://")))

    @property
    def copy(self) -> Path:
        """The copy of this version, or its place."""
        return self.folder / f"{self.prefix}{_hash(self.version)}-{safe_name(self.url.rpartition('/')[2])}"

    @property
    def prefix(self) -> str:
        """Begins the names of all copies of all versions."""
        return f"{_hash(self.url)}-"

    @property
    def is_here(self) -> bool:
        """Whether there is a whole copy of this version."""
        return self.copy.is_file() and self.size in (None, self.copy.stat().st_size)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _base_of(url: str) -> str:
    """
    >>> _base_of("s3://bucket/val/0.tar")
    's3://bucket'
    """
    match = _BASE.match(url)
    if match is None:
        raise BenchError(f"{url[:200]} is no place in a store; write PROTOCOL://BUCKET/FOLDER/...")
    return match[0]


def _store_of(url: str) -> Any:
    """fsspec's file system, one for a bucket. Raises BenchError for an unknown one, or without its package."""
    return remote.opened(_base_of(url), os.getpid()).files


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """What the store raises is a BenchError with one sentence, also where there is no such file."""
    try:
        with remote.store_errors(url):
            yield
    except BenchError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BenchError(f"There is nothing at {url}; correct the bucket or the path.") from error
        raise


def _info(url: str) -> Mapping[str, Any]:
    """What the store says of a file or folder. Raises BenchError where there is none."""
    files = _store_of(url)
    with _asked(url):
        about: Mapping[str, Any] = files.info(files._strip_protocol(url))
    return about


def _version_of(about: Mapping[str, Any]) -> str:
    """What changes with an object: size, and the hash that the store has of it, else the time of modification."""
    mark = next((about[key] for key in (*HASHES, *TIMES) if about.get(key)), "")
    if isinstance(mark, datetime):  # what a listing has as a number
        mark = mark.timestamp()
    return f"{about.get('size')} {str(mark).strip(chr(34))}"


def _file(files: Any, about: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(files.unstrip_protocol(about["name"]), about.get("size"), _version_of(about))


def _threads_of(files: Any) -> int:
    """How many threads may ask a file system at once."""
    return AT_ONCE if files.async_impl else 1


def _listed(paths: Sequence[str], suffix: str) -> tuple[dict[str, str], dict[str, RemoteFile]]:
    """({name: URL, or file here}, {URL: file}) of all that paths and URLs name."""
    listed: list[tuple[str, str]] = []
    by_url: dict[str, RemoteFile] = {}
    for path in paths:
        if remote.is_url(path):
            named = _named(path, suffix)
            by_url |= {file.url: file for _, file in named}
            listed += [(name, file.url) for name, file in named]
        else:
            listed += [(f"{name}{suffix}", str(file)) for name, file in files_named(path, suffix).items()]
    return by_name(listed, suffix), by_url


def _named(url: str, suffix: str) -> list[tuple[str, RemoteFile]]:
    """(name, file) of all that an URL names: a file, a folder with what is below it, or a pattern, as local paths do.
    Raises BenchError where there is none, and where the store doesn't answer."""
    files, texts = _store_of(url), list(expanded(url))
    if glob.has_magic(url) or texts != [url]:
        return [(file.url.rpartition("/")[2], file) for file in _of_pattern(files, texts)]
    about = _info(url)
    if about["type"] != "directory":
        return [(url.rstrip("/").rpartition("/")[2], _file(files, about))]
    with _asked(url):
        root = files._strip_protocol(url).rstrip("/")
        listed = sorted(files.find(root, detail=True).items())
    below = [(path.removeprefix(root).lstrip("/"), _file(files, of)) for path, of in listed if path.endswith(suffix)]
    if not below:
        raise BenchError(f"There is no file whose name ends in {suffix} below {url}; correct the URL.")
    return below


def _of_pattern(files: Any, texts: Sequence[str]) -> Iterator[RemoteFile]:
    with ThreadPoolExecutor(_threads_of(files)) as pool:
        yield from map(partial(_file, files), pool.map(_info, [text for text in texts if not glob.has_magic(text)]))
    for text in filter(glob.has_magic, texts):
        with _asked(text):
            entries = files.glob(files._strip_protocol(text), detail=True).values()
            listed = [_file(files, about) for about in entries if about["type"] != "directory"]
            if not listed:
                raise FileNotFoundError(text)
        yield from listed


def fetch(wanted: Collection[RemoteFile]) -> None:
    """Brings here what isn't, and says before how much that is. Raises BenchError."""
    missing = [file for file in dict.fromkeys(wanted) if not file.is_here]
    if not missing:
        return
    size = sum(file.size or 0 for file in missing)
    _announce(missing, size)
    threads = min(_threads_of(_store_of(file.url)) for file in missing)
    with progress("fetching data") as shown, ThreadPoolExecutor(threads) as pool:
        fetching = _Fetching(shown, size)
        tasks = [pool.submit(fetching.fetch, file) for file in missing]
        try:
            for task in as_completed(tasks):
                task.result()
        except BenchError as error:
            raise BenchError(f"{error} Files that are here are kept: the same command fetches the others.") from error
        finally:
            fetching.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _announce(missing: Sequence[RemoteFile], size: int) -> None:
    folder = remote.cache_folder() / FOLDER
    free = free_bytes(folder)
    files = f"{len(missing):,} file{'s' if len(missing) > 1 else ''}, {size_text(size)}"
    if size > free:
        raise BenchError(
            f"The data takes {files}, and {size_text(free)} are free in {folder}, where it is kept: free some space, "
            f"{ELSEWHERE}."
        )
    changed = sum(any(file.folder.glob(f"{file.prefix}*")) for file in missing)
    before = f" ({changed:,} changed since {'it was' if changed == 1 else 'they were'} fetched before)"
    line = f"fetching data: {files}{before if changed else ''}, to {folder}, where {size_text(free)} are free"
    Console().print(line, highlight=False, soft_wrap=True, markup=False)


class _Stopped(Exception):
    """Another thread has failed, or the user has stopped the command."""


@dataclass
class _Fetching:
    """size: bytes in all, and done: of which are here."""

    shown: Shown
    size: int
    done: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    counting: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, file: RemoteFile) -> None:
        """Raises BenchError, and _Stopped."""
        draft = file.folder / f".{file.prefix}draft"
        try:
            file.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(file.folder / f".{file.prefix}lock"):
                if file.is_here:  # another process has fetched it
                    self._count(file.size or 0)
                    return
                try:
                    self._write(file, draft)
                    os.replace(draft, file.copy)
                finally:
                    draft.unlink(missing_ok=True)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else (error.strerror or str(error)).lower()
            mend = "free some space" if full else "allow writing there"
            raise BenchError(f"Can't keep {file.url} in {file.folder}: {why}; {mend}, {ELSEWHERE}.") from error

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Waits for another process that fetches the file. Raises OSError."""
        lock = FileLock(path)
        while not lock.is_locked:
            self._check()
            try:
                lock.acquire(timeout=LOOK)
            except Timeout:
                self.shown.says("waiting for another process, which fetches the same data")
        try:
            yield
        finally:
            lock.release()

    def _write(self, file: RemoteFile, draft: Path) -> None:
        with draft.open("wb") as copy:
            for piece in self._pieces(file):
                copy.write(piece)
                self._count(len(piece))
            copy.flush()
            os.fsync(copy.fileno())  # its name says what is in it
            size = copy.tell()
        if _version_of(_info(file.url)) != file.version or file.size not in (None, size):
            raise BenchError(
                f"{file.url} was changed while it was fetched; give the command again when nothing writes there."
            )

    def _pieces(self, file: RemoteFile) -> Iterator[bytes]:
        files = _store_of(file.url)
        with _asked(file.url):
            there: Any = files.open(files._strip_protocol(file.url), "rb", block_size=PIECE, cache_type="none")
        with there:
            while True:
                self._check()
                with _asked(file.url):
                    piece: bytes = there.read(PIECE)
                if not piece:
                    return
                yield piece

    def _check(self) -> None:
        if self.stopped.is_set():
            raise _Stopped

    def _count(self, size: int) -> None:
        with self.counting:
            self.done += size
            self.shown.says(f"fetching data: {size_text(self.done)} of {size_text(self.size)}")


def free_bytes(folder: Path) -> int:
    """That are free where this folder is, or would be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def size_text(count: float) -> str:
    """
    >>> size_text(150_000), size_text(7.53e9)
    ('0.1 MB', '7.5 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
