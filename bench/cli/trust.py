"""Checks of a configuration that comes with a run folder. Somebody else may have written it, so
that it is checked before a job is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from axiom_bench.errors import BenchError, first_names
from axiom_bench.kinds import check_group
from axiom_bench.run.composing.settings import Settings, iterate_urls
from axiom_bench.run.own_code import code_settings

MAX_NAMES = 3  # settings that a message lists
EXPRESSION = "${"  # OmegaConf resolves what follows
# Signs of a path, which need not exist as a file: it may be a store's, or a pattern.
PATH_SIGNS = frozenset("/\\~*?[{")
NOT_PATHS = (
    "name",
    "kind",
    "source",
    "architecture",
    "layer",
    "explained",
    "target",
    "only_classes",
    "leave_out",
)
# Settings whose texts are never opened as files: those of NOT_PATHS, which a stranger can't choose
# , and lists of classes.
NOT_PATH = re.compile(rf"(model|data(\.of)?)\.(({'|'.join(NOT_PATHS)})(\.\d+)?|classes\.\d+)")


def trusted_settings(config: Mapping[str, object], is_trusted: bool) -> Settings:
    """Check a configuration and return its settings.

    Args:
        config: The configuration of a job.
        is_trusted: Allow code that isn't this package's, data by URL, and files of this machine.

    Raises:
        BenchError: If loading a job would resolve an expression, or if a setting is missing or
            wrong. Unless the configuration is trusted, also for code that isn't this package's, for
            data by URL and for files of this machine.
    """
    for group in ("model", "data", "method", "metric"):
        check_group(group, config.get(group))
    for key, text in _texts("model", config["model"]):
        if EXPRESSION in text:  # settings of a finished run are resolved
            raise BenchError(
                f"The run's manifest holds an expression, {key}={text[:200]}, which no run "
                "writes; run the benchmark again with the same command."
            )
    if not is_trusted:
        _check_harmless(config)
    return Settings.of(config)


def _check_harmless(config: Mapping[str, Any]) -> None:
    """Raise BenchError if a configuration names code, data by URL or files of this machine."""
    check_code(config)
    for key, url in iterate_urls(config.get("data") or {}):
        raise BenchError(
            "The run's configuration names data by URL, which would be fetched with your "
            f"credentials: {key}={url[:200]}. Add --trust where the run is your own."
        )
    if files := [f"{key}={text}" for key, text in _files(config)]:
        raise BenchError(
            f"The run's configuration names files of this machine, which would be read: "
            f"{first_names(files, MAX_NAMES)}. Add --trust if the run is your own."
        )


def check_code(config: Mapping[str, object]) -> None:
    """Raise BenchError, with the first names, if a configuration names code that isn't this
    package's.
    """
    if named := list(code_settings(config)):
        raise BenchError(
            "The run's configuration names code, which would run with your rights: "
            f"{first_names(named, MAX_NAMES)}. Add --trust where the run is your own."
        )


def _files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings of a job that a model, a data set or a plug-in may open as files."""
    groups = {group: config.get(group) for group in ("model", "data")}
    for kind in ("method", "metric"):
        for name, entry in (config.get(kind) or {}).items():
            if isinstance(entry, Mapping):
                groups[f"{kind}.{name}.params"] = entry.get("params")
                groups[f"{kind}.{name}.files"] = entry.get("files")
    for group, entries in groups.items():
        for key, text in _texts(group, entries):
            if not NOT_PATH.fullmatch(key) and _is_path(text):
                yield key, text


def _is_path(text: str) -> bool:
    """Return whether a text may be a path."""
    return not PATH_SIGNS.isdisjoint(text) or os.path.lexists(text)


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield all texts of nested settings with their dotted keys. Entries of a list have their
    positions as keys.
    """
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _texts(f"{key}.{name}", entry)
    elif isinstance(value, list | tuple):
        for position, entry in enumerate(value):
            yield from _texts(f"{key}.{position}", entry)
