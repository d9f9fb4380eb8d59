"""Write the tables and counts in docs/ and README.md from conf/, the functions' docstrings,
conf/references.bib, the command line's parser and findings.csv.

python scripts/write_docs.py            # writes the tables of methods.md, metrics.md, paper.md,
which-metric.md, ... python scripts/write_docs.py --measure  # also README's table, by the command
that README names (half a minute) python scripts/write_docs.py --check    # exit code 1, and the
files' names, where a table is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from line_links import with_lines

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import parser
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.judging.tests import GAMING, SANITY, TESTS
from axiom_bench.report import write
from axiom_bench.report.card import line_cells
from axiom_bench.report.paper import Exhibit, paper
from axiom_bench.run import manifest
from axiom_bench.statistics.paired_tests import LEVEL

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
START, END = "<!-- written by scripts/write_docs.py -->", "<!-- end of the table -->"
COMMAND = re.compile(r"^axiom-bench (.*metric=.*)$", re.MULTILINE)  # the one above README's table
NUMBER = re.compile(r"\d+(?:\.\d+)?")

Row = Sequence[str]


@cache
def methods_table() -> list[Row]:
    """Header and one row for each method of conf/method."""
    header = (
        "name",
        "method",
        "definition",
        "result",
        "on the score's scale",
        "cost",
        "parameters",
        "source",
        "note",
    )
    return [
        header,
        *(_method_row(plugins.load("method", name)) for name in plugins.names("method")),
    ]


@cache
def metrics_table() -> list[Row]:
    """Header and one row for each metric of conf/metric."""
    about = (
        "unit, kind, better",
        "cost",
        "parameters",
        "source",
        "cited definition",
        "as cited",
        "note",
    )
    header = ("name", "definition", *about)
    return [
        header,
        *(_metric_row(plugins.load("metric", name)) for name in plugins.names("metric")),
    ]


@cache
def paper_table() -> list[Row]:
    """Header and one row for each figure and table of the paper, of conf/paper.yaml."""
    header = (
        "paper",
        "shows",
        "run",
        "files",
        "its networks",
        "its images",
        "shared with its text",
        "different",
    )
    return [header, *(_exhibit_row(exhibit) for exhibit in paper().exhibits)]


def _exhibit_row(exhibit: Exhibit) -> Row:
    parts = [
        f"{exhibit.file}-{name}"
        for name in (*(f"{name}*" for name in exhibit.figures), *exhibit.tables)
    ]
    files = ", ".join(f"`{name}`" for name in parts or [exhibit.file])
    run = "`experiment=paper_two_classes`" if exhibit.two_classes else "`experiment=paper`"
    known = (", ".join(exhibit.networks) or "unknown", exhibit.images or "unknown")
    return exhibit.number, exhibit.title, run, files, *known, exhibit.shares, exhibit.differs


@cache
def scorecard_table() -> list[Row]:
    """Header and one row for each metric of docs/data/scorecard.csv, which write_scorecard.py
    wrote.
    """
    card = pd.read_csv(
        DOCS / "data" / "scorecard.csv", dtype={"passes": str}, keep_default_na=False
    )
    card["passes"] = card["passes"].map({"True": True, "False": False})
    lines = line_cells(card)
    columns = next(iter(lines.values()))
    titles = (
        f"{TESTS[test].title}, `{truth}`" if truth else TESTS[test].title for test, truth in columns
    )
    header = ("metric", *titles, "images", "measured at")
    rows = {str(metric): of_metric for metric, of_metric in card.groupby("metric", sort=False)}
    return [
        header,
        *(
            (f"`{metric}`", *cells.values(), *_measured(rows[metric]))
            for metric, cells in lines.items()
        ),
    ]


def _measured(rows: pd.DataFrame) -> tuple[str, str]:
    """Of a metric's rows the fewest and most images of a network, and the commits with the last
    date.
    """
    images = rows.loc[~rows["test"].isin([SANITY, GAMING]), "n"]  # gaming judges by half of them
    counts = " to ".join(map(str, sorted({images.min(), images.max()})))
    return counts, f"{', '.join(dict.fromkeys(rows['commit']))}, {rows['date'].max()}"


@cache
def commands_table() -> list[Row]:
    """Header, one row for each command of the command line, and one for each of its arguments."""
    (commands,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    about = {choice.dest: choice.help for choice in commands._choices_actions}
    rows: list[Row] = [("command, arguments", "meaning")]
    for name, command in commands.choices.items():
        rows.append((f"**{name}**", about[name] or ""))
        listed = [
            action
            for action in command._actions
            if action.help != argparse.SUPPRESS and action.dest != "help"
        ]
        rows += [
            (f"`{_argument(action)}`", (action.help or "").replace("%%", "%")) for action in listed
        ]
    return rows


@cache
def dimensions_table() -> list[Row]:
    """Header, and a row for each number of axes of space: how many methods and metrics apply, and
    which don't.
    """
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


@cache
def method_counts() -> dict[str, int]:
    """All methods of conf/method, and those of them that are controls."""
    entries = [plugins.load("method", name) for name in plugins.names("method")]
    return {"methods": len(entries), "controls": sum(bool(entry.spec.control) for entry in entries)}


@cache
def conservation_counts() -> dict[str, int]:
    """The networks on which XGrad-CAM's conservation error is significantly smaller or larger than
    Grad-CAM's.
    """
    tests = pd.read_csv(DOCS / "data" / "findings.csv")
    tests = tests[(tests["question"] == "axioms") & (tests["metric"] == "conservation_error")]
    gains = tests.loc[tests["adjusted"] < LEVEL, "gain"]
    return {
        "smaller": int((gains > 0).sum()),
        "larger": int((gains < 0).sum()),
        "networks": len(tests),
    }


# The sentences with counts, as patterns: each named group is the count of this name.
SENTENCES: dict[str, tuple[str, Callable[[], Mapping[str, int]]]] = {
    "../README.md": (
        r"run time of (?P<methods>\d+) methods, (?P<controls>\d+) of them controls",
        method_counts,
    ),
    "faq.md": (
        r"smaller on (?P<smaller>\d+) of (?P<networks>\d+) networks and larger on (?P<larger>\d+)",
        conservation_counts,
    ),
}


def _counted(text: str, pattern: str, counts: Mapping[str, int]) -> str | None:
    """The text with its sentence's counts as they are now; None without the sentence."""
    found = re.search(pattern, text)
    if found is None:
        return None
    for name in sorted(counts, key=found.start, reverse=True):
        text = f"{text[: found.start(name)]}{counts[name]}{text[found.end(name) :]}"
    return text


