"""A table before it is Markdown, LaTeX or HTML: cells of text, some bold, in groups of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    text: str
    bold: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under one title; an empty title for a table of one group."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Table:
    """name: of the files. text_columns: how many leading columns hold words (left-aligned), the others hold numbers,
    except the last where `text_last`. notes: sentences under the table."""

    name: str
    title: str
    header: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    text_last: bool = False

    @property
    def alignment(self) -> tuple[bool, ...]:
        """For each column: does it hold numbers (right-aligned)?"""
        last = len(self.header) - 1
        return tuple(i >= self.text_columns and not (self.text_last and i == last) for i in range(last + 1))


def row(*texts: str, bold: Sequence[int] = ()) -> tuple[Cell, ...]:
    """Cells of these texts; `bold`: the indices of the bold ones."""
    return tuple(Cell(text, i in bold) for i, text in enumerate(texts))
