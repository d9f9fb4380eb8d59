"""The exception for a mistake that the user can mend: the command line prints its sentence and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class BenchError(Exception):
    """One clear sentence: what is wrong, and how to mend it."""


def unknown(kind: str, name: object, names: Iterable[str]) -> BenchError:
    """The error for a name that isn't there, with the nearest names that are.

    >>> print(unknown("method", "xgradcam", ["grad_cam", "xgrad_cam"]))
    There is no method 'xgradcam'; did you mean 'xgrad_cam' or 'grad_cam'?
    """
    known = sorted(names)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if near:
        return BenchError(f"There is no {kind} {name!r}; did you mean {' or '.join(map(repr, near))}?")
    return BenchError(f"There is no {kind} {name!r}; there are: {', '.join(known)}.")


@contextmanager
def measuring(metric: str) -> Iterator[None]:
    """Names the metric that can't be measured in the BenchError that says why; "" leaves it as it is."""
    try:
        yield
    except BenchError as error:
        if not metric:
            raise
        raise BenchError(f"The metric {metric!r} can't be measured: {error}") from error
