"""The parts of a page: paragraphs, tables and differences in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 140
AGREES = 1e-5  # the largest difference of two that agree: the libraries compute in float32


def paragraph(text: str) -> list[str]:
    """A text in lines of the page's width, and an empty line."""
    return [*textwrap.wrap(" ".join(text.split()), WIDTH), ""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> list[str]:
    """A table whose first `text_columns` columns are aligned to the left, the others to the right; an empty line."""
    alignment = [":---" if column < text_columns else "---:" for column in range(len(header))]
    return [*(f"| {' | '.join(row)} |" for row in (header, alignment, *rows)), ""]


def difference(value: float | None) -> str:
    """A difference as a table shows it: bold above AGREES, a dash where it wasn't measured."""
    if value is None:
        return "-"
    text = "0" if value == 0 else f"{value:.1e}"
    return text if value <= AGREES else f"**{text}**"
