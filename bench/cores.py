"""The cores that this process may use."""

from __future__ import annotations

import os


def num_cores() -> int:
    """How many they are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
