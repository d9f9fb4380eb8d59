"""The paper's figures and tables from a run, a file each, and an index that says how our definition
compares.
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
from axiom_bench.report.charts.drawing import Figure, LeftOut, not_measured
from axiom_bench.report.options import with_tuples
from axiom_bench.report.page.html import render
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.summaries import headline_table
from axiom_bench.report.tables.table import Cell, Group, Table, to_markdown
from axiom_bench.report.writing import all_figures
from axiom_bench.statistics.labels import NOTHING, number
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import leading


@dataclass
class IndexEntry:
    """What was made of an exhibit. command: of the run that it is from. compared: {"Networks" and
    "Images": the paper's and the run's}. missing: what the run lacks of the paper's exhibit; empty
    for nothing. files: names in the folder. pictures: {PNG as wide as a page: caption}. left_out:
    why figures or tables aren't there.
    """

    exhibit: Exhibit
    command: str
    compared: Mapping[str, str]
    missing: str
    files: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _markdown(
    entries: Sequence[IndexEntry], command: str, failures: Mapping[str, str]
) -> Iterator[str]:
    yield f"# The paper's figures and tables\n\n{paper().source}. {paper().numbers} {paper().known}\n"
    yield f"Made by `{command}`\n"
    yield from (f"- {name} didn't run: {reason}" for name, reason in failures.items())
    for entry in entries:
        exhibit = entry.exhibit
        yield f"## {exhibit.number}: {exhibit.title}\n"
        yield from (
            f"![{exhibit.number}]({file})\n\n{caption}\n"
            for file, caption in entry.pictures.items()
        )
        yield from (to_markdown(table).replace("# ", "### ", 1) for table in entry.tables)
        yield from (f"{sentence}\n" for sentence in (*entry.left_out, entry.missing) if sentence)
        yield from (f"{name}: {text}.\n" for name, text in entry.compared.items())
        yield f"Shared with the paper: {exhibit.shares}\n"
        yield f"Different: {exhibit.differs}\n"
        yield f"Command: `{entry.command}`\n"
        yield f"Files: {', '.join(f'[{name}]({name})' for name in entry.files) or 'none'}\n"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper.

    number: the paper's. file: what our files' names begin with. networks, images: of this exhibit
    in the paper, empty where they aren't known. figures: what the names of our figures begin with.
    tables: metrics with a short table each. against: the method beside which run times are shown.
    two_classes: only images that show exactly two classes count. shares, differs: our definition
    beside the paper's text.
    """

    number: str
    file: str
    title: str
    shares: str
    differs: str
    networks: tuple[str, ...] = ()
    images: str = ""
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    against: str | None = None
    two_classes: bool = False


@dataclass(frozen=True)
class Paper:
    """The paper, as conf/paper.yaml describes it.

    source: its citation. instead: networks that stand in for the paper's where these have no
    weights. numbers: a sentence on the paper's own numbers.
    """

    source: str
    instead: tuple[str, ...]
    numbers: str
    exhibits: tuple[Exhibit, ...]

    @property
    def networks(self) -> tuple[str, ...]:
        """All that an exhibit names."""
        return tuple(dict.fromkeys(name for exhibit in self.exhibits for name in exhibit.networks))

    @property
    def known(self) -> str:
        """A sentence that lists the exhibits whose networks or images in the paper are known."""
        of_networks = " and ".join(exhibit.number for exhibit in self.exhibits if exhibit.networks)
        of_images = " and ".join(exhibit.number for exhibit in self.exhibits if exhibit.images)
        return (
            f"This project knows the paper's networks for {of_networks} only, and its images for "
            f"{of_images} only."
        )


@cache
def paper() -> Paper:
    """As conf/paper.yaml has it."""
    content: dict[str, Any] = yaml.safe_load(
        (conf_folder() / "paper.yaml").read_text(encoding="utf-8")
    )
    exhibits = tuple(Exhibit(**with_tuples(entry)) for entry in content.pop("exhibits"))
    return Paper(**with_tuples(content), exhibits=exhibits)


