r"""Tables as LaTeX by pandas' Styler, to be \input: with booktabs, and longer than a page as a
longtable.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd

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
MAX_TITLE = 20  # characters of a group's title; a longer one has several lines
TITLE_SHARE = 0.16  # of a line, for titles of groups that have several lines
_WRAPPED = r">{{\raggedright\arraybackslash}}p{{{share:.2g}\linewidth}}"
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
    footnote has its notes there. The first column has the titles of the groups, each once.
    """
    titles = []
    rows = []
    for group in table.groups:
        for cells in group.rows:
            titles.append(escape(group.title))
            rows.append([_cell(cell) for cell in cells])
    widths = cell_widths(table)
    header = [
        _heading(heading, width, is_number)
        for heading, width, is_number in zip(table.header, widths, table.alignment, strict=True)
    ]
    title_width = max(map(len, titles), default=0)
    has_wide_titles = title_width > MAX_TITLE
    title_share = TITLE_SHARE if has_wide_titles else title_width / LINE
    columns = _columns(table, widths, 1 - title_share)
    frame = pd.DataFrame(rows, columns=header)
    if any(titles):
        # of equal neighbours, the index shows the first; the numbers of rows are hidden
        frame.index = pd.MultiIndex.from_arrays([titles, range(len(titles))])
        styler = frame.style.hide(axis="index", level=1)
        columns = (_WRAPPED.format(share=title_share) if has_wide_titles else "l") + columns
    else:
        styler = frame.style.hide(axis="index")
    is_long = len(rows) > FLOAT_ROWS
    text = styler.to_latex(
        hrules=True,
        multirow_align="naive",
        column_format=f"@{{}}{columns}@{{}}",
        caption=escape(table.caption or f"{table.title}."),
        label=f"tab:{safe_name(table.name).replace('_', '-')}",
        environment="longtable" if is_long else "table",
        position_float=None if is_long else "centering",
    )
    footnote = escape(" ".join(table.notes) if table.footnote is None else table.footnote)
    comments = "".join(f"% {_comment(comment)}\n" for comment in table.comments)
    if is_long:
        return f"{LONG_NEEDS}\n{comments}{{{SIZE}\n{text}\\raggedright {footnote}\\par}}\n"
    text = text.replace(r"\begin{tabular}", f"{SIZE}\n\\begin{{tabular}}")
    below = rf"\par\smallskip\raggedright {footnote}"
    return f"{NEEDS}\n{comments}" + text.replace(r"\end{table}", f"{below}\n\\end{{table}}")


def _columns(table: Table, widths: Sequence[int], room: float) -> str:
    """Return the columns of tabular. Numbers are right-aligned, and long words have lines of a
    fixed width. `room` is the share of a line that the columns have.
    """
    is_wrapped = []
    other_width = 0
    for width, is_number in zip(widths, table.alignment, strict=True):
        is_wide = width > MAX_WORDS and not is_number
        is_wrapped.append(is_wide)
        other_width += 0 if is_wide else width + GAP
    share = max((room - other_width / LINE) / max(sum(is_wrapped), 1), MIN_SHARE)
    columns = ""
    for is_wide, is_number in zip(is_wrapped, table.alignment, strict=True):
        if is_wide:
            columns += _WRAPPED.format(share=share)
        else:
            columns += "r" if is_number else "l"
    return columns


def _heading(heading: str, width: int, is_number: bool) -> str:
    """Return a heading, which has several lines if it is wider than its column."""
    lines: list[str] = []
    for line in heading.split("\n"):
        lines += textwrap.wrap(line, max(width, MIN_HEADING), break_long_words=False)
    if len(lines) < 2:
        return escape(heading)
    side = "r" if is_number else "l"
    text = r" \\ ".join(map(escape, lines))
    return rf"\shortstack[{side}]{{{text}}}"


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
