"""index.md and index.html: for each figure and table of the paper the files, the command, and how our definition
compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.records import files
from axiom_bench.report.page.templating import render
from axiom_bench.report.paper.exhibits import Exhibit, paper


@dataclass(frozen=True)
class Entry:
    """What was made of an exhibit. files: names in the folder. left_out: why figures or tables aren't there. missing:
    what the run lacks of the paper's study; empty for nothing."""

    exhibit: Exhibit
    command: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: str

    @property
    def pictures(self) -> list[str]:
        """The PNGs that are as wide as a page."""
        return [name for name in self.files if name.endswith(".png") and "_column" not in name]


def write_index(folder: Path, entries: Sequence[Entry]) -> Path:
    """Write both; the path of index.html. Raises BenchError where the folder can't be written."""
    files.write(folder / "index.md", "\n".join(_markdown(entries)).encode())
    files.write(folder / "index.html", render("paper.html.j2", paper=paper(), entries=entries).encode())
    return folder / "index.html"


def _markdown(entries: Sequence[Entry]) -> Iterator[str]:
    yield f"# The paper's figures and tables\n\n{paper().source}. {paper().numbers}\n"
    for entry in entries:
        exhibit = entry.exhibit
        yield f"## {exhibit.number}: {exhibit.title}\n"
        yield from (f"![{exhibit.number}]({name})\n" for name in entry.pictures)
        yield from (f"{sentence}\n" for sentence in (*entry.left_out, entry.missing) if sentence)
        yield f"Shared with the paper: {exhibit.shares}\n"
        yield f"Different: {exhibit.differs}\n"
        yield f"Command: `{entry.command}`\n"
        yield f"Files: {', '.join(f'[{name}]({name})' for name in entry.files) or 'none'}\n"