def with_measured_table(readme: str) -> str:
    """README's text with the table that its command writes now. A table that differs by rounding
    alone stays as it is. Raises BenchError without the command or the markers around the table.
    """
    before, _, rest = readme.partition(START)
    current, end, after = rest.partition(END)
    command = COMMAND.search(before)
    if not end or command is None:
        raise BenchError(
            f"README.md needs a command with metric=... above a table between {START!r} and "
            f"{END!r}."
        )
    with TemporaryDirectory() as results:
        code, lines, folder = compute([*shlex.split(command[1]), f"results={results}"])
        if code:
            raise BenchError("\n".join(lines))
        write(folder)
        written = (folder / "tables" / "overview.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in written.splitlines() if line.startswith("|"))
    return f"{before}{START}\n\n{current.strip() if is_close(current.strip(), table) else table}\n\n{END}{after}"


def is_close(printed: str, computed: str) -> bool:
    """Whether two texts differ only in the last of three printed digits, as on another
    processor.
    """
    if NUMBER.sub("", printed) != NUMBER.sub("", computed):
        return False
    pairs = zip(
        map(float, NUMBER.findall(printed)), map(float, NUMBER.findall(computed)), strict=True
    )
    return all(abs(first - second) <= 0.011 * max(first, second) for first, second in pairs)


def _argument(action: argparse.Action) -> str:
    """As it is typed: FILE, [FILE ...], --option VALUE."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    value = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(
        str(action.nargs), value
    )
    return f"{', '.join(action.option_strings)} {value}".strip()


TABLES: dict[str, Callable[[], list[Row]]] = {
    "methods.md": methods_table, "metrics.md": metrics_table, "paper.md": paper_table,
    "which-metric.md": scorecard_table, "cli.md": commands_table, "your-network.md": dimensions_table,
}  # fmt: skip


def _method_row(method: Plugin[MethodSpec]) -> Row:
    definition, _, result = method.description.rstrip(".").rpartition(" -> ")
    spec, scale = method.spec, "yes" if method.spec.on_score_scale else "no"
    named = (f"`{method.name}`", spec.title or method.name, definition, f"`{result}`", scale)
    return *named, _cost(spec), _parameters(method.params), _source(spec.reference), spec.note or ""


def _metric_row(metric: Plugin[MetricSpec]) -> Row:
    spec = metric.spec
    names = dict.fromkeys((metric.name, *value_names(metric), *whole_set_value_names(metric)))
    listed, unit = (
        ", ".join(f"`{name}`" for name in names),
        f"{spec.unit}, {spec.kind}, {spec.better}",
    )
    cited = (spec.definition or "", f"no: {spec.deviation}" if spec.deviation else "yes")
    facts = (
        unit,
        _cost(spec),
        _parameters(metric.params),
        _source(spec.reference),
        *cited,
        spec.note or "",
    )
    return listed, metric.description, *facts


def _cost(spec: MethodSpec | MetricSpec) -> str:
    """The passes that the YAML says, or that it needs ablation drops; empty for none and for an
    unknown number.
    """
    if isinstance(spec, MethodSpec) and spec.needs_drops:
        return "ablation drops"
    plural = "" if spec.passes == 1 else "es"
    return f"{spec.passes} pass{plural}" if spec.passes else ""


def _parameters(params: Mapping[str, Any]) -> str:
    """The parameters with their values, as on the command line."""
    values = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in params.items()
    }
    return f"`{' '.join(f'{name}={value}' for name, value in values.items())}`" if values else ""


def _source(key: str | None) -> str:
    """Authors and year of a reference with its link. Raises BenchError for a key without an
    entry.
    """
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
    """The documents whose table or count differs from conf/, each with the text that it should
    have. Raises BenchError for one without the markers around its table, or without its sentence.
    """
    changed = {}
    for path, rows in ((folder / name, table()) for name, table in TABLES.items()):
        text = path.read_text(encoding="utf-8")
        before, start, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not start or not end:
            raise BenchError(f"{path.name} needs the lines {START!r} and {END!r} around its table.")
        if (expected := f"{before}{START}\n\n{markdown(rows)}\n\n{END}{after}") != text:
            changed[path] = expected
    for name, (pattern, counts) in SENTENCES.items():
        path = (folder / name).resolve()
        text = changed.get(path) or path.read_text(encoding="utf-8")
        if (counted := _counted(text, pattern, counts())) is None:
            raise BenchError(f"{path.name} needs a sentence that matches {pattern!r}.")
        if counted != text:
            changed[path] = counted
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Write, or check, the tables; the exit code is 1 where a check finds one out of date."""
    parser = argparse.ArgumentParser(description="Write the tables in docs/.")
    parser.add_argument(
        "--check", action="store_true", help="only say which documents are out of date"
    )
    parser.add_argument(
        "--measure", action="store_true", help="also README's table, which takes half a minute"
    )
    options = parser.parse_args(argv)
    check, changed = options.check, out_of_date()
    if options.measure:
        text = changed.get(README) or README.read_text(encoding="utf-8")
        if (measured := with_measured_table(text)) != text:
            changed[README] = measured
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        linked = with_lines(path, changed.get(path, text))
        if linked != text:
            changed[path] = linked
    for path, text in changed.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        print(
            f"{path.name}: "
            f"{'out of date; run python scripts/write_docs.py' if check else 'written'}"
        )
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
