"""The captions and footnotes of a run's LaTeX tables: what a reader of a paper needs, in few words.

The page and the Markdown files have longer notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from axiom_bench.errors import first_names
from axiom_bench.report.tables.comparisons import PAIRS, PLACES
from axiom_bench.report.tables.summaries import CORRECTNESS, METRICS, TRAININGS
from axiom_bench.report.tables.table import Table, without_columns
from axiom_bench.report.tables.text import CONSTRUCTED, PARTIAL
from axiom_bench.statistics.labels import (
    NOTHING,
    UNSTABLE,
    Setting,
    confidence,
    percent,
    plural,
    rows_at,
)
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

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
        keys: The keys of `references.bib` that the run cites.
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
        subject = f"{_joined(titles)} of "
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
    scope = _joined(counts) or "no method"
    labels = list(dict.fromkeys(map(run.label, settings)))
    if len(labels) <= MAX_NAMED:
        scope += f" on {_joined(labels)}"
    else:
        scope += f" on {plural(len({setting.model for setting in settings}), 'network')}"
    if images:
        low = min(images)
        high = max(images)
        number = plural(high, "image") if low == high else f"{low:,} to {high:,} images"
        data = list(dict.fromkeys(setting.data for setting in settings))
        scope += f", {number} of {first_names(data, MAX_NAMED)}"
    return scope


def _joined(names: Sequence[str]) -> str:
    """Return names in one list, with "and" before the last one."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


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
