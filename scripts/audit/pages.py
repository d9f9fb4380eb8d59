"""Pages whose prose is written by hand and whose numbers are measured: tables, lists and sections are replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
AGREES = 1e-5  # the largest difference of two that agree: the libraries compute in float32


class Page:
    """A page of docs/. Its methods raise SystemExit where it lacks what they replace."""

    def __init__(self, name: str) -> None:
        self.name, self.text = name, (DOCS / name).read_text(encoding="utf-8")

    def replace(self, pattern: str, text: str) -> None:
        """What a pattern matches first, `^` and `$` the ends of a line."""
        match = re.search(pattern, self.text, re.MULTILINE)
        if match is None:
            raise SystemExit(f"docs/{self.name} lacks what is to be replaced: {pattern}")
        self.text = self.text[: match.start()] + text + self.text[match.end() :]

    def replace_table(self, header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> None:
        """The table that has this header."""
        start = re.escape(f"| {' | '.join(header)} |\n")
        self.replace(rf"^{start}(\|.*\n)+", "\n".join(table(header, rows, text_columns)))

    def write(self, folder: Path) -> None:
        """Under its name in a folder."""
        (folder / self.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / self.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / self.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_text(self.text.rstrip() + "\n", encoding="utf-8")
        print(f"page: {folder / self.name}", flush=True)


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
