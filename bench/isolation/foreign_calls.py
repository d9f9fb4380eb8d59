"""Call foreign code without its output, and describe the errors that it raises."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

Result = TypeVar("Result")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress output and warnings inside."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text), warnings.catch_warnings(action="ignore"):
        yield


def result_or_error(call: Callable[[], Result]) -> Result | BaseException:
    """Return what a call of foreign code returns, or the exception that it raises."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
        return error


def one_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