FOLDER = "paper"  # in the run folder
FORMATS = ("png", "pdf")
NO_PAIRS = "No image of this run shows exactly two classes that are explained."


@dataclass(frozen=True)
class PaperRun:
    """A run, the command that made it, and why networks of the paper are missing: {name:
    reason}.
    """

    run: RunFolder
    command: str
    failures: Mapping[str, str]


def write_paper(
    main: PaperRun,
    two_classes: PaperRun | None,
    problem: str,
    command: str,
    say: Callable[[str], None],
) -> Path:
    """Write <run>/paper/ with a file for each figure and table, and its index; the path of
    index.html.

    two_classes: the run whose images show several classes, where the main one's don't; problem: why
    there is none. command: that makes the folder. say: is told of each exhibit before it is made.
    Raises BenchError where the folder can't be written.
    """
    folder = main.run.path / FOLDER
    for path in folder.glob("*"):  # those of an earlier run of other networks must not stay
        path.unlink()
    of_two = two_classes or main
    runs = {False: main.run, True: on_two_classes(of_two.run)}
    drawings = {
        is_two: list(all_figures(run)) for is_two, run in runs.items() if not run.records.empty
    }
    entries = []
    for exhibit in paper().exhibits:
        say(f"{exhibit.number}: {exhibit.title}")
        run, source = runs[exhibit.two_classes], of_two if exhibit.two_classes else main
        entry = IndexEntry(exhibit, source.command, _compared(exhibit, run), _missing(exhibit, run))
        if exhibit.two_classes in drawings:
            _add_figures(entry, drawings[exhibit.two_classes], folder)
            _add_tables(entry, run, folder)
        else:
            entry.left_out += [
                f"{NO_PAIRS} {not_measured(source.run, name)}" for name in exhibit.tables
            ]
        if exhibit.two_classes and problem:
            entry.left_out.append(problem)
        entry.left_out = list(dict.fromkeys(entry.left_out))
        entries.append(entry)
    if without_networks := [
        entry.exhibit.number for entry in entries if runs[entry.exhibit.two_classes].records.empty
    ]:
        say(f"No network has values for {', '.join(without_networks)}: {problem or NO_PAIRS}")
    files.write(folder / "index.md", "\n".join(_markdown(entries, command, main.failures)).encode())
    page = render(
        "paper.html.j2", paper=paper(), entries=entries, command=command, failures=main.failures
    )
    files.write(folder / "index.html", page.encode())
    return folder / "index.html"


def on_two_classes(run: RunFolder) -> RunFolder:
    """The run, of the images alone of which exactly two classes are explained."""
    counts = _explained(run).groupby(["data", "image_id"])["target_class"].nunique()
    pairs = set(counts[counts == 2].index)
    kept = []
    for part in (run.records, run.class_records):
        places = zip(part.keys["data"].astype(str), part.keys["image_id"], strict=True)
        kept.append(part.where(np.array([place in pairs for place in places], dtype=bool)))
    return replace(run, records=kept[0], class_records=kept[1])


def _explained(run: RunFolder) -> pd.DataFrame:
    """data, image_id and target_class of what is explained; rows may repeat."""
    tables = [
        part.of_images[["data", "image_id", "target_class"]]
        for part in (run.records, run.class_records)
    ]
    return pd.concat([table.astype({"data": str, "image_id": str}) for table in tables])


def _add_figures(entry: IndexEntry, figures: Sequence[Figure | LeftOut], folder: Path) -> None:
    exhibit = entry.exhibit
    for figure in figures:
        if (
            isinstance(figure, Figure)
            and exhibit.figures
            and figure.name.startswith(exhibit.figures)
        ):
            named = replace(figure, name=f"{exhibit.file}-{figure.name}")
            named.save(folder, FORMATS)
            entry.files += [f"{named.file_name}.{kind}" for kind in FORMATS]
            entry.pictures[f"{named.file_name}.{FORMATS[0]}"] = figure.caption
        elif isinstance(figure, LeftOut) and figure.number == exhibit.number:
            entry.left_out.append(figure.reason)


