r"""Tables for a paper, as LaTeX by pandas' Styler: with a caption, booktabs and a footnote.

A caption and a footnote say in few words what a reader of a paper needs. The page and the Markdown
files have longer notes. Tables that are longer than a page are a longtable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from axiom_bench.environment import wrapped
from axiom_bench.errors import first_names, plural
from axiom_bench.records.files import safe_name
from axiom_bench.report.tables.comparisons import PAIRS, PLACES
from axiom_bench.report.tables.summaries import CORRECTNESS, METRICS, TRAININGS
from axiom_bench.report.tables.table import Cell, Table, cell_widths, without_columns
from axiom_bench.report.tables.text import CONSTRUCTED, PARTIAL
from axiom_bench.statistics.labels import (
    NOTHING,
    UNSTABLE,
    Setting,
    confidence,
    percent,
    rows_at,
)
from axiom_bench.statistics.ranking import joined
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

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

MAX_NAMED = 4  # networks, data sets or controls that are listed by name
OVERVIEW = "overview"
HEADLINE = "headline_"  # begins the names of tables of one metric
NO_BOLD = "A column without bold has no significant winner."
BOLD = "Bold: best, or not significantly worse (bootstrap over images, {percent}, Holm)."
MARKS = {  # {sign in a cell: its meaning}
    PARTIAL: f"{PARTIAL} Fewer images.",
    CONSTRUCTED: f"{CONSTRUCTED} 0 by construction.",
    UNSTABLE: f"{UNSTABLE} Depends on the batch or the run.",
    NOTHING: f"{NOTHING} No value.",
}
# Columns that a page of a paper has no room for; the .md and .csv files have them.
LEFT_OUT = {
    PAIRS: ("Images", "Images' p, Holm", "Shown from"),
    METRICS: ("Images", "Rows without a value"),
    CORRECTNESS: ("Rows without a value",),
}
FOOTNOTES = {  # {family of tables: what its columns are}; {level} is the level of the tests
    PLACES: "Place: the ranks that the tests of all pairs allow.",
    PAIRS: (
        "Difference: first minus second method. Better, same, worse: numbers of images. p: of the "
        "difference, by a bootstrap over images, after Holm; bold below {level:g}."
    ),
    TRAININGS: (
        "All trainings: mean over the networks, with an interval for other trainings and images. "
        "These networks: interval for other images. Without one: means without one network."
    ),
    CORRECTNESS: "Medians of ratios and squares, means of other metrics.",
    "statuses": "Values that are missing, with the reason.",
    "runtime": (
        "Forwards: the time in forward passes of the model. fwd / bwd: forward and backward passes "
        "per image."
    ),
    "paired": (
        "Better, same, worse: numbers of images. p: two-sided bootstrap over images; bold below "
        "{level:g} after Holm."
    ),
}


def for_paper(run: RunFolder, table: Table, keys: Sequence[str] = ()) -> Table:
    """Return a table of the run with the columns, caption, footnote and comments of its LaTeX file.

    Args:
        run: The run, as read from its folder.
        table: The table.
        keys: The keys of `references.bib` that the table cites.
    """
    comments = []
    if table.name == OVERVIEW:
        comments.append(
            'For other columns: axiom-bench report RUN "report.latex.columns=[box_iou,zeta]"'
        )
    if keys:
        comments.append(rf"Cite with references.bib: \cite{{{','.join(keys)}}}")
    return replace(
        without_columns(table, LEFT_OUT.get(table.family, ())),
        caption=_caption(run, table),
        footnote=" ".join(_footnote(run, table)),
        comments=tuple(comments),
    )


def _caption(run: RunFolder, table: Table) -> str:
    """Return what the table shows, of how many methods, and on which networks, images and data."""
    settings = [setting for setting in run.settings if run.label(setting) == table.label]
    settings = settings or list(run.settings)
    metrics: Sequence[str] = run.metrics
    if table.name == OVERVIEW:
        titles = [column.title for column in table.columns[1:]]
        subject = f"{joined(titles)} of "
        metrics = [name for name in metrics if run.metadata.value(name).title in titles]
    elif table.name.startswith(HEADLINE):
        metrics = [table.name.removeprefix(HEADLINE)]
        value = run.metadata.value(metrics[0])
        direction = f"; {value.better} is better" if value.has_direction else ""
        subject = f"{value.title} ({value.lead}, {confidence(run.level)} interval{direction}) of "
    else:
        subject = f"{table.family or table.title}: "
    return f"{subject}{_scope(run, settings, metrics)}."


def _scope(run: RunFolder, settings: Sequence[Setting], metrics: Sequence[str]) -> str:
    """Return the numbers of methods and images that have values, with the networks and data."""
    rows = run.summary[(run.summary["n"] > 0) & run.summary["metric"].isin(metrics)]
    rows = rows[rows["method"] != METHOD_FREE]
    methods: dict[str, None] = {}
    images: list[int] = []
    for setting in settings:
        setting_rows = rows_at(rows, setting)
        methods |= dict.fromkeys(map(str, setting_rows["method"]))
        if len(setting_rows):
            images.append(int(setting_rows["images"].max()))
    num_controls = sum(name in run.metadata.controls for name in methods)
    counts = []
    if len(methods) > num_controls:
        counts.append(plural(len(methods) - num_controls, "method"))
    if num_controls:
        counts.append(plural(num_controls, "control"))
    scope = joined(counts) or "no method"
    labels = list(dict.fromkeys(map(run.label, settings)))
    if len(labels) <= MAX_NAMED:
        scope += f" on {joined(labels)}"
    else:
        scope += f" on {plural(len({setting.model for setting in settings}), 'network')}"
    if images:
        low = min(images)
        high = max(images)
        number = plural(high, "image") if low == high else f"{low:,} to {high:,} images"
        data = list(dict.fromkeys(run.data_title(setting.data) for setting in settings))
        scope += f", {number} of {first_names(data, MAX_NAMED)}"
    return scope


def _footnote(run: RunFolder, table: Table) -> Iterator[str]:
    """Yield the sentences that the table's columns, bold numbers and marks need."""
    rows = [cells for group in table.groups for cells in group.rows]
    if not rows:
        yield from table.notes
        return
    family = "paired" if table.name.startswith("paired_") else table.family or table.name
    if family in FOOTNOTES:
        yield FOOTNOTES[family].format(level=run.level)
    if family not in ("paired", PAIRS):
        bold_columns = {place for cells in rows for place, cell in enumerate(cells) if cell.bold}
        if bold_columns:
            yield BOLD.format(percent=percent(run.level))
        has_metric_columns = table.name == OVERVIEW or table.name.startswith(HEADLINE)
        if has_metric_columns and len(bold_columns) < len(table.header) - 1:
            yield NO_BOLD
        if any(model.random_weights for model in run.manifest.models.values()):
            yield "Networks with random weights rank no method."
    texts = [*table.header, *(group.title for group in table.groups)]
    texts += [cell.text for cells in rows for cell in cells]
    for sign, meaning in MARKS.items():
        if any(text == sign or (sign != NOTHING and sign in text) for text in texts):
            yield meaning
    titles = {run.metadata.method_title(name) for name in run.metadata.controls}
    controls = dict.fromkeys(text for text in texts if text in titles)
    if controls and family not in FOOTNOTES:
        yield f"Controls: {first_names([*controls], MAX_NAMED)}."


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
    lines = wrapped(heading, max(width, MIN_HEADING))
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
