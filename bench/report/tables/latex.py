r"""Tables as LaTeX with booktabs, to be \input: as wide as a column or a page, and longer than one as a longtable.

Any text is escaped, and typeset by pdfLaTeX without packages or font encodings of a document's own. Columns are shares
of the line, by how many letters they hold; LaTeX breaks the lines in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from axiom_bench.records.files import safe_name
from axiom_bench.report.options import COLUMN, PAGE
from axiom_bench.report.tables.table import Cell, Table

NEEDS = r"% Needs \usepackage{array,booktabs,longtable}."
LONG_NEEDS = r" A longtable: in a document of two columns after \onecolumn."
PAGE_LINES = 46  # that a float may have
POINTS = 72.27  # an inch
SEPARATION = 8.0  # points between two columns
LETTERS = {"small": 4.85, "footnotesize": 4.45, "scriptsize": 4.2}  # points: the mean width of a letter of the size
Part = Mapping[int, float]
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # after a row's end, the bare sign opens an option
    "]": "{]}",
    "*": "{*}",  # there as well
    "\n": " ",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{LEFTWARDS ARROW}": r"$\leftarrow$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "\N{INFINITY}": r"$\infty$",
    "\N{DAGGER}": r"\dag{}",
    **{chr(0x3B1 + i): f"$\\{name}$" for i, name in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))},
}
# Of the Latin letters, those that LaTeX's own font encoding (OT1) doesn't have.
_NOT_IN_OT1 = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
_PUNCTUATION = "‐‑‒—‘’“”‡•…"  # noqa: RUF001 - dashes and quotation marks that LaTeX typesets
LONG_WORD = 24  # letters: a word that is longer may break anywhere


@dataclass(frozen=True)
class Layout:
    """size: of the font, a name of LETTERS. parts: tables below each other that together are the whole one; each
    {column: its letters}. width: of the line, in points."""

    size: str
    parts: tuple[Part, ...]
    width: float

    def lines(self, table: Table) -> float:
        """About how many lines the largest part takes, with its notes, each a float's."""
        rows = [row for group in table.groups for row in group.rows]
        titles = sum(bool(group.title) for group in table.groups)
        part = max(
            sum(max(1 + int(len(row[i].text) / (1.01 * letters)) for i, letters in part.items()) for row in rows)
            for part in self.parts
        )
        notes = sum(map(len, table.notes)) * LETTERS["scriptsize"] / self.width
        return len(self.parts) * (3 + titles + part) + notes


def fit(table: Table, inches: float) -> Layout:
    """The largest font in which the table fits the width without a number or a row's name in two lines, else with. Else
    the smallest font, in as many parts as need be, each with the first column."""
    width, columns = inches * POINTS, range(len(table.header))
    least, natural = _letters(table)
    in_one_line = [natural[i] if i == 0 or right else least[i] for i, right in enumerate(table.alignment)]
    for wanted in (in_one_line, least):
        for size in LETTERS:
            room = _room(width, size, len(columns))
            if sum(wanted) <= room:
                return Layout(size, (_spread(wanted, natural, columns, room),), width)
    size, parts = "scriptsize", [[0]]
    for i in columns[1:]:
        if sum(least[j] for j in (*parts[-1], i)) > _room(width, size, len(parts[-1]) + 1) and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)
    return Layout(size, tuple(_spread(least, natural, part, _room(width, size, len(part))) for part in parts), width)


def _room(width: float, size: str, columns: int) -> float:
    """The letters in a line, between the gaps of its columns."""
    return (width - SEPARATION * (columns - 1)) / LETTERS[size]


def _letters(table: Table) -> tuple[list[float], list[float]]:
    """Of each column: of its longest piece that can't be broken, and of its longest cell in one line; each with one
    letter more, since some are wide."""
    least, natural = [], []
    for i, (header, right) in enumerate(zip(table.header, table.alignment, strict=True)):
        cells = [row[i].text for group in table.groups for row in group.rows]
        cells = [_typeset(text) for text in cells] if right else cells
        pieces = [piece for text in cells for piece in (re.split(r" (?=[(\[])", text) if right else _words(text))]
        least.append(1.0 + min(LONG_WORD, max(map(len, (*pieces, *_words(header))), default=0)))
        natural.append(1.0 + max(map(len, (*cells, *header.split("\n")))))
    return least, [max(pair) for pair in zip(least, natural, strict=True)]


