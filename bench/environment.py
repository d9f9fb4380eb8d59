"""The package's YAML files in conf/, and the environment of this process: cores, module path,
garbage collection, free and freed memory, and the width of the terminal.
"""

from __future__ import annotations

import codecs
import ctypes
import gc
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST_LINE = 120  # characters of a line that a command prints
# Parameters of mallopt(3):
M_TRIM_THRESHOLD = -1  # how much free memory on top of the heap is kept
M_MMAP_MAX = -4  # how many blocks may lie outside of the heap
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
KEEPING = ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0))
RETURNING = ((M_TRIM_THRESHOLD, 2**17), (M_MMAP_MAX, 2**16))  # glibc's defaults
MEMINFO = Path("/proc/meminfo")  # of Linux
CGROUP = Path("/sys/fs/cgroup")  # the limits of a container on Linux
KIB = 1024
USER_SETTINGS = (  # environment variables with which a user sets these parameters
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def conf_folder() -> Path:
    """Return the folder conf/ inside the package."""
    return Path(__file__).parent / "conf"


def conf_groups() -> set[str]:
    """Return the names of the folders of conf/, each a group of choices."""
    return {path.name for path in conf_folder().iterdir() if path.is_dir()}


def entry_names(group: str) -> list[str]:
    """Return the sorted names of all entries of conf/<group>/."""
    folder = conf_folder() / group
    # listed for each plug-in that is loaded, and ten times as fast as Path.glob
    files = os.listdir(folder) if folder.is_dir() else []
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def choice_names() -> set[str]:
    """Return the names of files that are no entries of conf/ but choose entries: `all`, `all_fast`,
    and the methods of a protocol, such as conf/method/latec2024.yaml.
    """
    return {"all", "all_fast", *entry_names("protocol")}


def letters(text: str) -> str:
    """Return a text in lower case, with p for +, without spaces and signs.

    >>> letters("Grad-CAM++"), letters("grad_cam_pp")
    ('gradcampp', 'gradcampp')
    """
    return re.sub(r"[\W_]", "", text.casefold().replace("+", "p"))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file."""
    import yaml  # here, since `--help` doesn't need it

    # libyaml takes a tenth of the time, but isn't always installed
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(decode_text(path.read_bytes()), loader)


def decode_text(content: bytes) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one,
    as PowerShell on Windows writes it.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows don't have it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def infrequent_garbage_collection() -> Iterator[None]:
    """Let Python collect garbage every 50,000 new objects instead of every 700 in the `with` block.

    Imports and figures make millions of objects that stay. Searching them again and again took a
    tenth of a report's time.
    """
    previous_threshold = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*previous_threshold)


def add_current_folder() -> None:
    """Append the current folder to sys.path, for a user's own modules:
    `+method.mine._target_=my_module.my_cam`.

    As the last folder of the path it hides no installed package.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, so that the next pass needn't ask for it, and return
    whether that works.

    Settings in the user's environment have priority. By default, glibc returns large blocks to the
    system when they are freed. A network's activations are such blocks, so each pass asks for pages
    that the previous pass had (docs/studies/performance.md has the cost).
    """
    glibc = _glibc()
    return glibc is not None and all(glibc.mallopt(*pair) == 1 for pair in KEEPING)


def available_memory() -> int | None:
    """Return the bytes that processes may still take, also those of a container's limit; None if
    the system isn't Linux.
    """
    if not MEMINFO.is_file():
        return None
    kilobytes = re.search(r"MemAvailable: +(\d+)", MEMINFO.read_text(encoding="utf-8"))
    if kilobytes is None:
        return None
    available = int(kilobytes[1]) * KIB
    limit = CGROUP / "memory.max"
    most = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    if most.isdigit():
        # cached files count as used, but make room
        statistics = (CGROUP / "memory.stat").read_text(encoding="utf-8")
        used = re.search(r"^anon (\d+)", statistics, re.MULTILINE)
        if used is not None:
            available = min(available, int(most) - int(used[1]))
    return available


def return_freed_memory() -> None:
    """Undo `keep_freed_memory`, and return the freed memory to the system.

    A report can't reuse the memory of passes.
    """
    if (glibc := _glibc()) is not None:
        for pair in RETURNING:
            glibc.mallopt(*pair)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return glibc, or None if the system has another C library or the user's environment has its
    own settings.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None


def line_width() -> int:
    """Return the characters of a printed line: the terminal's width, at most LONGEST_LINE."""
    return min(shutil.get_terminal_size((LONGEST_LINE, 0)).columns, LONGEST_LINE)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` characters. A number stays with its percent sign,
    and a longer word, such as a path, exceeds the width.
    """
    lines: list[str] = []
    for line in text.splitlines():
        kept_together = line.replace(" %", "\N{NO-BREAK SPACE}%")
        parts = textwrap.wrap(kept_together, width, break_long_words=False, break_on_hyphens=False)
        lines += parts or [""]
    return [line.replace("\N{NO-BREAK SPACE}%", " %") for line in lines]
