r"""Tables as LaTeX with booktabs, to be \input; one longer than a page is a longtable."""

from __future__ import annotations

import re

from axiom_bench.report.tables.table import Cell, Table

LONG = 40
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "\N{EN DASH}": "--",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{DAGGER}": r"\dag{}",
}


def to_latex(table: Table) -> str:
    r"""Needs \usepackage{booktabs}, and \usepackage{longtable} where the table has more than 40 rows."""
    columns = "".join("r" if right else "l" for right in table.alignment)
    caption, label = f"\\caption{{{escape(table.title)}.}}", f"\\label{{tab:{table.name.replace('_', '-')}}}"
    head = [r"\toprule", " & ".join(map(_heading, zip(table.header, columns, strict=True))) + r" \\", r"\midrule"]
    body = _body(table)
    notes = [r"\par\smallskip{\footnotesize " + " ".join(map(escape, table.notes)) + r"\par}"] if table.notes else []
    if sum(len(group.rows) for group in table.groups) > LONG:
        begin = [f"\\begin{{longtable}}{{{columns}}}", f"{caption}{label}\\\\", *head, r"\endhead"]
        lines = [*begin, *body, r"\bottomrule", r"\end{longtable}", *notes]
    else:
        begin = [r"\begin{table}", r"\centering\small", caption + label, f"\\begin{{tabular}}{{{columns}}}", *head]
        lines = [*begin, *body, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _body(table: Table) -> list[str]:
    lines: list[str] = []
    for i, group in enumerate(table.groups):
        if i:
            lines.append(r"\midrule")
        if group.title:
            lines.append(f"\\multicolumn{{{len(table.header)}}}{{l}}{{\\textit{{{escape(group.title)}}}}} \\\\")
        lines.extend(" & ".join(map(_cell, row)) + r" \\" for row in group.rows)
    return lines


def _heading(column: tuple[str, str]) -> str:
    """A column's heading; one of several lines is stacked to the column's side."""
    text, side = column
    lines = [escape(line) for line in text.split("\n")]
    stacked = r" \\ ".join(lines)
    return lines[0] if len(lines) == 1 else f"\\shortstack[{side}]{{{stacked}}}"


def _cell(cell: Cell) -> str:
    text = escape(cell.text).replace("$<$1e-6", "$<10^{-6}$")
    text = re.sub(r"(\d)e(-?\d+)", r"\1$\\cdot10^{\2}$", text)
    text = re.sub(r"(^|[( ])-(?=\d)", r"\1$-$", text)
    return f"\\textbf{{{text}}}" if cell.bold else text


def escape(text: str) -> str:
    """Text with every character that LaTeX would take for its own.

    >>> escape("xgrad_cam, 5 %")
    'xgrad\\\\_cam, 5 \\\\%'
    """
    return "".join(_SPECIAL.get(sign, sign) for sign in text)
