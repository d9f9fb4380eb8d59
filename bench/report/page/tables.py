"""Tables in the page: HTML that reads and prints without a script, and what the script needs to sort and copy them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from axiom_bench.report.page.definitions import Terms
from axiom_bench.report.page.html import Section, render
from axiom_bench.report.tables.table import Table

STYLES, SCRIPTS = ("tables.css",), ("panels.js", "tables_sort.js", "tables_filter.js", "tables_copy.js")
OPEN = ("statuses", "runtime")


@dataclass(frozen=True)
class Column:
    """title, rest: the first line of the heading and the others. term: anchor of its definition, or empty.

    parts: names of the numbers in a cell, where it holds several, such as ("mean", "s.e.").
    """

    title: str
    rest: str
    is_number: bool
    term: str
    parts: tuple[str, ...]


def overview(table: Table, terms: Terms) -> Section:
    """The one table that stands open before all others."""
    return Section("overview", "Overview", block([table], terms), STYLES, SCRIPTS)


def section(tables: Iterable[Table], terms: Terms) -> Section:
    """All tables, each family of settings as one with a switch."""
    families = [(name, list(group)) for name, group in groupby(tables, lambda table: table.family or table.title)]
    body = Markup("").join(
        render("folded.html.j2", title=title, body=block(group, terms), open=group[0].name in OPEN)
        for title, group in families
    )
    return Section("tables", "Tables", body, STYLES, SCRIPTS)


def block(tables: Sequence[Table], terms: Terms) -> Markup:
    """Tables with the same columns, one for each setting, under one set of filters."""
    panels = [render("table.html.j2", table=table, columns=_columns(table, terms), terms=terms) for table in tables]
    labels = [table.label for table in tables]
    return render("table_block.html.j2", panels=list(zip(labels, panels, strict=True)))


def _columns(table: Table, terms: Terms) -> list[Column]:
    columns = []
    for place, text in enumerate(table.header):
        title, _, rest = text.partition("\n")
        cells = (row[place] for group in table.groups for row in group.rows)
        count = max((len(cell.numbers) for cell in cells), default=0)
        columns.append(Column(title, rest, table.alignment[place], terms.titles.get(title, ""), _parts(text, count)))
    return columns


def _parts(heading: str, count: int) -> tuple[str, ...]:
    """Names of the numbers in a column's cells, as its heading's last line says them: "mean ± s.e. ↑".

    >>> _parts("Confidence drop\\nmean \u00b1 s.e.", 2)
    ('mean', 's.e.')
    """
    if count < 2:
        return ()
    words = re.findall(r"[^()\[\]/,\u00b1\u2191\u2193\u00a0]*[\w.%]", heading.rpartition("\n")[2])
    names = [word.strip() for word in words]
    if len(names) == 2 and count == 3:  # "mean [95 %]"
        names = [names[0], "low", "high"]
    return tuple(names) if len(names) == count else tuple(str(place) for place in range(1, count + 1))
