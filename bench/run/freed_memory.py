"""Memory that a pass has freed, kept in the process for the next pass."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
KEEPING = ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0))
RETURNING = ((M_TRIM_THRESHOLD, 2**17), (M_MMAP_MAX, 2**16))  # glibc's defaults
USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keeps freed memory in the process, so that the next pass needn't ask the system for it page by page: whether it
    does. Settings in the user's environment come first. glibc returns large blocks to the system as they are freed. A
    network's activations are such blocks, so each pass asks for pages that the pass before had
    (docs/studies/performance.md has the cost)."""
    glibc = _glibc()
    return glibc is not None and all(glibc.mallopt(*pair) == 1 for pair in KEEPING)


def return_freed_memory() -> None:
    """Ends what `keep_freed_memory` began, where it did: a report needs other memory than passes."""
    if (glibc := _glibc()) is not None:
        for pair in RETURNING:
            glibc.mallopt(*pair)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """None where the system has another library, or the user's environment settings of its own."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
