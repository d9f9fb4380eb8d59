"""Run folders and parts of pages, for the tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

from axiom_bench.report.tables.table import Cell
from tests.made_runs import edit_manifest, make_records, make_run, undrawn, usual, usual_run  # noqa: F401


def row(*texts: str, bold: Sequence[int] = ()) -> tuple[Cell, ...]:
    """Return a table's row of these texts. `bold` has the column numbers of the bold ones."""
    return tuple(Cell(text, column in bold) for column, text in enumerate(texts))


class Structure(HTMLParser):
    """The elements and texts of a page. An end tag must close the element that was opened last.

    Attributes:
        elements: Each start tag with its attributes.
        words: The texts of elements that are neither data nor code.
        data: The texts of data and code, by the element's id or tag.
        unclosed: The tags of elements that are open.
    """

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.data: dict[str, str] = {}
        self.unclosed: list[str] = []
        self._code = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        self._code = values.get("id", tag) if tag in ("script", "style") else ""
        if tag not in self.VOID:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:  # the parser calls it also for "<br/>"
        if tag not in self.VOID:
            self._code = ""
            assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._code:
            self.data[self._code] = self.data.get(self._code, "") + data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements with `tag`."""
        return [attributes for name, attributes in self.elements if name == tag]
