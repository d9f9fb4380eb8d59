"""The paper's figures and tables from a run, a file each, and an index that compares our
definitions with the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.records import files
from axiom_bench.report.charts.drawing import Figure, LeftOut, reason_without_value
from axiom_bench.report.options import with_tuples
from axiom_bench.report.page.html import render
from axiom_bench.report.tables.latex import for_paper, to_latex
from axiom_bench.report.tables.summaries import headline_table
from axiom_bench.report.tables.table import Cell, Group, Table, to_markdown
from axiom_bench.report.writing import all_figures
from axiom_bench.statistics.labels import NOTHING, number
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading_rows


@dataclass
class IndexEntry:
    """The files that were made of an exhibit."""

    exhibit: Exhibit
    command: str  # the command of the run
    compared: Mapping[str, str]  # {"Networks" and "Images": the paper's and the run's}
    missing: str  # a sentence on what the run lacks of the paper's exhibit; empty for nothing
    files: list[str] = field(default_factory=list)  # names in the folder
    pictures: dict[str, str] = field(default_factory=dict)  # {PNG as wide as a page: caption}
    tables: list[Table] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # why figures or tables are missing


def _markdown(
    entries: Sequence[IndexEntry], command: str, failures: Mapping[str, str]
) -> Iterator[str]:
    """Yield the parts of the index as Markdown."""
    yield "# The paper's figures and tables\n"
    yield f"{paper().source}. {paper().numbers} {paper().known}\n"
    yield f"Made by `{command}`\n"
    for name, reason in failures.items():
        yield f"- {name} didn't run: {reason}"
    for entry in entries:
        exhibit = entry.exhibit
        yield f"## {exhibit.number}: {exhibit.title}\n"
        for file, caption in entry.pictures.items():
            yield f"![{exhibit.number}]({file})\n\n{caption}\n"
        for table in entry.tables:
            yield to_markdown(table).replace("# ", "### ", 1)
        for sentence in (*entry.left_out, entry.missing):
            if sentence:
                yield f"{sentence}\n"
        for name, text in entry.compared.items():
            yield f"{name}: {text}.\n"
        yield f"Shared with the paper: {exhibit.shares}\n"
        yield f"Different: {exhibit.differs}\n"
        yield f"Command: `{entry.command}`\n"
        yield f"Files: {', '.join(f'[{name}]({name})' for name in entry.files) or 'none'}\n"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper."""

    number: str  # the paper's number
    file: str  # the beginning of our files' names
    title: str
    shares: str  # what our definition shares with the paper's text
    differs: str  # how our definition differs from the paper's text
    networks: tuple[str, ...] = ()  # of this exhibit in the paper; empty if they aren't known
    images: str = ""  # of this exhibit in the paper; empty if they aren't known
    figures: tuple[str, ...] = ()  # beginnings of the names of our figures
    tables: tuple[str, ...] = ()  # metrics that each have a short table
    against: str | None = None  # run times are compared with this method's
    two_classes: bool = False  # only images that show exactly two classes count


@dataclass(frozen=True)
class Paper:
    """The paper, as conf/paper.yaml describes it."""

    source: str  # its citation
    instead: tuple[str, ...]  # networks that replace the paper's if these have no weights
    numbers: str  # a sentence on the paper's own numbers
    exhibits: tuple[Exhibit, ...]

    @property
    def networks(self) -> tuple[str, ...]:
        """All networks that an exhibit names."""
        return tuple(dict.fromkeys(name for exhibit in self.exhibits for name in exhibit.networks))

    @property
    def known(self) -> str:
        """A sentence that lists the exhibits whose networks or images in the paper are known."""
        with_networks = [exhibit.number for exhibit in self.exhibits if exhibit.networks]
        with_images = [exhibit.number for exhibit in self.exhibits if exhibit.images]
        return (
            f"This project knows the paper's networks for {' and '.join(with_networks)} only, and "
            f"its images for {' and '.join(with_images)} only."
        )


