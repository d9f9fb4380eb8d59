"""Tables before they are LaTeX or HTML: cells of text, some bold, in groups of rows. This module
also writes them as Markdown, CSV or text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import pandas as pd

from axiom_bench.statistics.labels import NOTHING, number, with_interval


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    bold: bool = False
    # The numbers of the text, unrounded and in its order, such as (mean, standard error). A page
    # sorts by the first of them.
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows under one title."""

    title: str  # empty for a table of one group
    rows: tuple[tuple[Cell, ...], ...]
    metric: str = ""  # the name of the rows' value; empty if they have several


@dataclass(frozen=True)
class Column:
    """A column of a table, as a page needs it."""

    title: str  # the first line of the heading
    rest: str  # the other lines of the heading
    is_number: bool  # right-aligned
    parts: tuple[str, ...]  # names of a cell's numbers if it has several, such as ("mean", "s.e.")


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    name: str  # the name of its files
    title: str
    header: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()  # sentences under the table
    # The first `text_columns` columns hold words and are left-aligned. The others hold numbers,
    # except the last one if `text_last`.
    text_columns: int = 1
    text_last: bool = False
    family: str = ""  # the title that the tables of several settings share
    label: str = ""  # this table's setting; label and family are empty for the whole run
    num_open: int = 1  # how many notes the page shows before a reader opens the others
    # These three are of the LaTeX file.
    caption: str = ""  # empty: the title
    footnote: str | None = None  # `None`: the notes
    comments: tuple[str, ...] = ()  # lines that LaTeX doesn't print

    @classmethod
    def of_setting(
        cls,
        name: str,
        family: str,
        label: str,
        header: tuple[str, ...],
        groups: tuple[Group, ...],
        notes: tuple[str, ...] = (),
        text_columns: int = 1,
        text_last: bool = False,
    ) -> Table:
        """Return one of the tables that several settings have. The page shows them as one table, in
        which a reader chooses the setting.
        """
        return cls(
            name,
            f"{family}, {label}",
            header,
            groups,
            notes,
            text_columns,
            text_last,
            family=family,
            label=label,
        )

    @property
    def alignment(self) -> tuple[bool, ...]:
        """True for each column of numbers, which is right-aligned."""
        alignment = [place >= self.text_columns for place in range(len(self.header))]
        if self.text_last:
            alignment[-1] = False
        return tuple(alignment)

    @property
    def columns(self) -> list[Column]:
        """The columns, with the names of the numbers in their cells."""
        rows = [row for group in self.groups for row in group.rows]
        columns = []
        for place, (heading, is_number) in enumerate(zip(self.header, self.alignment, strict=True)):
            title, _, rest = heading.partition("\n")
            num_parts = max((len(row[place].numbers) for row in rows), default=0)
            columns.append(Column(title, rest, is_number, number_names(heading, num_parts)))
        return columns


def cell_widths(table: Table) -> list[int]:
    """Return the characters of each column's longest cell, without its heading."""
    rows = [row for group in table.groups for row in group.rows]
    return [
        max((len(row[place].text) for row in rows), default=0) for place in range(len(table.header))
    ]


def without_columns(table: Table, headings: Collection[str]) -> Table:
    """Return the table without the columns of numbers, or the last one, with these headings."""
    places = [place for place, heading in enumerate(table.header) if heading not in headings]
    groups = []
    for group in table.groups:
        rows = tuple(tuple(row[place] for place in places) for row in group.rows)
        groups.append(replace(group, rows=rows))
    header = tuple(table.header[place] for place in places)
    text_last = table.text_last and table.header[-1] not in headings
    return replace(table, header=header, groups=tuple(groups), text_last=text_last)


def number_names(heading: str, count: int) -> tuple[str, ...]:
    r"""Return the names of the numbers in a column's cells from its heading's last line, such as
    "mean ± s.e. ↑". If the heading doesn't name them, they are numbered.

    >>> number_names("Confidence drop\nmean ± s.e.", 2)
    ('mean', 's.e.')
    """
    if count < 2:
        return ()
    words = re.findall(r"[^()\[\]/,\u00b1\u2191\u2193\u00a0]*[\w.%]", heading.rpartition("\n")[2])
    names = [word.strip() for word in words]
    if len(names) == 2 and count == 3:  # "mean [95 %]"
        names = [names[0], "low", "high"]
    if len(names) != count:
        names = [str(place) for place in range(1, count + 1)]
    return tuple(names)


