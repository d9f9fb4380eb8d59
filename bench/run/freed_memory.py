"""Keeps freed memory in the process, so that the next pass needn't ask the system for it page by page.

glibc returns large blocks to the system as they are freed. A network's activations are such blocks, so each pass asks
for pages that the pass before had (docs/performance.md has the cost). A run sets this for its own process; importing
axiom_bench doesn't.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep() -> bool:
    """Sets glibc's malloc for this process; returns whether it did. Settings in the user's environment come first."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries than glibc have none
    return mallopt is not None and all(mallopt(*pair) == 1 for pair in ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0)))
