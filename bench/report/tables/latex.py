r"""Tables as LaTeX with booktabs, to be \input: as wide as a column or a page, and longer than one as a longtable.

pandas' Styler writes them. Any text is escaped, and typeset by pdfLaTeX without packages or font encodings of a
document's own. A table that is too wide is made smaller.
"""

from __future__ import annotations

import re

import pandas as pd

from axiom_bench.records.files import safe_name
from axiom_bench.report.tables.table import Cell, Table

NEEDS = r"% Needs \usepackage{array,booktabs,graphicx,longtable}."
LONG_NEEDS = r" A longtable: in a document of two columns after \onecolumn."
FLOAT_ROWS = 40  # that a float may have
GAP = 6  # points between two columns
POINTS = {"table": 238.5, "table*": 505.9}  # of a line of the float: 3.3 and 7 inches
LETTER = 4.45  # points: the mean width of a letter in footnotesize
LONG_TEXT = 40  # letters: a column of words that are longer has several lines a row
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


def to_latex(table: Table, width: str = "auto") -> str:
    r"""Needs \usepackage{array,booktabs,graphicx}, and {longtable} where the table is longer than a page.

    width: "column", "page", or "auto", a column where the table fits, else a page.
    """
    columns, needed = _columns(table)
    is_column = width == "column" or (width == "auto" and needed <= POINTS["table"])
    environment = "table" if is_column else "table*"
    is_too_wide = needed > POINTS[environment]
    rows: list[list[str]] = []
    for group in table.groups:
        if group.title:
            title = rf"\multicolumn{{{len(columns)}}}{{@{{}}l@{{}}}}{{\textit{{{escape(group.title)}}}}}"
            rows.append([title, *[""] * (len(columns) - 1)])
        rows += [[_cell(*pair) for pair in zip(row, table.alignment, strict=True)] for row in group.rows]
    header = [_heading(*pair) for pair in zip(table.header, columns, strict=True)]
    is_long = len(rows) > FLOAT_ROWS
    text = pd.DataFrame(rows, columns=header).style.hide(axis="index").to_latex(
        column_format=f"@{{}}{''.join(columns)}@{{}}", hrules=True, caption=f"{escape(table.title)}.",
        label=f"tab:{safe_name(table.name).replace('_', '-')}", environment="longtable" if is_long else environment,
    )  # fmt: skip
    text = re.sub(r"(?m)^(\\multicolumn.*?)(?: +&)+ +", r"\1 ", text)  # the cells that a group's title takes
    notes = " ".join(map(breakable, table.notes))
    below = rf"\par\smallskip\noindent\parbox{{\linewidth}}{{\scriptsize\raggedright {notes}}}" + "\n" if notes else ""
    gaps = rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}"
    if is_long:
        size = "tiny" if is_too_wide else "footnotesize"
        return f"{NEEDS}{LONG_NEEDS}\n\\begingroup\\{size}{gaps}\n{text}{below}\\endgroup\n"
    text = text.replace("\n", f"\n\\centering\\footnotesize{gaps}\n", 1)
    if is_too_wide:
        text = text.replace(r"\begin{tabular}", r"\resizebox{\linewidth}{!}{\begin{tabular}")
        text = text.replace(r"\end{tabular}", r"\end{tabular}}")
    return f"{NEEDS}\n" + text.replace(rf"\end{{{environment}}}", rf"{below}\end{{{environment}}}")


def _columns(table: Table) -> tuple[list[str], float]:
    """The format of each column, and the points that all of them take."""
    columns, letters = [], 0
    for i, (header, is_number) in enumerate(zip(table.header, table.alignment, strict=True)):
        lines = [*header.split("\n"), *(row[i].text for group in table.groups for row in group.rows)]
        longest = max(map(len, lines))
        is_long = longest > LONG_TEXT and not is_number
        columns.append("r" if is_number else r">{\raggedright\arraybackslash}p{16em}" if is_long else "l")
        letters += LONG_TEXT if is_long else longest
    return columns, letters * LETTER + GAP * (len(columns) - 1)


def _heading(text: str, column: str) -> str:
    lines = [escape(line) for line in text.split("\n")]
    side = "r" if column == "r" else "l"
    return lines[0] if len(lines) == 1 else rf"\shortstack[{side}]{{" + r" \\ ".join(lines) + "}"


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
