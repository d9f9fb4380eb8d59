"""Tables as GitHub's Markdown: a heading and a table for each group, the best in bold, the notes below."""

from __future__ import annotations

import re

from axiom_bench.report.tables.table import Cell, Table


def to_markdown(table: Table) -> str:
    parts = [f"# {_escape(table.title)}"]
    rule = "|".join("---:" if right else ":---" for right in table.alignment)
    for group in table.groups:
        if group.title:
            parts.append(f"## {_escape(group.title)}")
        header = [Cell(text) for text in table.header]
        lines = [_line(header), f"|{rule}|", *(_line(row) for row in group.rows)]
        parts.append("\n".join(lines))
    parts.extend(_escape(note) for note in table.notes)
    return "\n\n".join(parts) + "\n"


def _line(row: tuple[Cell, ...] | list[Cell]) -> str:
    return "| " + " | ".join(f"**{_escape(cell.text)}**" if cell.bold else _escape(cell.text) for cell in row) + " |"


def _escape(text: str) -> str:
    """What would be markup; an underscore inside a word is none in GitHub's Markdown, and names stay readable."""
    return re.sub(r"([\\`*|<\[\]])", r"\\\1", text).replace("\n", "<br>")
