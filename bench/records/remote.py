"""Results in a store of objects: fsspec's URLs, such as s3://bucket/results, and the folder here that mirrors each.

The folder is in the cache (AXIOM_BENCH_CACHE, else ~/.cache/axiom-bench), under a name that the URL alone decides:
every process that is given the URL finds it, and no file in a folder, which may come from a stranger, can name one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from axiom_bench.errors import BenchError

CACHE = "AXIOM_BENCH_CACHE"
LOCAL = ("file", "local")  # fsspec's names of ordinary folders: nothing of this module is needed for them
_URL = re.compile(r"([a-z][a-z0-9+.:-]*)://(.*)", re.DOTALL)
_PART = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f*?#\[\]:\\/]+")


def is_url(text: str) -> bool:
    """Whether a text is an URL of a store, and not a path of this machine."""
    match = _URL.fullmatch(text)
    return match is not None and match[1] not in LOCAL


def folder_of(text: str) -> Path:
    """The folder of a path, or the mirror of an URL. Raises BenchError for an URL that no mirror can have."""
    match = _URL.fullmatch(text)
    if match is None:
        return Path(text)
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
    own = os.environ.get(CACHE) or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "axiom-bench")
    return Path(os.path.abspath(os.path.expanduser(own)))


def _mirrors() -> Path:
    return cache_folder() / "remote"
