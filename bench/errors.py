"""The exception for a mistake that the user can correct, and the wording of values in messages.

The command line prints the exception's message, without a traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MAX_LISTED = 60  # names in an error message; of more names, the first NUM_EXAMPLES are listed
NUM_EXAMPLES = 12
MAX_NAME_LENGTH = 100  # characters of a name in an error message


# torch's messages when an allocation fails: on a GPU (torch.OutOfMemoryError), in cuBLAS and cuDNN,
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
    """A mistake that the user can correct. The message says what is wrong and how to correct it."""


class NoMap(BenchError):
    """A method that reads stored maps has none for this trace.

    Values that a metric asks for have the status "no_map" then.
    """


class InvalidParameter(BenchError):
    """A method's parameter has a value that it can't have on this network.

    The run stops: a method that only doesn't apply to a network is left out instead.

    Attributes:
        choices: The names that the parameter can have, if it takes a name.
    """

    choices: tuple[str, ...] = ()


def invalid_choice(kind: str, name: object, names: Iterable[str]) -> InvalidParameter:
    """Return the error for a parameter that must be one of these names, as `unknown_name` does."""
    names = tuple(names)
    error = InvalidParameter(str(unknown_name(kind, name, names)))
    error.choices = names
    return error


def unknown_name(
    kind: str,
    name: object,
    names: Iterable[str],
    others: Iterable[str] = (),
    place: str = "",
) -> BenchError:
    """Return the error for a name that doesn't exist.

    The message has the nearest names that exist. If none is near, it has all names, or the first
    few of many.

    Args:
        kind: The kind of thing that has such a name, such as "method".
        name: The name that doesn't exist.
        names: The names that exist.
        others: Further names that exist, which are too many to be listed.
        place: Words that follow the name, such as "in this run".

    >>> print(unknown_name("method", "xgradcam", ["grad_cam", "xgrad_cam"]))
    There is no method 'xgradcam'; did you mean 'xgrad_cam' or 'grad_cam'?
    >>> print(unknown_name("class", "cet", ["cat"], place="in net.py"))
    There is no class 'cet' in net.py; did you mean 'cat'?
    """
    names = sorted(names)
    # a user may type a whole file in the place of a name, and comparing it would take seconds
    text = repr(name)
    if len(text) > MAX_NAME_LENGTH:
        text = f"{text[:MAX_NAME_LENGTH]}..."
    message = f"There is no {kind} {text}"
    if place:
        message += f" {place}"
    name_by_lower_case = {name.lower(): name for name in (*others, *names)}
    lower_case = str(name)[:MAX_NAME_LENGTH].lower()
    matches = difflib.get_close_matches(lower_case, name_by_lower_case, n=3, cutoff=0.5)
    if matches:
        nearest = " or ".join(repr(name_by_lower_case[match]) for match in matches)
        return BenchError(f"{message}; did you mean {nearest}?")
    if not names:
        return BenchError(f"{message}; none is defined here.")
    if len(names) > MAX_LISTED:
        return BenchError(
            f"{message}; there are {len(names)}: {', '.join(names[:NUM_EXAMPLES])}, ..."
        )
    return BenchError(f"{message}; there are: {', '.join(names)}.")


def first_names(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first `most` names and the number of further names: "conv1, conv2 and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed. The same computation on fewer rows may then succeed.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."))
    True
    >>> is_out_of_memory(KeyError("a"))
    False
    """
    if isinstance(error, BenchError):
        return False
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in NO_MEMORY)


def type_name(value: object) -> str:
    """Return a value's type with its article, for an error.

    Examples are "a list", "an int", "a numpy.ndarray" and "None".
    """
    if value is None:
        return "None"
    module = type(value).__module__
    name = type(value).__qualname__
    if module not in ("builtins", "__main__"):
        name = f"{module}.{name}"
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}"


@contextmanager
def name_metric_in_errors(metric: str) -> Iterator[None]:
    """Put the metric's name before the message of a BenchError that the `with` block raises.

    With "" the error stays as it is, and so does NoMap in any case.
    """
    try:
        yield
    except BenchError as error:
        if not metric or isinstance(error, NoMap):
            raise
        raise BenchError(f"The metric {metric!r} can't be measured: {error}") from error


def plural(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> [plural(1, "image"), plural(1024, "image"), plural(2, "class"), plural(0, "category")]
    ['1 image', '1,024 images', '2 classes', '0 categories']
    """
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def verb(count: int, singular: str, plural: str) -> str:
    """Return the form of a verb that fits a number of things.

    >>> f"1 of 12 images {verb(1, 'has', 'have')} no labels"
    '1 of 12 images has no labels'
    """
    return singular if count == 1 else plural
