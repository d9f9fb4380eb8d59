"""A decorator for loops over pixels, which numba compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile a function on its first call, and keep the result on disk if possible.

    Other threads of Python run at the same time as the compiled function. Importing numba takes a
    third of a second, so import modules of compiled functions only when they are needed.

    Args:
        function: The function, in the part of Python that numba compiles.

    Returns:
        The compiled function.
    """
    from numba import njit

    compiled: Callable[..., Result]
    try:
        compiled = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Numba can write neither to this folder nor to the user's, so every process compiles.
        compiled = njit(nogil=True)(function)
    return compiled