def _add_tables(entry: IndexEntry, run: RunFolder, folder: Path) -> None:
    exhibit, tables = entry.exhibit, {}
    summary = leading(run.summary[run.summary["method"] != METHOD_FREE])
    for name in exhibit.tables:
        rows = summary[summary["metric"] == name]
        if (rows["n"] > 0).any():
            tables[f"{exhibit.file}-{files.safe_name(name)}"] = headline_table(
                run, run.metadata.value(name), rows
            )
        else:
            entry.left_out.append(not_measured(run, name))
    if exhibit.against is not None:
        if (costs := cost_table(run, exhibit.against)) is not None:
            tables[exhibit.file] = costs
        else:
            entry.left_out.append("This run has no run times: runtime.repeats=5 measures them.")
    for name, table in tables.items():
        texts = {
            f"{name}.tex": to_latex(replace(table, name=name)),
            f"{name}.md": to_markdown(table),
        }
        for file, text in texts.items():
            files.write(folder / file, text.encode())
        entry.files += texts
        entry.tables.append(table)


def _compared(exhibit: Exhibit, run: RunFolder) -> dict[str, str]:
    """{"Networks" and "Images": those of the paper's exhibit, and the run's}."""
    counts = _explained(run).groupby("data")["image_id"].nunique()
    images = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
    of_two = " with exactly two classes" if exhibit.two_classes and images else ""
    networks = "" if run.records.empty else ", ".join(run.manifest.models)
    pairs = {
        "Networks": (", ".join(exhibit.networks), networks),
        "Images": (exhibit.images, images + of_two),
    }
    return {
        name: f"{f'{known} in the paper; ' if known else ''}{ours or 'none'} in this run"
        for name, (known, ours) in pairs.items()
    }


def _missing(exhibit: Exhibit, run: RunFolder) -> str:
    """What the run lacks of the paper's exhibit, in one sentence; empty where nothing is
    missing.
    """
    models = run.manifest.models
    absent = [
        name
        for name in exhibit.networks
        if not any(model.split("+")[0] == name for model in models)
    ]
    random = [name for name, model in models.items() if model.random_weights]
    parts = [f"the paper's networks {', '.join(absent)}"] if absent else []
    parts += [f"trained weights of {', '.join(random)}"] if random else []
    return f"This run lacks {'; '.join(parts)}." if parts else ""


TIMES = "\N{MULTIPLICATION SIGN}"


def cost_table(run: RunFolder, against: str) -> Table | None:
    """Methods as rows, networks as columns: ms an image, trace and method together, and in brackets
    how many times the time of `against` that is. None where nothing was timed.
    """
    if run.runtime.empty:
        return None
    columns: dict[str, dict[str, Cell]] = {}
    for setting in run.settings:
        times = milliseconds(run, setting)
        total = times.drop(TRACE, errors="ignore") + times.get(TRACE, float("nan"))
        ratio = total / total.get(against, float("nan"))
        texts = {
            name: f"{number(total[name])} ({number(ratio[name])}{TIMES})" for name in total.index
        }
        columns[run.label(setting)] = {name: Cell(text) for name, text in texts.items()}
    rows = tuple(
        (
            Cell(run.metadata.method_title(name)),
            *(column.get(name, Cell(NOTHING)) for column in columns.values()),
        )
        for name in run.methods
        if any(name in column for column in columns.values())
    )
    device, other = run.manifest.device or "an unknown device", run.metadata.method_title(against)
    notes = (
        "Milliseconds an image of one trace and the method; in brackets, how many times those of "
        f"{other} at the same network. Measured on {device}.",
    )
    return Table(
        "cost", f"Run time beside {other}", ("Method", *columns), (Group("", rows),), notes
    )
