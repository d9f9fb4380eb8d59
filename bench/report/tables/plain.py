"""Tables for a terminal: columns of text."""

from __future__ import annotations

from collections.abc import Sequence

from axiom_bench.report.tables.table import Table


def to_text(table: Table) -> list[str]:
    """The table in columns, its title first, its notes last."""
    header = [text.replace("\n", " ") for text in table.header]
    body = [tuple(cell.text for cell in cells) for group in table.groups for cells in group.rows]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [_line(cells, widths, table.alignment) for cells in (header, *body)]
    return [table.title, *lines, *table.notes]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = (text.rjust(width) if to_right else text.ljust(width)
               for text, width, to_right in zip(cells, widths, right, strict=True))  # fmt: skip
    return "  " + "  ".join(aligned).rstrip()
