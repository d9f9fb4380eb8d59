"""Copies on this machine of files that are named by URL.

They are in a bucket, on a web server or on the Hugging Face Hub. fsspec's filecache fetches each
file once, and again after it has changed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from axiom_bench.errors import BenchError, plural

CACHE = "AXIOM_BENCH_CACHE"
EXTRAS = {"s3": "s3", "http": "https", "https": "https", "hf": "hf"}  # {protocol: package extra}
# fmt: off
# The names under which stores list a file's hash, and its time of change.
HASHES = ("ETag", "etag", "md5Hash", "Content-MD5", "blob_id")
TIMES = (
    "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modificationTime",
    "created",
)
# fmt: on
MISSING = "FileNotFoundError"
UNREACHABLE = "it can't be reached; check the network"
REASONS = {  # by the class of an error, or of one that it is derived from or caused by
    "NoCredentialsError": (
        "there are no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ),
    "PermissionError": "access is denied; check the credentials and what they allow",
    "ConnectionError": UNREACHABLE,
    "ClientConnectionError": UNREACHABLE,
    "TransportError": UNREACHABLE,
    "TimeoutError": UNREACHABLE,
    "HTTPClientError": UNREACHABLE,
    MISSING: "there is no such file; correct the URL",
}


class ListedFile(NamedTuple):
    """A file as a server lists it."""

    name: str
    path: str  # on the server
    version: str  # another one after a change
    size: int | None  # bytes, if the server says


_URL = re.compile(r"([a-z][a-z0-9+.-]*)://.*", re.DOTALL)


def is_url(text: str) -> bool:
    """Return whether a text is a URL, and not a path of this machine."""
    return _URL.fullmatch(text) is not None


def cache_folder() -> Path:
    """Return the folder of the copies."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "axiom-bench")
    return Path(os.environ.get(CACHE) or default).expanduser().absolute() / "data"


def fetch_copies(urls: Sequence[str], suffix: str) -> list[tuple[str, Path]]:
    """Return (name, copy on this machine) of each file that the URLs name.

    Files that are missing or changed are fetched. If the server doesn't answer, the copies of the
    last time are returned, and a line on standard error says so.

    Args:
        urls: URLs of one server, each of a file, of a folder with everything below it, or of a
            pattern.
        suffix: The end of the names of a folder's files.

    Raises:
        BenchError: If a file doesn't exist, can't be fetched or can't be kept.
    """
    url = urls[0]
    folder = cache_folder() / url.partition(":")[0]
    with _errors(url, folder):
        from fsspec import filesystem  # here: only URLs need fsspec and its packages
        from fsspec.core import url_to_fs

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # another process may fetch the same file
            files, _ = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
            listed_files = _found(files, urls, suffix, folder)
            versions = {file.path: file.version for file in listed_files}
            # filecache finds a changed file by its key. Its own key doesn't work everywhere.
            files.ukey = versions.__getitem__
            options = {"cache_storage": str(folder), "check_files": True, "expiry_time": 0}
            cache = filesystem("filecache", fs=files, skip_instance_cache=True, **options)
            missing = [file for file in listed_files if not cache._check_file(file.path)]
            _announce(url, folder, [file.size or 0 for file in missing])
            copied = []
            for file in listed_files:
                with cache.open(file.path, "rb") as copy:
                    copied.append((file.name, Path(copy.name)))
            return copied


def _found(files: Any, urls: Sequence[str], suffix: str, folder: Path) -> list[ListedFile]:
    """Return the files that the URLs name, as the server lists them.

    If the server doesn't answer, return its last list.
    """
    digest = hashlib.sha256("\n".join([*urls, suffix]).encode()).hexdigest()[:32]
    list_path = folder / f"{digest}.json"
    listed_files: list[ListedFile] = []
    try:
        for url in urls:
            listed_files.extend(_listed(files, url, suffix))
    except Exception as error:  # every store has errors of its own
        reason = _reason(error)
        if reason == REASONS[MISSING] or not list_path.is_file():
            raise
        print(
            f"axiom-bench: the copies of {urls[0]} in {folder} are used: {reason}",
            file=sys.stderr,
            flush=True,
        )
        return [ListedFile(*entry) for entry in json.loads(list_path.read_bytes())]
    list_path.write_text(json.dumps(listed_files), encoding="utf-8")
    return listed_files


