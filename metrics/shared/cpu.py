"""Loops over pixels compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled on its first call, and kept on disk where a folder for it can be
    written.

    Other threads of Python run beside it. It takes a third of a second to import numba: import
    modules of compiled functions when they are needed.
    """
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(function)
    except (
        RuntimeError
    ):  # numba can write neither to this folder nor to the user's: compile in every process
        return njit(nogil=True)(function)
