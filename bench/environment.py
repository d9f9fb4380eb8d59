"""The folder of the package's YAML files, conf/, and the cores, modules, garbage and freed memory
of this process.
"""

from __future__ import annotations

import codecs
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks
# lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
KEEPING = ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0))
RETURNING = ((M_TRIM_THRESHOLD, 2**17), (M_MMAP_MAX, 2**16))  # glibc's defaults
USER_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "GLIBC_TUNABLES",
)


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
    """Return text in UTF-8, with or without its mark, or in UTF-16 with its mark, as Windows'
    PowerShell writes it.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Python looks for garbage once in 50,000 new objects, not in 700; afterwards as before.
    Imports and figures make millions of objects that stay: looking through them again and again
    took a tenth of a report's time.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def add_current_folder() -> None:
    """Append the current folder to sys.path, for a user's own modules:
    `+method.mine._target_=my_module.my_cam`.

    As the last one it hides no installed package.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, so that the next pass needn't ask for it, and return
    whether that works.

    Settings in the user's environment come first. glibc returns large blocks to the system as they
    are freed. A network's activations are such blocks, so each pass asks for pages that the pass
    before had (docs/studies/performance.md has the cost).
    """
    glibc = _glibc()
    return glibc is not None and all(glibc.mallopt(*pair) == 1 for pair in KEEPING)


def return_freed_memory() -> None:
    """End what `keep_freed_memory` began, since a report needs other memory than passes."""
    if (glibc := _glibc()) is not None:
        for pair in RETURNING:
            glibc.mallopt(*pair)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return glibc; None if the system has another library, or the user's environment has settings
    of its own.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
