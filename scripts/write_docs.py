"""Write the tables in docs/ from conf/, the functions' docstrings, conf/references.bib and the command line's parser.

python scripts/write_docs.py            # writes the tables of methods.md, metrics.md, paper.md, which-metric.md, ...
python scripts/write_docs.py --check    # exit code 1, and the files' names, where a table is out of date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.cli.main import parser
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, left_out_of_all, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.judging.card import GAMING, SANITY
from axiom_bench.report.card import TITLES, line_cells
from axiom_bench.report.paper import Exhibit, paper
from axiom_bench.run import manifest
from axiom_bench.testing.costs import in_words, passes_of

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
START, END = "<!-- written by scripts/write_docs.py -->", "<!-- end of the table -->"

Row = Sequence[str]


@cache
def methods_table() -> list[Row]:
    """Header and one row for each method of conf/method."""
    header = ("name", "method", "definition", "result", "on the score's scale", "cost", "parameters", "source", "note")
    return [header, *(_method_row(plugins.load("method", name)) for name in plugins.names("method"))]


@cache
def metrics_table() -> list[Row]:
    """Header and one row for each metric of conf/metric."""
    about = ("unit, kind, better", "parameters", "source", "cited definition", "as cited", "note")
    header = ("name", "definition", *about)
    return [header, *(_metric_row(plugins.load("metric", name)) for name in plugins.names("metric"))]


@cache
def paper_table() -> list[Row]:
    """Header and one row for each figure and table of the paper, of conf/paper.yaml."""
    header = ("paper", "shows", "run", "files", "its networks", "its images", "shared with its text", "different")
    return [header, *(_exhibit_row(exhibit) for exhibit in paper().exhibits)]


def _exhibit_row(exhibit: Exhibit) -> Row:
    parts = [f"{exhibit.file}-{name}" for name in (*(f"{name}*" for name in exhibit.figures), *exhibit.tables)]
    files = ", ".join(f"`{name}`" for name in parts or [exhibit.file])
    run = "`experiment=paper_two_classes`" if exhibit.two_classes else "`experiment=paper`"
    known = (", ".join(exhibit.networks) or "unknown", exhibit.images or "unknown")
    return exhibit.number, exhibit.title, run, files, *known, exhibit.shares, exhibit.differs


@cache
def scorecard_table() -> list[Row]:
    """Header and one row for each metric of docs/data/scorecard.csv, which write_scorecard.py wrote."""
    card = pd.read_csv(DOCS / "data" / "scorecard.csv", dtype={"passes": str}, keep_default_na=False)
    card["passes"] = card["passes"].map({"True": True, "False": False})
    lines = line_cells(card)
    columns = next(iter(lines.values()))
    titles = (f"{TITLES[test]}, `{truth}`" if truth else TITLES[test] for test, truth in columns)
    header = ("metric", *titles, "images", "measured at")
    rows = {str(metric): of_metric for metric, of_metric in card.groupby("metric", sort=False)}
    return [header, *((f"`{metric}`", *cells.values(), *_measured(rows[metric])) for metric, cells in lines.items())]


def _measured(rows: pd.DataFrame) -> tuple[str, str]:
    """Of a metric's rows the fewest and most images of a network, and the commits with the last date."""
    images = rows.loc[~rows["test"].isin([SANITY, GAMING]), "n"]  # gaming judges by half of them
    counts = " to ".join(map(str, sorted({images.min(), images.max()})))
    return counts, f"{', '.join(dict.fromkeys(rows['commit']))}, {rows['date'].max()}"


