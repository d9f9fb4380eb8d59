"""How wide a table's columns must be, from the widths of Computer Modern's letters: LaTeX itself can't choose them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from axiom_bench.report.tables.table import Table

POINTS = 72.27  # an inch
SEPARATION = 8.0  # points between two columns
SIZES = {"small": 9.0, "footnotesize": 8.0, "scriptsize": 7.0}  # points, in a document of 10 points
WIDER = {9.0: 1.06, 8.0: 1.09, 7.0: 1.17}  # of small letters, which Computer Modern draws wider; and a margin
_EM = {
    **dict.fromkeys("abdghknpqu$+=_#-", 0.53),
    **dict.fromkeys("0123456789", 0.56),  # in bold
    **dict.fromkeys("ceosvxyz?", 0.5),
    **dict.fromkeys("fijlt.,:;!'|() []/ ", 0.36),
    **dict.fromkeys("r", 0.4),
    **dict.fromkeys("mwMW%", 0.95),
}
OTHER = 0.78  # em: capitals and signs


@dataclass(frozen=True)
class Layout:
    """size: of the font, a name of SIZES. parts: tables below each other that together are the whole one; each the
    indices of its columns with their widths in points. width: of a line, in points."""

    size: str
    parts: tuple[tuple[tuple[int, float], ...], ...]
    width: float

    def lines(self, table: Table) -> int:
        """How many lines the rows of the largest part take."""
        return max(sum(self._row_lines(table, row, dict(part)) for row in _rows(table)) for part in self.parts)

    def _row_lines(self, table: Table, texts: Sequence[str], widths: dict[int, float]) -> int:
        if len(texts) == 1:  # a group's title
            return 1
        size = SIZES[self.size]
        return max(1 + int(text_width(texts[i], size) / (1.01 * width)) for i, width in widths.items())


def text_width(text: str, size: float) -> float:
    """Of text in one line, in points."""
    return WIDER[size] * size * sum(_EM.get(sign, OTHER) for sign in text)


def fit(table: Table, inches: float) -> Layout:
    """The largest font in which the table fits the width without a number or a row's name in two lines; else with; else
    the smallest font, in as many parts as need be, each with the first column."""
    width = inches * POINTS
    widths = {size: _widths(table, points, width) for size, points in SIZES.items()}
    columns = range(len(table.header))
    in_one_line = [i == 0 or right for i, right in enumerate(table.alignment)]
    for is_whole in (in_one_line, [False] * len(columns)):
        for size, (least, natural) in widths.items():
            wanted = [natural[i] if is_whole[i] else least[i] for i in columns]
            if _total(wanted, columns) <= width:
                return Layout(size, (_spread(wanted, natural, columns, width),), width)
    return Layout(size, tuple(_spread(least, natural, part, width) for part in _parts(least, width)), width)


def _widths(table: Table, size: float, width: float) -> tuple[list[float], list[float]]:
    """Of each column: of its widest piece that can't be broken, and of its widest cell in one line."""
    rows = [texts for texts in _rows(table) if len(texts) > 1]
    columns = list(zip(*rows, strict=True)) or [()] * len(table.header)
    least, natural = [], []
    for header, texts, right in zip(table.header, columns, table.alignment, strict=True):
        most = 0.45 * width  # a word that is longer breaks anywhere
        shown = [_typeset(text) for text in texts] if right else texts
        smallest = _widest(shown, size, _pieces_of_number if right else _words)
        least.append(min(max(smallest, _widest([header], size, _words)), most))
        in_one_line = _widest(shown, size, lambda text: [text])
        natural.append(max(least[-1], in_one_line, _widest([header], size, str.splitlines)))
    return least, natural


def _widest(texts: Iterable[str], size: float, pieces: Callable[[str], list[str]]) -> float:
    return max((text_width(piece, size) for text in texts for piece in pieces(text)), default=0.0)


def _words(text: str) -> list[str]:
    """What may stand on lines of their own: words, and their parts after an underscore."""
    return re.findall(r"[^ \n_]*_?", text)


def _typeset(number: str) -> str:
    """A number's text in the signs of its typeset form: a true minus, a power of ten."""
    return re.sub(r"(\d)e", r"\1M10", number.replace("<1e", "<10")).replace("-", "M")


def _pieces_of_number(text: str) -> list[str]:
    return re.split(r" (?=[(\[])", text)


def _total(widths: Sequence[float], part: Sequence[int]) -> float:
    return sum(widths[i] for i in part) + SEPARATION * (len(part) - 1)


def _parts(least: Sequence[float], width: float) -> list[list[int]]:
    parts: list[list[int]] = []
    for i in range(1, len(least)):
        if parts and _total(least, [*parts[-1], i]) <= width:
            parts[-1].append(i)
        else:
            parts.append([0, i])
    return parts


def _spread(
    least: Sequence[float], natural: Sequence[float], part: Sequence[int], width: float
) -> tuple[tuple[int, float], ...]:
    """The part's columns with their widths: what is left of the line goes to those that would break their text."""
    left = max(0.0, width - _total(least, part))
    wanted = sum(natural[i] - least[i] for i in part)
    share = min(1.0, left / wanted) if wanted else 0.0
    return tuple((i, least[i] + share * (natural[i] - least[i])) for i in part)


def _rows(table: Table) -> list[list[str]]:
    """The texts of all rows; a group's title is a row of one."""
    rows: list[list[str]] = []
    for group in table.groups:
        rows += [[group.title]] if group.title else []
        rows += [[cell.text for cell in row] for row in group.rows]
    return rows
