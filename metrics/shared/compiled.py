"""Functions compiled by numba, whose import takes a third of a second: import what uses it when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled on its first call, and kept on disk where a folder for it can be written.

    Other threads of Python run beside it.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba can write neither to this folder nor to the user's: compile in every process
        return njit(nogil=True)(function)
