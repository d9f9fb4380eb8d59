"""index.md and index.html: for each figure and table of the paper the files, the command, and how our definition
compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.records import files
from axiom_bench.report.page.html import render
from axiom_bench.report.tables.table import Table, to_markdown


@dataclass(frozen=True)
class Picture:
    """file: of a figure, a PNG as wide as a page."""

    file: str
    caption: str


@dataclass(frozen=True)
class IndexEntry:
    """What was made of an exhibit. command: of the run that it is from. files: names in the folder. left_out: why
    figures or tables aren't there. missing: what the run lacks of the paper's study; empty for nothing.
    """

    exhibit: Exhibit
    command: str
    files: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    left_out: tuple[str, ...]
    missing: str


def write_index(folder: Path, entries: Sequence[IndexEntry], command: str, failures: Mapping[str, str]) -> Path:
    """Write both; the path of index.html. command: that made the folder. failures: {network: why it didn't run}.

    Raises BenchError where the folder can't be written.
    """
    files.write(folder / "index.md", "\n".join(_markdown(entries, command, failures)).encode())
    page = render("paper.html.j2", paper=paper(), entries=entries, command=command, failures=failures)
    files.write(folder / "index.html", page.encode())
    return folder / "index.html"


def _markdown(entries: Sequence[IndexEntry], command: str, failures: Mapping[str, str]) -> Iterator[str]:
    yield f"# The paper's figures and tables\n\n{paper().source}. {paper().numbers}\n"
    yield f"Made by `{command}`\n"
    yield from (f"- {name} didn't run: {reason}" for name, reason in failures.items())
    for entry in entries:
        exhibit = entry.exhibit
        yield f"## {exhibit.number}: {exhibit.title}\n"
        yield from (f"![{exhibit.number}]({picture.file})\n\n{picture.caption}\n" for picture in entry.pictures)
        yield from (to_markdown(table).replace("# ", "### ", 1) for table in entry.tables)
        yield from (f"{sentence}\n" for sentence in (*entry.left_out, entry.missing) if sentence)
        yield f"Shared with the paper: {exhibit.shares}\n"
        yield f"Different: {exhibit.differs}\n"
        yield f"Command: `{entry.command}`\n"
        yield f"Files: {', '.join(f'[{name}]({name})' for name in entry.files) or 'none'}\n"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper.

    number: the paper's. file: what our files' names begin with. figures: what the names of our figures begin with.
    tables: metrics with a short table each. against: the method beside which run times are shown. two_classes: only
    images that show exactly two classes count. shares, differs: our definition beside the paper's text.
    """

    number: str
    file: str
    title: str
    shares: str
    differs: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    against: str | None = None
    two_classes: bool = False


@dataclass(frozen=True)
class Paper:
    """source: its citation. networks, images: those of its study. instead: networks that stand in for them where they
    have no weights. numbers: what is known of the paper's own numbers, a sentence."""

    source: str
    networks: tuple[str, ...]
    instead: tuple[str, ...]
    images: int
    numbers: str
    exhibits: tuple[Exhibit, ...]


@cache
def paper() -> Paper:
    """As conf/paper.yaml has it."""
    content: dict[str, Any] = yaml.safe_load((conf_folder() / "paper.yaml").read_text())
    exhibits = tuple(Exhibit(**_tuples(entry)) for entry in content.pop("exhibits"))
    return Paper(**_tuples(content), exhibits=exhibits)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
