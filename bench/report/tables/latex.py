r"""Tables as LaTeX by pandas' Styler, to be \input: with booktabs, and longer than a page as a
longtable.
"""

from __future__ import annotations

import pandas as pd

from axiom_bench.records.files import safe_name
from axiom_bench.report.tables.table import Table

NEEDS = r"% Needs \usepackage[T1]{fontenc} and \usepackage{booktabs}."
LONG_NEEDS = (
    r"% Needs \usepackage[T1]{fontenc} and \usepackage{booktabs,longtable}, and one column."
)
FLOAT_ROWS = 40  # the most rows of a table that isn't a longtable
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
    """Return the table as LaTeX. The notes are below it, and the titles of groups are its first
    column.
    """
    has_groups = any(group.title for group in table.groups)
    rows = []
    for group in table.groups:
        for cells in group.rows:
            texts = [escape(group.title)] if has_groups else []
            for cell in cells:
                text = escape(cell.text)
                texts.append(rf"\textbf{{{text}}}" if cell.bold else text)
            rows.append(texts)
    header = [escape(heading) for heading in table.header]
    # Numbers are right-aligned.
    columns = "".join("r" if is_number else "l" for is_number in table.alignment)
    if has_groups:
        header = ["Group", *header]
        columns = f"l{columns}"
    is_long = len(rows) > FLOAT_ROWS
    styler = pd.DataFrame(rows, columns=header).style.hide(axis="index")
    text = styler.to_latex(
        hrules=True,
        column_format=columns,
        caption=escape(f"{table.title}."),
        label=f"tab:{safe_name(table.name).replace('_', '-')}",
        environment="longtable" if is_long else "table",
        position_float=None if is_long else "centering",
    )
    notes = escape(" ".join(table.notes))
    if is_long:
        return f"{LONG_NEEDS}\n{text}{{\\footnotesize {notes}\\par}}\n"
    below = rf"\par\footnotesize\raggedright {notes}"
    return f"{NEEDS}\n" + text.replace(r"\end{table}", f"{below}\n\\end{{table}}")


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
