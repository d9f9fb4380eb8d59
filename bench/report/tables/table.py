"""A table before it is Markdown, LaTeX or HTML: cells of text, some bold, in groups of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from axiom_bench.statistics.numbers import number


@dataclass(frozen=True)
class Cell:
    """numbers: what the text says, unrounded and in its order, such as (mean, standard error). A page sorts by the
    first of them."""

    text: str
    bold: bool = False
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows under one title; an empty title for a table of one group. metric: the name of the value that they are of,
    empty where they are of several."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    metric: str = ""


@dataclass(frozen=True)
class Table:
    """name: of the files. text_columns: how many leading columns hold words (left-aligned), the others hold numbers,
    except the last where `text_last`. notes: sentences under the table. family: the title that the tables of several
    settings share, and label: this one's setting; both empty for a table of the whole run."""

    name: str
    title: str
    header: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    text_last: bool = False
    family: str = ""
    label: str = ""

    @property
    def alignment(self) -> tuple[bool, ...]:
        """For each column: does it hold numbers (right-aligned)?"""
        last = len(self.header) - 1
        return tuple(i >= self.text_columns and not (self.text_last and i == last) for i in range(last + 1))


def numeric(value: float, text: str | None = None, bold: bool = False) -> Cell:
    """A number as `number` writes it, or as this text; one that isn't finite has no place in an order."""
    return Cell(number(value) if text is None else text, bold, (float(value),) if math.isfinite(value) else ())


def count(value: float) -> Cell:
    """A whole number, with a separator of thousands."""
    return numeric(value, f"{int(value):,}")


def row(*texts: str, bold: Sequence[int] = ()) -> tuple[Cell, ...]:
    """Cells of these texts; `bold`: the indices of the bold ones."""
    return tuple(Cell(text, i in bold) for i, text in enumerate(texts))
