"""Tables as GitHub's Markdown: a heading and a table for each group, the best in bold, the notes below."""

from __future__ import annotations

import re

from axiom_bench.report.tables.table import Cell, Table

_MARKUP = re.compile(r"[\\`*|<\[\]~]|&(?=[#\w]+;)|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_UNPRINTED = re.compile("[\x00-\t\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def to_markdown(table: Table) -> str:
    parts = [f"# {_escape(table.title)}"]
    rule = "|".join("---:" if right else ":---" for right in table.alignment)
    for group in table.groups:
        if group.title:
            parts.append(f"## {_escape(group.title)}")
        header = [Cell(text) for text in table.header]
        lines = [_line(header), f"|{rule}|", *(_line(row) for row in group.rows)]
        parts.append("\n".join(lines))
    parts.extend(_paragraph(note) for note in table.notes)
    return "\n\n".join(parts) + "\n"


def _line(row: tuple[Cell, ...] | list[Cell]) -> str:
    return "| " + " | ".join(f"**{_escape(cell.text)}**" if cell.bold else _escape(cell.text) for cell in row) + " |"


def _paragraph(text: str) -> str:
    """What would begin a heading, a quotation or a list is escaped too."""
    return re.sub(r"^(\d*)([#>+=.)-])", r"\1\\\2", _escape(text).lstrip())


def _escape(text: str) -> str:
    """What would be markup, or a link; what isn't printed is left out. An underscore inside a word is no markup in
    GitHub's Markdown, and names stay readable."""
    printed = _UNPRINTED.sub("", _LINE_END.sub("\n", text)).strip(" ")
    return _MARKUP.sub(r"\\\g<0>", printed).replace("\n", "<br>")
