"""Files in a store of objects that data settings name by URL, and where each one's copy here is. A copy's name has the
hash of its URL and of the object's version, so one that a run reads is never replaced under it."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.data.formats.files import expanded
from axiom_bench.errors import BenchError
from axiom_bench.records import remote
from axiom_bench.records.files import safe_name

FOLDER = "data"  # in the cache
AT_ONCE = 8  # requests
HASHES = ("ETag", "etag", "md5Hash", "Content-MD5", "blob_id")  # what stores call the hash of an object's content
TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modificationTime", "created")
_BASE = re.compile(r"[^:/]+://[^/]*")  # the store, and the bucket or host


@dataclass(frozen=True)
class RemoteFile:
    """size: bytes; None where the store doesn't say. version: another one after each change."""

    url: str
    size: int | None
    version: str

    @property
    def folder(self) -> Path:
        """Where its copies are: below the cache, by store and bucket."""
        store, bucket = base_of(self.url).split("://")
        return remote.cache_folder() / FOLDER / safe_name(store) / safe_name(bucket)

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


def base_of(url: str) -> str:
    """
    >>> base_of("s3://bucket/val/0.tar")
    's3://bucket'
    """
    match = _BASE.match(url)
    if match is None:
        raise BenchError(f"{url[:200]} is no place in a store; write PROTOCOL://BUCKET/FOLDER/...")
    return match[0]


def store_of(url: str) -> Any:
    """fsspec's file system, one for a bucket. Raises BenchError for an unknown one, or without its package."""
    return remote.opened(base_of(url), os.getpid()).files


def named(pattern: str, suffix: str) -> list[tuple[str, RemoteFile]]:
    """(name, file) of all that a URL names: a file, a folder with what is below it, or a pattern, as local paths do.
    Raises BenchError where there is none, and where the store doesn't answer."""
    if glob.has_magic(pattern) or list(expanded(pattern)) != [pattern]:
        return [(_name(file.url), file) for file in _of_pattern(pattern)]
    about, files = info(pattern), store_of(pattern)
    if about["type"] != "directory":
        return [(_name(pattern), _file(files, about))]
    with asked(pattern):
        root = files._strip_protocol(pattern).rstrip("/")
        listed = sorted(files.find(root, detail=True).items())
    below = [
        (path.removeprefix(root).lstrip("/"), _file(files, each)) for path, each in listed if path.endswith(suffix)
    ]
    if not below:
        raise BenchError(f"There is no file whose name ends in {suffix} below {pattern}; correct the URL.")
    return below


def one(url: str) -> RemoteFile:
    """The file of an URL. Raises BenchError where there is none."""
    about = info(url)
    if about["type"] == "directory":
        raise BenchError(f"{url} is a folder; give a file.")
    return _file(store_of(url), about)


def info(url: str) -> Mapping[str, Any]:
    """What the store says of a file or folder. Raises BenchError where there is none."""
    files = store_of(url)
    with asked(url):
        about: Mapping[str, Any] = files.info(files._strip_protocol(url))
    return about


def version_of(about: Mapping[str, Any]) -> str:
    """What changes with an object: size, and the hash that the store has of it, else the time of modification."""
    mark = next((about[key] for key in (*HASHES, *TIMES) if about.get(key)), "")
    if isinstance(mark, datetime):  # what a listing has as a number
        mark = mark.timestamp()
    return f"{about.get('size')} {str(mark).strip(chr(34))}"


def _of_pattern(pattern: str) -> Iterator[RemoteFile]:
    files, texts = store_of(pattern), list(expanded(pattern))
    plain = [text for text in texts if not glob.has_magic(text)]
    with ThreadPoolExecutor(threads_of(files)) as pool:
        yield from map(partial(_file, files), pool.map(info, plain))
    for text in texts:
        if not glob.has_magic(text):
            continue
        with asked(text):
            entries = files.glob(files._strip_protocol(text), detail=True).values()
            listed = [_file(files, about) for about in entries if about["type"] != "directory"]
            if not listed:
                raise FileNotFoundError(text)
        yield from listed


def threads_of(files: Any) -> int:
    """How many threads may ask a file system at once."""
    return AT_ONCE if files.async_impl else 1


def _file(files: Any, about: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(files.unstrip_protocol(about["name"]), about.get("size"), version_of(about))


def _name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


@contextmanager
def asked(url: str) -> Iterator[None]:
    """What the store raises is a BenchError with one sentence, also where there is no such file."""
    try:
        with remote.store_errors(url):
            yield
    except BenchError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BenchError(f"There is nothing at {url}; correct the bucket or the path.") from error
        raise


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