def _words(text: str) -> list[str]:
    """What may stand on lines of their own: words, and their parts after an underscore."""
    return re.findall(r"[^ \n_]*_?", text)


def _typeset(number: str) -> str:
    """A number's text with as many letters as its typeset form: a wide minus, a power of ten."""
    return re.sub(r"(\d)e", r"\1x10", number.replace("<1e", "<10"))


def _spread(least: Sequence[float], natural: Sequence[float], part: Sequence[int], room: float) -> dict[int, float]:
    """The part's columns with their letters: what is left of the line goes to those that would break their text."""
    left = max(0.0, room - sum(least[i] for i in part))
    wanted = sum(natural[i] - least[i] for i in part)
    share = min(1.0, left / wanted) if wanted else 0.0
    return {i: least[i] + share * (natural[i] - least[i]) for i in part}


def to_latex(table: Table, width: str = "auto") -> str:
    r"""Needs \usepackage{array,booktabs}, and {longtable} where the table is longer than a page.

    width: "column" (3.3 in), "page" (7 in), or "auto", a column where the table fits in one piece and on one page,
    else a page. A table that is too wide even for that is cut into parts, each with the first column.
    """
    column, page = fit(table, COLUMN), fit(table, PAGE)
    is_column = width == "column" or (width == "auto" and len(column.parts) == 1)
    layout = column if is_column and column.lines(table) <= PAGE_LINES else page
    if layout.lines(table) > PAGE_LINES:
        return "\n".join([NEEDS + LONG_NEEDS, *_longtables(table, layout)]) + "\n"
    return "\n".join([NEEDS, *_float(table, layout, "table" if layout is column else "table*")]) + "\n"


def _float(table: Table, layout: Layout, environment: str) -> Iterator[str]:
    yield f"\\begin{{{environment}}}"
    yield f"\\centering\\{layout.size}\\setlength{{\\tabcolsep}}{{{SEPARATION / 2:g}pt}}"
    yield _caption(table)
    for i, part in enumerate(layout.parts):
        yield from [r"\par\medskip"] if i else []
        columns = _columns(table, layout, part)
        yield f"\\begin{{tabular}}{{@{{}}{''.join(columns)}@{{}}}}"
        yield from (*_head(table, columns, part), *_body(table, layout, part), r"\bottomrule", r"\end{tabular}")
    if table.notes:
        yield rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {_notes(table)}}}"
    yield f"\\end{{{environment}}}"


def _longtables(table: Table, layout: Layout) -> Iterator[str]:
    yield rf"\begingroup\{layout.size}\setlength{{\tabcolsep}}{{{SEPARATION / 2:g}pt}}"
    yield r"\setlength{\LTcapwidth}{\linewidth}"
    for i, part in enumerate(layout.parts):
        columns, last = _columns(table, layout, part), i == len(layout.parts) - 1
        head = _head(table, columns, part)
        yield f"\\begin{{longtable}}{{@{{}}{''.join(columns)}@{{}}}}"
        yield (rf"\caption*{{{escape(table.title)}, further columns.}}\\" if i else rf"{_caption(table)}\\")
        yield from (*head, r"\endfirsthead", *head, r"\endhead")
        yield rf"\midrule\multicolumn{{{len(part)}}}{{r}}{{continued}}\\"
        yield from (r"\endfoot", r"\bottomrule")
        if table.notes and last:
            across = rf"\multicolumn{{{len(part)}}}{{@{{}}p{{\linewidth}}@{{}}}}"
            yield rf"{across}{{\scriptsize\raggedright\rule{{0pt}}{{3ex}}{_notes(table)}}}\\"
        yield from (r"\endlastfoot", *_body(table, layout, part), r"\end{longtable}")
    yield r"\endgroup"