def _listed(files: Any, url: str, suffix: str) -> Iterator[ListedFile]:
    """Yield the files of one URL. Raise FileNotFoundError or BenchError if there are none."""
    path = files._strip_protocol(url)
    # In a web address, ? begins a query and isn't the sign of a pattern.
    if glob.has_magic(url.partition("?")[0] if url.startswith("http") else url):
        entries = files.glob(path, detail=True)
        if not entries:
            raise FileNotFoundError(url)
        for file_path, details in entries.items():
            yield ListedFile(
                file_path.rpartition("/")[2], file_path, _version(details), details.get("size")
            )
        return
    details = files.info(path)
    if details["type"] != "directory":
        name = path.partition("?")[0].rpartition("/")[2]
        yield ListedFile(name, path, _version(details), details.get("size"))
        return
    root = path.rstrip("/")
    details_by_path = {}
    for file_path, details in sorted(files.find(root, detail=True).items()):
        if file_path.endswith(suffix) and details["type"] != "directory":
            details_by_path[file_path] = details
    if not details_by_path:
        raise BenchError(
            f"There is no file whose name ends in {suffix} below {url}; correct the URL."
        )
    for file_path, details in details_by_path.items():
        name = file_path.removeprefix(root).lstrip("/")
        yield ListedFile(name, file_path, _version(details), details.get("size"))


def _version(details: Mapping[str, object]) -> str:
    """Return a text that changes with a file.

    It has the size, and the hash or, if the server has none, the time of the last change.
    """
    mark = next((details[key] for key in (*HASHES, *TIMES) if details.get(key)), "")
    if isinstance(mark, datetime):  # a listing may have it as a number
        mark = mark.timestamp()
    return f"{details.get('size')} {mark}".replace('"', "")


def _announce(url: str, folder: Path, sizes: Sequence[int]) -> None:
    """Print how much is fetched. Raise BenchError if the disk has less space."""
    if not sizes:
        return
    files = f"{plural(len(sizes), 'file')}, {size_text(sum(sizes))}"
    free = free_bytes(folder)
    if sum(sizes) > free:
        raise BenchError(
            f"{url} has {files}, but only {size_text(free)} are free in {folder}; free some space, "
            f"or choose another folder with {CACHE}."
        )
    print(f"axiom-bench: fetching {url}: {files}, to {folder}", file=sys.stderr, flush=True)


@contextmanager
def _errors(url: str, folder: Path) -> Iterator[None]:
    """Turn every error into a BenchError with one sentence."""
    try:
        yield
    except BenchError:
        raise
    except ImportError as error:
        extra = EXTRAS.get(url.partition(":")[0])
        fix = str(error).rstrip(".")
        if extra:
            fix = f"pip install '.[{extra}]' in axiom-bench's checkout"
        raise BenchError(f"{url} needs a package that isn't installed: {fix}.") from error
    except Exception as error:  # every store has errors of its own
        raise BenchError(
            f"Can't use {url} (copies are kept in {folder}): {_reason(error)}."
        ) from error


def _reason(error: BaseException) -> str:
    """Return the reason why a file can't be fetched.

    For some stores a server that can't be reached looks like a missing file.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    reasons = [reason for name, reason in REASONS.items() if name in kinds]
    return reasons[0] if reasons else " ".join(str(error).split())[:300].rstrip(".")


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk that holds `folder`, which need not exist yet.

    A download is refused before it begins if the disk has less space.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def size_text(count: float) -> str:
    """Return a number of bytes for people.

    >>> size_text(150_000), size_text(7.53e9)
    ('0.1 MB', '7.5 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
