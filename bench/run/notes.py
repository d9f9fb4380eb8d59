"""Warnings about a job's methods and annotations, collected while it runs and printed once at its end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from axiom_bench.evaluation.left_out import MethodLeftOut, MethodNotTimed

DATA = logging.getLogger("axiom_bench.data")


@dataclass
class Notes:
    """left_out: sentences about methods. problems: about annotations, one for each image."""

    left_out: dict[str, None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """Each sentence once; of the annotations' problems the count and the first."""
        first = next(iter(self.problems), None)
        count = f"{len(self.problems)} images have annotations that can't be used, the first: {first}"
        return (*self.left_out, *([count] if first else []))


@contextmanager
def collected() -> Iterator[Notes]:
    """Collects the notes of the code inside; other warnings are issued again when it ends."""
    notes, handler = Notes(), _Handler()
    DATA.addHandler(handler)
    propagate, DATA.propagate = DATA.propagate, False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        DATA.removeHandler(handler)
        DATA.propagate = propagate
        notes.problems.update(dict.fromkeys(handler.messages))
        for warning in caught:
            if issubclass(warning.category, MethodLeftOut):
                notes.left_out[str(warning.message)] = None
            elif not issubclass(warning.category, MethodNotTimed):  # that method has a note as left out
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _Handler(logging.Handler):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
