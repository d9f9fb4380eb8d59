r"""Tables as LaTeX, to be \input: with booktabs, and as a longtable if they exceed a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from axiom_bench.records.files import safe_name
from axiom_bench.report.tables.table import Cell, Table, cell_widths

NEEDS = r"% Needs \usepackage[T1]{fontenc} and \usepackage{array,booktabs}."
LONG_NEEDS = (
    r"% Needs \usepackage[T1]{fontenc} and \usepackage{array,booktabs,longtable}, and one column."
)
FLOAT_ROWS = 40  # the most rows of a table that isn't a longtable
SIZE = r"\footnotesize\setlength{\tabcolsep}{4pt}"
MAX_WORDS = 36  # characters of a column of words; a wider one has lines of a fixed width
LINE = 110  # characters that fit on a line of a page, about 6.5 inches
MIN_SHARE = 0.15  # of a line, for a column of words that is too wide
MIN_HEADING = 10  # characters of a line of a heading; narrower columns are as wide as this
GAP = 2  # characters between two columns
MAX_TITLE = 70  # characters of a group's title; a longer one has several lines
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # at the beginning of a row, the bare sign is an option of the row before
    "*": "{*}",  # at the beginning of a row, it would be a starred command of the row before
    "\n": " ",
    # Signs of our own headings and numbers that pdfLaTeX doesn't know.
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
    "\N{ALMOST EQUAL TO}": r"$\approx$",
    "\N{DAGGER}": r"\dag{}",
}
_PUNCTUATION = "‐‑‒—‘’“”‡•…"  # noqa: RUF001 - dashes and quotation marks that pdfLaTeX typesets


def to_latex(table: Table) -> str:
    """Return the table as LaTeX, with its caption above and its footnote below. A table without a
    footnote has its notes there. Each group of rows has its title in a row of its own.
    """
    is_long = sum(len(group.rows) for group in table.groups) > FLOAT_ROWS
    footnote = table.footnote
    if footnote is None:
        footnote = " ".join(table.notes)
    caption = rf"\caption{{{escape(table.caption or f'{table.title}.')}}}"
    label = rf"\label{{tab:{safe_name(table.name).replace('_', '-')}}}"
    columns = _columns(table)
    header = list(_header_rows(table))
    body = list(_body(table))
    lines = [LONG_NEEDS if is_long else NEEDS]
    lines += [f"% {_comment(comment)}" for comment in table.comments]
    if is_long:
        lines += [
            f"{{{SIZE}",
            rf"\begin{{longtable}}{{{columns}}}",
            rf"{caption} {label} \\",
            r"\toprule",
            *header,
            r"\midrule",
            r"\endfirsthead",
            r"\toprule",
            *header,
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *body,
            r"\end{longtable}",
            rf"\raggedright {escape(footnote)}\par}}",
        ]
    else:
        lines += [
            r"\begin{table}",
            r"\centering",
            caption,
            label,
            SIZE,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\par\smallskip\raggedright {escape(footnote)}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> str:
    """Return the argument of tabular. Numbers are right-aligned, and long words have lines of a
    fixed width.
    """
    widths = cell_widths(table)
    is_wrapped = [
        width > MAX_WORDS and not is_number
        for width, is_number in zip(widths, table.alignment, strict=True)
    ]
    other_widths = [
        width + GAP for width, wrapped in zip(widths, is_wrapped, strict=True) if not wrapped
    ]
    rest = 1 - sum(other_widths) / LINE
    share = max(rest / max(sum(is_wrapped), 1), MIN_SHARE)
    columns = []
    for wrapped, is_number in zip(is_wrapped, table.alignment, strict=True):
        if wrapped:
            columns.append(rf">{{\raggedright\arraybackslash}}p{{{share:.2g}\linewidth}}")
        else:
            columns.append("r" if is_number else "l")
    return f"@{{}}{''.join(columns)}@{{}}"


def _header_rows(table: Table) -> Iterator[str]:
    """Yield the rows of the heading. A heading that is wider than its column has several lines, and
    all headings end on the same line.
    """
    headings = []
    for heading, width in zip(table.header, cell_widths(table), strict=True):
        lines = []
        for line in heading.split("\n"):
            lines += textwrap.wrap(line, max(width, MIN_HEADING), break_long_words=False)
        headings.append(lines)
    for row in reversed([*zip_longest(*map(reversed, headings), fillvalue="")]):
        yield _row(map(escape, row))


def _body(table: Table) -> Iterator[str]:
    """Yield the rows of each group, below a row with the group's title if it has one."""
    for number, group in enumerate(table.groups):
        if number > 0:
            yield r"\addlinespace"
        if group.title:
            kind = "l" if len(group.title) <= MAX_TITLE else r"p{0.9\linewidth}"
            title = rf"\textit{{{escape(group.title)}}}"
            yield rf"\multicolumn{{{len(table.header)}}}{{@{{}}{kind}@{{}}}}{{{title}}} \\"
        for cells in group.rows:
            yield _row(map(_cell, cells))


def _row(texts: Iterable[str]) -> str:
    """Return a row of cells that are LaTeX already."""
    return f"{' & '.join(texts)} \\\\"


def _cell(cell: Cell) -> str:
    """Return a cell as LaTeX."""
    text = escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _comment(text: str) -> str:
    """Return a text in one line of ASCII, as a comment needs it."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()


def escape(text: str) -> str:
    r"""Return a text with every character escaped that has a meaning in LaTeX. A sign that pdfLaTeX
    can't typeset becomes U+ and its code.

    >>> escape("xgrad_cam, 5 %")
    'xgrad\\_cam, 5 \\%'
    """
    return "".join(map(_escaped, text))


def _escaped(sign: str) -> str:
    """Return one sign as LaTeX."""
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    is_latin = " " <= sign <= "~" or "\xa1" <= sign <= "\u017f"
    return sign if is_latin or sign in _PUNCTUATION else f"U+{ord(sign):04X}"