@cache
def commands_table() -> list[Row]:
    """Header, one row for each command of the command line, and one for each of its arguments."""
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    about = {choice.dest: choice.help for choice in commands._choices_actions}
    rows: list[Row] = [("command, arguments", "meaning")]
    for name, command in commands.choices.items():
        rows.append((f"**{name}**", about[name] or ""))
        listed = [action for action in command._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
        rows += [(f"`{_argument(action)}`", (action.help or "").replace("%%", "%")) for action in listed]
    return rows


@cache
def dimensions_table() -> list[Row]:
    """Header, and a row for each number of axes of space: how many methods and metrics apply, and which don't."""
    rows: list[Row] = [("data", "methods", "metrics")]
    for axes, data in ((1, "signals"), (2, "images"), (3, "volumes")):
        cells = []
        for kind in ("method", "metric"):
            entries = [plugins.load(kind, name) for name in plugins.names(kind)]
            others = [f"`{entry.name}`" for entry in entries if axes not in entry.dimensions]
            count = f"{len(entries) - len(others)} of {len(entries)}"
            cells.append(f"{count}: not {', '.join(others)}" if others else count)
        rows.append((data, *cells))
    return rows


def _argument(action: argparse.Action) -> str:
    """As it is typed: FILE, [FILE ...], --option VALUE."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    value = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)
    return f"{', '.join(action.option_strings)} {value}".strip()


TABLES: dict[str, Callable[[], list[Row]]] = {
    "methods.md": methods_table, "metrics.md": metrics_table, "paper.md": paper_table,
    "which-metric.md": scorecard_table, "cli.md": commands_table, "your-network.md": dimensions_table,
}  # fmt: skip


def _method_row(method: Plugin[MethodSpec]) -> Row:
    definition, _, result = method.description.rstrip(".").rpartition(" -> ")
    spec, scale = method.spec, "yes" if method.spec.on_score_scale else "no"
    named = (f"`{method.name}`", spec.title or method.name, definition, f"`{result}`", scale)
    return *named, _cost(method), _parameters(method.params), _source(spec.reference), spec.note or ""


def _metric_row(metric: Plugin[MetricSpec]) -> Row:
    spec = metric.spec
    names = dict.fromkeys((metric.name, *value_names(metric), *whole_set_value_names(metric)))
    listed, unit = ", ".join(f"`{name}`" for name in names), f"{spec.unit}, {spec.kind}, {spec.better}"
    cited = (spec.definition or "", f"no: {spec.deviation}" if spec.deviation else "yes")
    facts = (unit, _parameters(metric.params), _source(spec.reference), *cited, spec.note or "")
    return listed, metric.description, *facts


def _cost(method: Plugin[MethodSpec]) -> str:
    """In words; none of a method that has to be told what to read, or explains some networks alone."""
    return "" if left_out_of_all(method.as_dict()) else in_words(method, passes_of(method))


def _parameters(params: Mapping[str, Any]) -> str:
    """The parameters with their values, as on the command line."""
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    return f"`{' '.join(f'{name}={value}' for name, value in values.items())}`" if values else ""


def _source(key: str | None) -> str:
    """Authors and year of a reference with its link. Raises BenchError for a key without an entry."""
    if key is None:
        return ""
    reference = manifest.reference(key)
    cited = f"{reference.authors} {reference.year}"
    return f"{cited}, [{reference.label or 'link'}]({reference.url})" if reference.url else cited


def markdown(rows: Sequence[Row]) -> str:
    """A table whose first row is its header; pipes in cells are escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def out_of_date(folder: Path = DOCS) -> dict[Path, str]:
    """The documents whose table differs from conf/, each with the text that it should have. Raises BenchError for one
    without the markers around its table."""
    changed = {}
    for path, rows in ((folder / name, table()) for name, table in TABLES.items()):
        text = path.read_text(encoding="utf-8")
        before, start, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not start or not end:
            raise BenchError(f"{path.name} needs the lines {START!r} and {END!r} around its table.")
        if (expected := f"{before}{START}\n\n{markdown(rows)}\n\n{END}{after}") != text:
            changed[path] = expected
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Write, or check, the tables; the exit code is 1 where a check finds one out of date."""
    parser = argparse.ArgumentParser(description="Write the tables in docs/.")
    parser.add_argument("--check", action="store_true", help="only say which documents are out of date")
    check = parser.parse_args(argv).check
    changed = out_of_date()
    for path, text in changed.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {'out of date; run python scripts/write_docs.py' if check else 'written'}")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
