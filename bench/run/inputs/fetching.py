"""Data in a store of objects: which settings may name an URL, and the same settings with the files' copies here. Each
file is fetched once, by one process at a time, under another name until it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from axiom_bench.data.formats.files import by_name, files_named
from axiom_bench.data.layouts import parquet_images, tar_shards
from axiom_bench.errors import BenchError
from axiom_bench.records import remote
from axiom_bench.run.inputs import remote_files
from axiom_bench.run.inputs.remote_files import FOLDER, RemoteFile, asked, info, store_of, threads_of, version_of
from axiom_bench.run.progress import Shown, progress

PIECE = 2**23  # bytes of a request; so many are in memory for each file that is fetched at once
LOOK = 0.5  # seconds between two looks whether the command has been stopped
ELSEWHERE = f"or name another folder by {remote.CACHE}"

SUFFIXES = {"webdataset": tar_shards.SUFFIX, "parquet": parquet_images.SUFFIX}  # of kinds whose path may be an URL
ALLOWED = ("path", "classes")


class _Stopped(Exception):
    """Another thread has failed, or the user has stopped the command."""


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
    if isinstance(config.get("classes"), str):
        config["classes"] = _file(config["classes"])
    suffix, path = SUFFIXES.get(str(config.get("kind"))), config.get("path")
    if suffix is not None and path and not isinstance(path, Mapping):
        paths = [_unmarked(text) for text in ([path] if isinstance(path, str) else path)]
        is_remote = any(map(remote.is_url, paths))
        config["path"] = _files(paths, suffix) if is_remote else paths[0] if isinstance(path, str) else paths
    return config


def _file(text: str) -> str:
    if not remote.is_url(text):
        return _unmarked(text)
    file = remote_files.one(text)
    fetch([file])
    return str(file.copy)


def in_store(data: Mapping[str, Any]) -> dict[str, RemoteFile]:
    """{name: file} of a data set whose files are all in a store; {} of any other. Raises BenchError."""
    suffix, path = SUFFIXES.get(str(data.get("kind"))), data.get("path")
    paths = [path] if isinstance(path, str) else path
    if suffix is None or not isinstance(paths, list | tuple) or not all(map(remote.is_url, paths)):
        return {}
    files, by_url = _listed(paths, suffix)
    return {name: by_url[file] for name, file in files.items()}


def _files(paths: Sequence[str], suffix: str) -> dict[str, str]:
    """{name: file here}, also of those among the paths that are here already."""
    files, by_url = _listed(paths, suffix)
    fetch(list(by_url.values()))
    return {name: str(by_url[file].copy) if file in by_url else file for name, file in files.items()}


def _listed(paths: Sequence[str], suffix: str) -> tuple[dict[str, str], dict[str, RemoteFile]]:
    """({name: URL, or file here}, {URL: file})."""
    listed: list[tuple[str, str]] = []
    by_url: dict[str, RemoteFile] = {}
    for path in paths:
        if remote.is_url(path):
            named = remote_files.named(path, suffix)
            by_url |= {file.url: file for _, file in named}
            listed += [(name, file.url) for name, file in named]
        else:
            listed += [(f"{name}{suffix}", str(file)) for name, file in files_named(path, suffix).items()]
    return by_name(listed, suffix), by_url


def _unmarked(text: str) -> str:
    """A path of this machine without file://."""
    return str(remote.folder_of(text)) if "://" in text and not remote.is_url(text) else text


def fetch(wanted: Collection[RemoteFile]) -> None:
    """Brings here what isn't, and says before how much that is. Raises BenchError."""
    missing = [file for file in dict.fromkeys(wanted) if not file.is_here]
    if not missing:
        return
    size = sum(file.size or 0 for file in missing)
    _announce(missing, size)
    threads = min(threads_of(store_of(file.url)) for file in missing)
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

    def _write(self, file: RemoteFile, draft: Path) -> None:
        with draft.open("wb") as here:
            for piece in self._pieces(file):
                here.write(piece)
                self._count(len(piece))
            here.flush()
            os.fsync(here.fileno())  # its name says what is in it
            size = here.tell()
        if version_of(info(file.url)) != file.version or file.size not in (None, size):
            raise BenchError(
                f"{file.url} was changed while it was fetched; give the command again when nothing writes there."
            )

    def _pieces(self, file: RemoteFile) -> Iterator[bytes]:
        files = store_of(file.url)
        with asked(file.url):
            there: Any = files.open(files._strip_protocol(file.url), "rb", block_size=PIECE, cache_type="none")
        with there:
            while True:
                self._check()
                with asked(file.url):
                    piece: bytes = there.read(PIECE)
                if not piece:
                    return
                yield piece

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Waits for another process that fetches the file. Raises OSError."""
        lock = FileLock(path)
        while True:
            self._check()
            try:
                lock.acquire(timeout=LOOK)
                break
            except Timeout:
                self.shown.says("waiting for another process, which fetches the same data")
        try:
            yield
        finally:
            lock.release()

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
