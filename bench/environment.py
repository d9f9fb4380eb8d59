"""What surrounds the package: the folder of its YAML files, conf/, the cores and the garbage of this process."""

from __future__ import annotations

import codecs
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def conf_folder() -> Path:
    """The folder conf/, inside the package."""
    return Path(__file__).parent / "conf"


def conf_groups() -> set[str]:
    """The folders of conf/, each a group of choices."""
    return {path.name for path in conf_folder().iterdir() if path.is_dir()}


def entry_names(group: str) -> list[str]:
    """Names of all entries of conf/<group>/, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def read_yaml(path: Path) -> Any:
    """A YAML file's content, by libyaml where it is there, which takes a tenth of the time."""
    import yaml  # here: `--help` needs none

    return yaml.load(decoded(path.read_bytes()), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def decoded(content: bytes) -> str:
    """Return text in UTF-8, with or without its mark, or in UTF-16 with its mark, as Windows' PowerShell writes it."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Python looks for garbage once in 50,000 new objects, not in 700; afterwards as before. Imports and figures make
    millions of objects that stay: looking through them again and again took a tenth of a report's time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
