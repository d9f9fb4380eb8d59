"""A table before it is LaTeX or HTML: cells of text, some bold, in groups of rows; and as Markdown,
CSV or text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from axiom_bench.statistics.labels import NOTHING, number, with_interval


@dataclass(frozen=True)
class Cell:
    """numbers: what the text says, unrounded and in its order, such as (mean, standard error). A
    page sorts by the first of them.
    """

    text: str
    bold: bool = False
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows under one title; an empty title for a table of one group. metric: the name of the value
    that they are of, empty where they are of several.
    """

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    metric: str = ""


@dataclass(frozen=True)
class Column:
    """title, rest: the first line of the heading and the others. is_number: right-aligned. parts:
    names of the numbers in a cell, where it holds several, such as ("mean", "s.e.").
    """

    title: str
    rest: str
    is_number: bool
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """name: of the files. text_columns: how many leading columns hold words (left-aligned), the
    others hold numbers, except the last where `text_last`. notes: sentences under the table.
    family: the title that the tables of several settings share, and label: this one's setting; both
    empty for a table of the whole run. num_open: how many notes the page shows before a reader
    opens the others.
    """

    name: str
    title: str
    header: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    text_last: bool = False
    family: str = ""
    label: str = ""
    num_open: int = 1

    @classmethod
    def of_setting(
        cls,
        name: str,
        family: str,
        label: str,
        header: tuple[str, ...],
        groups: Any,
        *more: Any,
        **named: Any,
    ) -> Table:
        """One of the tables that several settings have; more: from notes on."""
        table = cls(name, f"{family}, {label}", header, groups, *more, **named)
        return replace(table, family=family, label=label)

    @property
    def alignment(self) -> tuple[bool, ...]:
        """For each column: does it hold numbers (right-aligned)?"""
        last = len(self.header) - 1
        return tuple(
            i >= self.text_columns and not (self.text_last and i == last) for i in range(last + 1)
        )

    @property
    def columns(self) -> list[Column]:
        """What is known of each column."""
        columns = []
        for place, (heading, is_number) in enumerate(zip(self.header, self.alignment, strict=True)):
            title, _, rest = heading.partition("\n")
            count = max(
                (len(row[place].numbers) for group in self.groups for row in group.rows), default=0
            )
            columns.append(Column(title, rest, is_number, parts_of(heading, count)))
        return columns


def parts_of(heading: str, count: int) -> tuple[str, ...]:
    """Names of the numbers in a column's cells, as its heading's last line says them: "mean ± s.e. ↑".

    >>> parts_of("Confidence drop\\nmean \u00b1 s.e.", 2)
    ('mean', 's.e.')
    """
    if count < 2:
        return ()
    words = re.findall(r"[^()\[\]/,\u00b1\u2191\u2193\u00a0]*[\w.%]", heading.rpartition("\n")[2])
    names = [word.strip() for word in words]
    if len(names) == 2 and count == 3:  # "mean [95 %]"
        names = [names[0], "low", "high"]
    return (
        tuple(names) if len(names) == count else tuple(str(place) for place in range(1, count + 1))
    )


def numeric(value: float, text: str | None = None, bold: bool = False) -> Cell:
    """A number as `number` writes it, or as this text; one that isn't finite has no place in an
    order.
    """
    return Cell(
        number(value) if text is None else text,
        bold,
        (float(value),) if math.isfinite(value) else (),
    )


def count(value: float) -> Cell:
    """A whole number, with a separator of thousands; a dash for NaN."""
    return Cell(NOTHING) if pd.isna(value) else numeric(value, f"{int(value):,}")


def interval(value: float, low: float, high: float, rounding: float, bold: bool = False) -> Cell:
    """A value with the ends of its interval, "0.284 [0.230, 0.354]"."""
    numbers = tuple(filter(math.isfinite, map(float, (value, low, high))))
    return Cell(with_interval(value, low, high, rounding), bold, numbers)


def span(low: float, high: float, rounding: float) -> Cell:
    """From the least to the greatest, "0.101 to 0.150"; one number where both print the same."""
    ends = (number(low, rounding), number(high, rounding))
    return Cell(" to ".join(dict.fromkeys(ends)), numbers=(float(low), float(high)))


_MARKUP = re.compile(r"[\\`*|<\[\]~]|&(?=[#\w]+;)|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_UNPRINTED = re.compile("[\x00-\t\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def to_markdown(table: Table) -> str:
    """As GitHub's: a heading and a table for each group, the best in bold, the notes below."""
    parts = [f"# {_markdown(table.title)}"]
    rule = "|".join("---:" if right else ":---" for right in table.alignment)
    for group in table.groups:
        if group.title:
            parts.append(f"## {_markdown(group.title)}")
        lines = [
            _markdown_line(map(Cell, table.header)),
            f"|{rule}|",
            *map(_markdown_line, group.rows),
        ]
        parts.append("\n".join(lines))
    # What would begin a heading, a quotation or a list is escaped too.
    parts.extend(
        re.sub(r"^(\d*)([#>+=.)-])", r"\1\\\2", _markdown(note).lstrip()) for note in table.notes
    )
    return "\n\n".join(parts) + "\n"


def _markdown_line(row: Iterable[Cell]) -> str:
    return (
        "| "
        f"{' | '.join(f'**{_markdown(cell.text)}**' if cell.bold else _markdown(cell.text) for cell in row)} "
        "|"
    )


def _markdown(text: str) -> str:
    """What would be markup, or a link; what isn't printed is left out. An underscore inside a word
    is no markup in GitHub's Markdown, and names stay readable.
    """
    printed = _UNPRINTED.sub("", _LINE_END.sub("\n", text)).strip(" ")
    return _MARKUP.sub(r"\\\g<0>", printed).replace("\n", "<br>")


def to_text(table: Table) -> list[str]:
    """The table in columns, its title first, its notes last."""
    header = [text.replace("\n", " ") for text in table.header]
    body = [[cell.text for cell in cells] for group in table.groups for cells in group.rows]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = []
    for cells in (header, *body):
        columns = zip(cells, widths, table.alignment, strict=True)
        aligned = (
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in columns
        )
        lines.append("  " + "  ".join(aligned).rstrip())
    return [table.title, *lines, *table.notes]


FORMULA = re.compile(r"'*[=+\-@\t\r]")
QUOTED = re.compile(r"'+[=+\-@\t\r]")
NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-", re.ASCII
)  # and the method of a layer's values


def to_csv(frame: pd.DataFrame) -> str:
    """The table without its index, for people, who open it in a spreadsheet; numbers are as they
    are, texts `quoted`. The page's scripts write theirs by the same rule.
    """
    texts = {
        str(name): column.astype(object).map(
            lambda entry: quoted(entry) if isinstance(entry, str) else entry
        )
        for name, column in frame.items()
        if not pd.api.types.is_numeric_dtype(column)
    }
    quoted_frame = frame.assign(**texts).rename(columns=quoted)
    text = str(quoted_frame.to_csv(index=False, lineterminator="\n"))
    if "\r" not in text:
        return text
    # Without quotes a lone \r would end the row for a spreadsheet, and what follows be a cell of
    # its own.
    return str(quoted_frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def quoted(text: str) -> str:
    """A cell that begins a formula would be computed: such a text has an apostrophe before it,
    which spreadsheets take for "text". A text that has one already gets another, so that `unquoted`
    gives every text back.

    >>> quoted("=1+1"), quoted("-0.5"), quoted("a=1")
    ("'=1+1", '-0.5', 'a=1')
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def unquoted(text: str) -> str:
    """The text that `quoted` was given."""
    return text[1:] if QUOTED.match(text) else text
