"""Keeps freed memory in the process, so that the next pass needn't ask the system for it page by page.

glibc gives large blocks back as they are freed; a network's activations are such, and each pass then waits for pages
that the one before it had (docs/performance.md has what that costs). A run's process is the benchmark's own, so it is
set there, not by `import bench`.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1  # bytes; mallopt takes an int
OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep() -> bool:
    """Sets glibc's malloc for this process; whether it did. What the environment says of it wins."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OF_THE_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries than glibc have none
    return mallopt is not None and all(mallopt(*pair) == 1 for pair in ((M_TRIM_THRESHOLD, MOST), (M_MMAP_MAX, 0)))
