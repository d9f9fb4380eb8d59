r"""Tables as LaTeX with booktabs, to be \input: as wide as a column or a page, and longer than one as a longtable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from axiom_bench.records.files import safe_name
from axiom_bench.report.sizes import COLUMN, PAGE
from axiom_bench.report.tables.latex_text import breakable, escape, number
from axiom_bench.report.tables.latex_widths import SEPARATION, SIZES, Layout, fit, text_width
from axiom_bench.report.tables.table import Cell, Table

NEEDS = r"% Needs \usepackage{array,booktabs,longtable}."
LONG_NEEDS = r" A longtable: in a document of two columns after \onecolumn."
PAGE_LINES = 46  # that a float may have
Part = Sequence[tuple[int, float]]


def to_latex(table: Table, width: str = "auto") -> str:
    r"""Needs \usepackage{array,booktabs}, and {longtable} where the table is longer than a page.

    width: "column" (3.3 in), "page" (7 in), or "auto", a column where the table fits in one piece and on one page,
    else a page. A table that is too wide even for that is cut into parts, each with the first column.
    """
    column, page = fit(table, COLUMN), fit(table, PAGE)
    is_column = width == "column" or (width == "auto" and len(column.parts) == 1)
    layout = column if is_column and not _is_long(table, column) else page
    if _is_long(table, layout):
        return "\n".join([NEEDS + LONG_NEEDS, *_longtables(table, layout)]) + "\n"
    return "\n".join([NEEDS, *_float(table, layout, "table" if layout is column else "table*")]) + "\n"


def _is_long(table: Table, layout: Layout) -> bool:
    notes = sum(text_width(note, SIZES["scriptsize"]) for note in table.notes) / layout.width
    return len(layout.parts) * (3 + layout.lines(table)) + notes > PAGE_LINES


def _float(table: Table, layout: Layout, environment: str) -> Iterator[str]:
    yield f"\\begin{{{environment}}}"
    yield f"\\centering\\{layout.size}\\setlength{{\\tabcolsep}}{{{SEPARATION / 2:g}pt}}"
    yield f"{_caption(table)}{_label(table)}"
    for i, part in enumerate(layout.parts):
        yield from [r"\par\medskip"] if i else []
        yield f"\\begin{{tabular}}{{{_columns(table, part, layout.width)}}}"
        yield from (
            *_head(table, part, layout.width),
            *_body(table, part, layout.width),
            r"\bottomrule",
            r"\end{tabular}",
        )
    if table.notes:
        yield rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {_notes(table)}}}"
    yield f"\\end{{{environment}}}"


def _longtables(table: Table, layout: Layout) -> Iterator[str]:
    yield rf"\begingroup\{layout.size}\setlength{{\tabcolsep}}{{{SEPARATION / 2:g}pt}}"
    yield r"\setlength{\LTcapwidth}{\linewidth}"
    for i, part in enumerate(layout.parts):
        head, last = _head(table, part, layout.width), i == len(layout.parts) - 1
        yield f"\\begin{{longtable}}{{{_columns(table, part, layout.width)}}}"
        yield (
            rf"\caption*{{{escape(table.title)}, further columns.}}\\" if i else rf"{_caption(table)}{_label(table)}\\"
        )
        yield from (*head, r"\endfirsthead", *head, r"\endhead")
        yield rf"\midrule\multicolumn{{{len(part)}}}{{r}}{{continued}}\\"
        yield from (r"\endfoot", r"\bottomrule")
        if table.notes and last:
            across = rf"\multicolumn{{{len(part)}}}{{@{{}}p{{\linewidth}}@{{}}}}"
            yield rf"{across}{{\scriptsize\raggedright\rule{{0pt}}{{3ex}}{_notes(table)}}}\\"
        yield from (r"\endlastfoot", *_body(table, part, layout.width), r"\end{longtable}")
    yield r"\endgroup"


def _caption(table: Table) -> str:
    return f"\\caption{{{escape(table.title)}.}}"


def _label(table: Table) -> str:
    return f"\\label{{tab:{safe_name(table.name).replace('_', '-')}}}"


def _notes(table: Table) -> str:
    return " ".join(map(breakable, table.notes))


def _columns(table: Table, part: Part, line: float) -> str:
    """Each column as a share of the line, so that the table fits documents of other widths as well."""
    return "@{}" + "".join(_column(table, place, len(part), line, "p") for place in part) + "@{}"


def _column(table: Table, place: tuple[int, float], count: int, line: float, kind: str) -> str:
    index, width = place
    gaps = SEPARATION * (count - 1)
    side = "raggedleft" if table.alignment[index] else "raggedright"
    share = width / (line - gaps)
    return rf">{{\{side}\arraybackslash}}{kind}{{{share:.4f}\dimexpr\linewidth-{gaps:g}pt\relax}}"


def _head(table: Table, part: Part, line: float) -> list[str]:
    headings = (_heading(table, place, part, line) for place in part)
    return [r"\toprule", " & ".join(headings) + r" \\", r"\midrule"]


def _heading(table: Table, place: tuple[int, float], part: Part, line: float) -> str:
    """A column's heading, which stands at the bottom of its row."""
    text = r"\newline ".join(map(breakable, table.header[place[0]].split("\n")))
    left, right = (r"@{}" if place == part[0] else ""), (r"@{}" if place == part[-1] else "")
    return rf"\multicolumn{{1}}{{{left}{_column(table, place, len(part), line, 'b')}{right}}}{{{text}}}"


def _body(table: Table, part: Part, line: float) -> list[str]:
    lines: list[str] = []
    whole = (sum(width for _, width in part) + SEPARATION * (len(part) - 1)) / line
    across = rf"\multicolumn{{{len(part)}}}{{@{{}}>{{\raggedright\arraybackslash}}p{{{whole:.4f}\linewidth}}@{{}}}}"
    for i, group in enumerate(table.groups):
        if i:
            lines.append(r"\midrule")
        if group.title:
            lines.append(rf"{across}{{\textit{{{breakable(group.title)}}}}} \\*")
        lines.extend(" & ".join(_cell(row[i], table.alignment[i]) for i, _ in part) + r" \\" for row in group.rows)
    return lines


def _cell(cell: Cell, is_number: bool) -> str:
    text = number(cell.text) if is_number else breakable(cell.text)
    return rf"\textbf{{\boldmath {text}}}" if cell.bold else text
