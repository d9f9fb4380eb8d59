"""The exception for a mistake that the user can correct: the command line prints its message and
exits with 2. How messages name values.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MAX_LISTED = 60  # names in an error message; of more, the first NUM_EXAMPLES are listed
NUM_EXAMPLES = 12
MAX_NAME_LENGTH = 100  # characters of a name in an error message


# What torch says where an allocation fails: on a GPU (torch.OutOfMemoryError), in cuBLAS and cuDNN,
# on a CPU, in C++.
NO_MEMORY = (
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory",
)


class BenchError(Exception):
    """One clear sentence: what is wrong, and how to correct it."""


class NoMap(BenchError):
    """A method that reads maps has none of this trace: what a metric asks of it has the status
    "no_map".
    """


def unknown(
    kind: str, name: object, names: Iterable[str], others: Iterable[str] = ()
) -> BenchError:
    """The error for a name that doesn't exist, with the nearest names that do, else with the first
    few of all.

    others: names that exist too, and are too many to be listed.

    >>> print(unknown("method", "xgradcam", ["grad_cam", "xgrad_cam"]))
    There is no method 'xgradcam'; did you mean 'xgrad_cam' or 'grad_cam'?
    """
    names = sorted(names)
    text = repr(name)
    message = (
        f"There is no {kind} "
        f"{text if len(text) <= MAX_NAME_LENGTH else text[:MAX_NAME_LENGTH] + '...'}"
    )
    lower, by_lower = (
        str(name)[:MAX_NAME_LENGTH].lower(),
        {each.lower(): each for each in (*others, *names)},
    )
    near = [by_lower[each] for each in difflib.get_close_matches(lower, by_lower, 3, 0.5)]
    if near:
        return BenchError(f"{message}; did you mean {' or '.join(map(repr, near))}?")
    if not names:
        return BenchError(f"{message}; none is defined here.")
    if len(names) > MAX_LISTED:
        return BenchError(
            f"{message}; there are {len(names)}: {', '.join(names[:NUM_EXAMPLES])}, ..."
        )
    return BenchError(f"{message}; there are: {', '.join(names)}.")


def first_names(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """All names, or the first and how many more there are: "conv1, conv2 and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: the same computation on less may succeed.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.")), is_out_of_memory(KeyError("a"))
    (True, False)
    """
    if isinstance(error, BenchError):
        return False
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in NO_MEMORY)
    )


def type_name(value: object) -> str:
    """A value's type with its article, for an error: "a list", "an int", "a numpy.ndarray",
    "None".
    """
    if value is None:
        return "None"
    module, name = type(value).__module__, type(value).__qualname__
    name = name if module in ("builtins", "__main__") else f"{module}.{name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


@contextmanager
def measuring(metric: str) -> Iterator[None]:
    """Puts the metric's name before a BenchError that it raises; "" leaves it as it is, as NoMap is
    left.
    """
    try:
        yield
    except BenchError as error:
        if not metric or isinstance(error, NoMap):
            raise
        raise BenchError(f"The metric {metric!r} can't be measured: {error}") from error