def number_cell(value: float, text: str | None = None, bold: bool = False) -> Cell:
    """Return a cell with a number, written by `number` unless `text` is given. A number that isn't
    finite has no place in an order.
    """
    numbers = (float(value),) if math.isfinite(value) else ()
    return Cell(number(value) if text is None else text, bold, numbers)


def count_cell(value: float) -> Cell:
    """Return a cell with a whole number and a separator of thousands; a dash for NaN."""
    return Cell(NOTHING) if pd.isna(value) else number_cell(value, f"{int(value):,}")


def interval_cell(
    value: float, low: float, high: float, rounding: float, bold: bool = False
) -> Cell:
    """Return a cell with a value and the ends of its interval, "0.284 [0.230, 0.354]"."""
    numbers = tuple(filter(math.isfinite, map(float, (value, low, high))))
    return Cell(with_interval(value, low, high, rounding), bold, numbers)


def span_cell(low: float, high: float, rounding: float) -> Cell:
    """Return a cell from the least to the greatest number, "0.101 to 0.150". If both print the
    same, it has one number.
    """
    ends = (number(low, rounding), number(high, rounding))
    return Cell(" to ".join(dict.fromkeys(ends)), numbers=(float(low), float(high)))


_MARKUP = re.compile(r"[\\`*|<\[\]~]|&(?=[#\w]+;)|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_UNPRINTED = re.compile("[\x00-\t\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def to_markdown(table: Table) -> str:
    """Return the table in GitHub's Markdown: a heading and a table for each group, the best in
    bold, the notes below.
    """
    parts = [f"# {_markdown(table.title)}"]
    rule = "|".join("---:" if is_number else ":---" for is_number in table.alignment)
    for group in table.groups:
        if group.title:
            parts.append(f"## {_markdown(group.title)}")
        lines = [
            _markdown_line(map(Cell, table.header)),
            f"|{rule}|",
            *map(_markdown_line, group.rows),
        ]
        parts.append("\n".join(lines))
    for note in table.notes:
        # A sign that would begin a heading, a quotation or a list is escaped too.
        parts.append(re.sub(r"^(\d*)([#>+=.)-])", r"\1\\\2", _markdown(note).lstrip()))
    return "\n\n".join(parts) + "\n"


def _markdown_line(row: Iterable[Cell]) -> str:
    """Return a row of a Markdown table."""
    texts = []
    for cell in row:
        text = _markdown(cell.text)
        texts.append(f"**{text}**" if cell.bold else text)
    return f"| {' | '.join(texts)} |"


def _markdown(text: str) -> str:
    """Escape the signs of a text that would be markup or a link, and remove signs that aren't
    printed. An underscore inside a word is no markup in GitHub's Markdown, so names stay readable.
    """
    printed = _UNPRINTED.sub("", _LINE_END.sub("\n", text)).strip(" ")
    return _MARKUP.sub(r"\\\g<0>", printed).replace("\n", "<br>")


def to_text(table: Table) -> list[str]:
    """Return the table in columns, its title first, its notes last."""
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
# A number, or "-", the method of values of the layer alone.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-", re.ASCII)


def to_csv(frame: pd.DataFrame) -> str:
    """Return the table without its index as CSV, for people who open it in a spreadsheet. Numbers
    stay as they are; texts are `quoted`. The page's scripts write their CSV by the same rule.
    """
    texts = {}
    for name, column in frame.items():
        if not pd.api.types.is_numeric_dtype(column):
            texts[str(name)] = column.astype(object).map(
                lambda entry: quoted(entry) if isinstance(entry, str) else entry
            )
    quoted_frame = frame.assign(**texts).rename(columns=quoted)
    text = str(quoted_frame.to_csv(index=False, lineterminator="\n"))
    if "\r" not in text:
        return text
    # Without quotes, a lone \r would end the row for a spreadsheet, and the rest of the text would
    # be a cell of its own.
    return str(quoted_frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def quoted(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would compute it as a formula.
    Spreadsheets take the apostrophe for "text". A text that has one already gets another, so that
    `unquoted` gives every text back.

    >>> quoted("=1+1"), quoted("-0.5"), quoted("a=1")
    ("'=1+1", '-0.5', 'a=1')
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def unquoted(text: str) -> str:
    """Return the text that `quoted` was given."""
    return text[1:] if QUOTED.match(text) else text