@cache
def paper() -> Paper:
    """Return the paper that conf/paper.yaml describes."""
    text = (conf_folder() / "paper.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    exhibits = tuple(Exhibit(**with_tuples(entry)) for entry in content.pop("exhibits"))
    return Paper(**with_tuples(content), exhibits=exhibits)


FOLDER = "paper"  # in the run folder
FORMATS = ("png", "pdf")
NO_PAIRS = "No image of this run shows exactly two classes that are explained."


@dataclass(frozen=True)
class PaperRun:
    """A run for the paper's exhibits."""

    run: RunFolder
    command: str  # the command that made the run
    failures: Mapping[str, str]  # {network of the paper that is missing: reason}


def write_paper(
    main: PaperRun,
    two_classes: PaperRun | None,
    problem: str,
    command: str,
    say: Callable[[str], None],
) -> Path:
    """Write <run>/paper/ with a file for each figure and table, and its index.

    Args:
        main: The run.
        two_classes: A run whose images show several classes, if those of the main run don't.
        problem: The reason why there is no such run, or "".
        command: The command that makes the folder.
        say: Called with each exhibit before it is made.

    Returns:
        The path of index.html.

    Raises:
        BenchError: If the folder can't be written.
    """
    folder = main.run.path / FOLDER
    for path in folder.glob("*"):  # files of an earlier run of other networks must not stay
        path.unlink()
    pair_source = two_classes or main
    runs = {False: main.run, True: on_two_classes(pair_source.run)}
    figures = {}
    for is_two, run in runs.items():
        if not run.records.empty:
            figures[is_two] = list(all_figures(run))
    entries = []
    empty_exhibits = []
    for exhibit in paper().exhibits:
        say(f"{exhibit.number}: {exhibit.title}")
        run = runs[exhibit.two_classes]
        source = pair_source if exhibit.two_classes else main
        entry = IndexEntry(exhibit, source.command, _compared(exhibit, run), _missing(exhibit, run))
        if exhibit.two_classes in figures:
            _add_figures(entry, figures[exhibit.two_classes], folder)
            _add_tables(entry, run, folder)
        else:
            empty_exhibits.append(exhibit.number)
            for name in exhibit.tables:
                entry.left_out.append(f"{NO_PAIRS} {reason_without_value(source.run, name)}")
        if exhibit.two_classes and problem:
            entry.left_out.append(problem)
        entry.left_out = list(dict.fromkeys(entry.left_out))
        entries.append(entry)
    if empty_exhibits:
        say(f"No network has values for {', '.join(empty_exhibits)}: {problem or NO_PAIRS}")
    markdown = "\n".join(_markdown(entries, command, main.failures))
    files.write(folder / "index.md", markdown.encode())
    page = render(
        "paper.html.j2", paper=paper(), entries=entries, command=command, failures=main.failures
    )
    files.write(folder / "index.html", page.encode())
    return folder / "index.html"


def on_two_classes(run: RunFolder) -> RunFolder:
    """Return the run with only the images of which exactly two classes are explained."""
    counts = _explained(run).groupby(["data", "image_id"])["target_class"].nunique()
    pair_images = set(counts[counts == 2].index)
    parts = []
    for part in (run.records, run.class_records):
        images = zip(part.keys["data"].astype(str), part.keys["image_id"], strict=True)
        is_pair = np.array([image in pair_images for image in images], dtype=bool)
        parts.append(part.select(is_pair))
    records, class_records = parts
    return replace(run, records=records, class_records=class_records)


def _explained(run: RunFolder) -> pd.DataFrame:
    """Return data, image_id and target_class of the explained images and classes. Rows may
    repeat.
    """
    tables = [
        part.image_keys[["data", "image_id", "target_class"]]
        for part in (run.records, run.class_records)
    ]
    return pd.concat([table.astype({"data": str, "image_id": str}) for table in tables])


def _add_figures(entry: IndexEntry, figures: Sequence[Figure | LeftOut], folder: Path) -> None:
    """Write the figures of an exhibit, and add them to its entry."""
    exhibit = entry.exhibit
    for figure in figures:
        if isinstance(figure, LeftOut):
            if exhibit.figures and figure.name.startswith(exhibit.figures):
                entry.left_out.append(figure.reason)
        elif exhibit.figures and figure.name.startswith(exhibit.figures):
            named = replace(figure, name=f"{exhibit.file}-{figure.name}")
            named.save(folder, FORMATS)
            entry.files += [f"{named.file_name}.{kind}" for kind in FORMATS]
            entry.pictures[f"{named.file_name}.{FORMATS[0]}"] = figure.caption


def _add_tables(entry: IndexEntry, run: RunFolder, folder: Path) -> None:
    """Write the tables of an exhibit, and add them to its entry."""
    exhibit = entry.exhibit
    tables = {}
    summary = leading_rows(run.summary[run.summary["method"] != METHOD_FREE])
    for metric in exhibit.tables:
        rows = summary[summary["metric"] == metric]
        if (rows["n"] > 0).any():
            name = f"{exhibit.file}-{files.safe_name(metric)}"
            table = headline_table(run, run.metadata.value(metric), rows)
            tables[name] = for_paper(run, table)
        else:
            entry.left_out.append(reason_without_value(run, metric))
    if exhibit.against is not None:
        costs = cost_table(run, exhibit.against)
        if costs is not None:
            tables[exhibit.file] = costs
        else:
            entry.left_out.append("This run has no run times: runtime.repeats=5 measures them.")
    for name, table in tables.items():
        latex = to_latex(replace(table, name=name))
        files.write(folder / f"{name}.tex", latex.encode())
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        entry.files += [f"{name}.tex", f"{name}.md"]
        entry.tables.append(table)


def _compared(exhibit: Exhibit, run: RunFolder) -> dict[str, str]:
    """Return {"Networks" and "Images": those of the paper's exhibit, and the run's}."""
    counts = _explained(run).groupby("data")["image_id"].nunique()
    images = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
    if exhibit.two_classes and images:
        images += " with exactly two classes"
    networks = "" if run.records.empty else ", ".join(run.manifest.models)
    pairs = {
        "Networks": (", ".join(exhibit.networks), networks),
        "Images": (exhibit.images, images),
    }
    compared = {}
    for name, (in_paper, in_run) in pairs.items():
        beginning = f"{in_paper} in the paper; " if in_paper else ""
        compared[name] = f"{beginning}{in_run or 'none'} in this run"
    return compared


def _missing(exhibit: Exhibit, run: RunFolder) -> str:
    """Return what the run lacks of the paper's exhibit, in one sentence, or "" if nothing is
    missing.
    """
    models = run.manifest.models
    networks = {model.split("+")[0] for model in models}
    absent = [name for name in exhibit.networks if name not in networks]
    untrained = [name for name, model in models.items() if model.random_weights]
    parts = []
    if absent:
        parts.append(f"the paper's networks {', '.join(absent)}")
    if untrained:
        parts.append(f"trained weights of {', '.join(untrained)}")
    return f"This run lacks {'; '.join(parts)}." if parts else ""


TIMES = "\N{MULTIPLICATION SIGN}"


def cost_table(run: RunFolder, against: str) -> Table | None:
    """Return a table of run times with methods as rows and networks as columns, or `None` if
    nothing was timed.

    A cell has the milliseconds an image of the trace and the method together. In brackets is the
    ratio to the time of the method `against`.
    """
    if run.runtime.empty:
        return None
    columns: dict[str, dict[str, Cell]] = {}
    for setting in run.settings:
        times = milliseconds(run, setting)
        total = times.drop(TRACE, errors="ignore") + times.get(TRACE, float("nan"))
        # if the other method wasn't timed here, the ratio is NaN and prints as a dash
        ratio = total / total.get(against, float("nan"))
        cells = {}
        for name in total.index:
            cells[name] = Cell(f"{number(total[name])} ({number(ratio[name])}{TIMES})")
        columns[run.label(setting)] = cells
    rows = []
    for name in run.methods:
        if any(name in cells for cells in columns.values()):
            title = run.metadata.method_title(name)
            row_cells = [cells.get(name, Cell(NOTHING)) for cells in columns.values()]
            rows.append((Cell(title), *row_cells))
    device = run.manifest.device or "an unknown device"
    against_title = run.metadata.method_title(against)
    note = (
        "Milliseconds an image of one trace and the method; in brackets, how many times those of "
        f"{against_title} at the same network. Measured on {device}."
    )
    title = f"Run time compared with {against_title}"
    return Table("cost", title, ("Method", *columns), (Group("", tuple(rows)),), (note,))
