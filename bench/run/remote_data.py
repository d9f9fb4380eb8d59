"""Data in a store of objects: which settings may name an URL, and the same settings with the files' copies here.

What reads the data reads files of this machine, so images, ids and keys are those of a local data set of the same
names and bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from axiom_bench.data.formats.named_files import by_name, files_named
from axiom_bench.data.layouts import parquet_images, tar_shards
from axiom_bench.errors import BenchError
from axiom_bench.records import remote
from axiom_bench.run import remote_files
from axiom_bench.run.fetching import fetch
from axiom_bench.run.remote_files import RemoteFile

SUFFIXES = {"webdataset": tar_shards.SUFFIX, "parquet": parquet_images.SUFFIX}  # of kinds whose path may be an URL
ALLOWED = ("path", "classes")


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
    if suffix is not None and path:
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


def _files(paths: Sequence[str], suffix: str) -> dict[str, str]:
    """{name: file here}, also of those among the paths that are here already."""
    found: list[tuple[str, str]] = []
    remote_ones: dict[str, RemoteFile] = {}
    for path in paths:
        if remote.is_url(path):
            named = remote_files.named(path, suffix)
            remote_ones |= {file.url: file for _, file in named}
            found += [(name, file.url) for name, file in named]
        else:
            found += [(f"{name}{suffix}", str(file)) for name, file in files_named(path, suffix).items()]
    files = by_name(found, suffix)
    fetch(list(remote_ones.values()))
    return {name: str(remote_ones[file].copy) if file in remote_ones else file for name, file in files.items()}


def _unmarked(text: str) -> str:
    """A path of this machine without file://."""
    return str(remote.folder_of(text)) if "://" in text and not remote.is_url(text) else text
