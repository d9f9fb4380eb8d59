"""Results in a store of objects: fsspec's URLs, such as s3://bucket/results, the folder in the cache that mirrors each,
and the objects below an URL. The URL alone decides the folder's name, so that no stranger's file can name one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError

CACHE = "AXIOM_BENCH_CACHE"
LOCAL = ("file", "local")  # fsspec's names of ordinary folders: nothing of this module is needed for them
_URL = re.compile(r"([a-z][a-z0-9+.:-]*)://(.*)", re.DOTALL)
_PART = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f*?#\[\]:\\/]+")
_ENDPOINT = "check the network and the endpoint (AWS_ENDPOINT_URL)"
_WHY = {  # by the class of an error, or of one that it is derived from
    "FileNotFoundError": "there is no such place; make the bucket first, or correct its name",
    "PermissionError": "access is denied; check the credentials and what they allow",
    "FileExpired": "it was changed while it was read; give the command again when nothing writes there",
    "NoCredentialsError": "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    **dict.fromkeys(("ConnectionError", "ClientConnectionError"), f"it can't be reached; {_ENDPOINT}"),
    **dict.fromkeys(("TimeoutError", "HTTPClientError"), f"it doesn't answer; {_ENDPOINT}"),
}


def is_url(text: str) -> bool:
    """Whether a text is an URL of a store, and not a path of this machine."""
    match = _URL.fullmatch(text)
    return match is not None and match[1] not in LOCAL


def folder_of(text: str) -> Path:
    """The folder of a path, or the mirror of an URL. Raises BenchError for an URL that no mirror can have."""
    match = _URL.fullmatch(text)
    if match is None:
        return Path(os.path.expanduser(text))
    protocol, place = match[1], match[2]
    if protocol in LOCAL:
        return Path(place)
    parts = place.strip("/").split("/")
    if not all(_PART.fullmatch(part) for part in (protocol, *parts)):
        raise BenchError(
            f"{text[:200]} can't hold results; write PROTOCOL://BUCKET/FOLDER/..., without * ? # [ ] : .. ."
        )
    return _mirrors() / protocol / Path(*parts)


def url_of(folder: Path) -> str | None:
    """The URL that a folder mirrors; None for an ordinary folder."""
    absolute = Path(os.path.abspath(folder))
    if not absolute.is_relative_to(_mirrors()):
        return None
    protocol, *parts = absolute.relative_to(_mirrors()).parts or ("",)
    return f"{protocol}://{'/'.join(parts)}" if parts else None


def named(path: Path) -> str:
    """A file's name for people: of one in a mirror its URL, and the file here."""
    url = url_of(path)
    return str(path) if url is None else f"{url} (here: {path})"


def cache_folder() -> Path:
    """What is fetched from stores is below this folder."""
    text = os.environ.get(CACHE) or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "axiom-bench")
    return Path(os.path.abspath(os.path.expanduser(text)))


def _mirrors() -> Path:
    return cache_folder() / "remote"


@dataclass(frozen=True)
class Objects:
    """files: fsspec's file system; root: the URL's path in it. Names are below it. Methods raise BenchError, whose
    cause is the store's own error."""

    url: str
    files: Any
    root: str

    def sizes(self) -> dict[str, int]:
        """{name: bytes} of all objects."""
        with store_errors(self.url):
            found = self.files.find(self.root, detail=True)
        return {path.removeprefix(self.root).lstrip("/"): int(about["size"] or 0) for path, about in found.items()}

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        with store_errors(self.url), suppress(FileNotFoundError):
            content: bytes = self.files.cat_file(self._path(name))
            return content
        return None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """{name: content}, fetched at once."""
        with store_errors(self.url):
            contents = self.files.cat([self._path(name) for name in names])
            return {name: contents[self._path(name)] for name in names}

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, in the place of one that is there."""
        with store_errors(self.url):
            self.files.pipe_file(self._path(name), content)

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with store_errors(self.url), suppress(FileNotFoundError):
            self.files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


@cache
def opened(url: str, process: int) -> Objects:
    """The objects below an URL. process: this one's number, since a fork needs connections of its own. Raises
    BenchError where fsspec knows no such store, or its package isn't installed."""
    with store_errors(url):
        from fsspec.core import url_to_fs

        files, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    return Objects(url, files, root.rstrip("/"))


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """What a store raises is a BenchError with one sentence."""
    try:
        yield
    except ImportError as error:
        mend = "pip install '.[s3]' in axiom-bench's checkout" if url.startswith("s3") else str(error).rstrip(".")
        raise BenchError(f"{url} needs a package that isn't installed: {mend}.") from error
    except Exception as error:  # every store has errors of its own
        kinds = (kind.__name__ for kind in type(error).__mro__)
        why = next((_WHY[kind] for kind in kinds if kind in _WHY), " ".join(str(error).split())[:300].rstrip("."))
        raise BenchError(f"Can't use {url}: {why}.") from error