def _caption(table: Table) -> str:
    return f"\\caption{{{escape(table.title)}.}}\\label{{tab:{safe_name(table.name).replace('_', '-')}}}"


def _notes(table: Table) -> str:
    return " ".join(map(breakable, table.notes))


def _columns(table: Table, layout: Layout, part: Part) -> list[str]:
    """Each column as a share of the line, so that the table fits documents of other widths as well."""
    gaps = SEPARATION * (len(part) - 1)
    room = (layout.width - gaps) / LETTERS[layout.size]
    sides = {i: "raggedleft" if table.alignment[i] else "raggedright" for i in part}
    return [
        rf">{{\{sides[i]}\arraybackslash}}p{{{letters / room:.4f}\dimexpr\linewidth-{gaps:g}pt\relax}}"
        for i, letters in part.items()
    ]


def _head(table: Table, columns: Sequence[str], part: Part) -> list[str]:
    """Headings stand at the bottom of their row."""
    first, *others = (column.replace("}p{", "}b{") for column in columns)
    kinds = ["@{}" + first, *others]
    kinds[-1] += "@{}"
    texts = (r"\newline ".join(map(breakable, table.header[i].split("\n"))) for i in part)
    headings = (rf"\multicolumn{{1}}{{{kind}}}{{{text}}}" for kind, text in zip(kinds, texts, strict=True))
    return [r"\toprule", " & ".join(headings) + r" \\", r"\midrule"]


def _body(table: Table, layout: Layout, part: Part) -> list[str]:
    lines: list[str] = []
    whole = (sum(part.values()) * LETTERS[layout.size] + SEPARATION * (len(part) - 1)) / layout.width
    across = rf"\multicolumn{{{len(part)}}}{{@{{}}>{{\raggedright\arraybackslash}}p{{{whole:.4f}\linewidth}}@{{}}}}"
    for i, group in enumerate(table.groups):
        if i:
            lines.append(r"\midrule")
        if group.title:
            lines.append(rf"{across}{{\textit{{{breakable(group.title)}}}}} \\*")
        lines.extend(" & ".join(_cell(row[i], table.alignment[i]) for i in part) + r" \\" for row in group.rows)
    return lines


def _cell(cell: Cell, is_number: bool) -> str:
    text = number(cell.text) if is_number else breakable(cell.text)
    return rf"\textbf{{\boldmath {text}}}" if cell.bold else text


def escape(text: str) -> str:
    """Text with every character that LaTeX would take for its own; what pdfLaTeX can't typeset becomes U+ and its code.

    >>> escape("xgrad_cam, 5 %")
    'xgrad\\\\_cam, 5 \\\\%'
    """
    return "".join(map(_escaped, text))


def breakable(text: str) -> str:
    """As `escape`; words may break after an underscore, and long ones anywhere."""
    return " ".join(map(_breakable_word, text.split(" ")))


def number(text: str) -> str:
    r"""A number's text, escaped: a true minus, powers of ten, no break inside but before a bracket.

    >>> number("<1e-6 (-0.5)")
    '$<10^{-6}$ ($-$0.5)'
    """
    escaped = escape(text).replace("$<$1e-6", "$<10^{-6}$")
    escaped = re.sub(r"(\d)e(-?\d+)", r"\1$\\cdot10^{\2}$", escaped)
    escaped = re.sub(r"(^|[( ]|\{\[\})-(?=\d)", r"\1$-$", escaped)
    return re.sub(r" (?![(]|\{\[\})", "~", escaped)


def _breakable_word(word: str) -> str:
    if len(word) > LONG_WORD:
        return r"\allowbreak{}".join(map(_escaped, word))
    return re.sub(r"\\_(?=.)", r"\\_\\allowbreak{}", escape(word))


def _escaped(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    is_plain = " " <= sign <= "~" or sign in _PUNCTUATION or ("\xa1" <= sign <= "\u017f" and sign not in _NOT_IN_OT1)
    return sign if is_plain else f"U+{ord(sign):04X}"
