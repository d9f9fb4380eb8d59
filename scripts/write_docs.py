"""Write the tables and counts in docs/ and README.md.

    python scripts/write_docs.py            # the tables of methods.md, metrics.md, paper.md, ...
    python scripts/write_docs.py --measure  # also README's table, by the command that README names
    python scripts/write_docs.py --check    # exit code 1 and the files' names if one is out of date

The sources are conf/, the functions' docstrings, conf/references.bib, the command line's parser and
findings.csv. --measure takes half a minute.
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
START = "<!-- written by scripts/write_docs.py -->"
END = "<!-- end of the table -->"
# the command above README's table
COMMAND = re.compile(r"^axiom-bench (.*metric=.*)$", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")

Row = Sequence[str]


@cache
def methods_table() -> list[Row]:
    """Return a header and one row for each method of conf/method."""
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
    """Return a header and one row for each metric of conf/metric."""
    columns = (
        "unit, kind, better",
        "cost",
        "parameters",
        "source",
        "cited definition",
        "as cited",
        "note",
    )
    header = ("name", "definition", *columns)
    return [
        header,
        *(_metric_row(plugins.load("metric", name)) for name in plugins.names("metric")),
    ]


@cache
def paper_table() -> list[Row]:
    """Return a header and one row for each figure and table of the paper, from conf/paper.yaml."""
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
    names = [*(f"{figure}*" for figure in exhibit.figures), *exhibit.tables]
    files = [f"{exhibit.file}-{name}" for name in names] or [exhibit.file]
    run = "`experiment=paper_two_classes`" if exhibit.two_classes else "`experiment=paper`"
    return (
        exhibit.number,
        exhibit.title,
        run,
        ", ".join(f"`{file}`" for file in files),
        ", ".join(exhibit.networks) or "unknown",
        exhibit.images or "unknown",
        exhibit.shares,
        exhibit.differs,
    )


@cache
def scorecard_table() -> list[Row]:
    """Return a header and one row for each metric of docs/data/scorecard.csv.

    write_scorecard.py writes that file.
    """
    card = pd.read_csv(
        DOCS / "data" / "scorecard.csv", dtype={"passes": str}, keep_default_na=False
    )
    card["passes"] = card["passes"].map({"True": True, "False": False})
    cells_by_metric = line_cells(card)
    columns = next(iter(cells_by_metric.values()))
    titles = [
        f"{TESTS[test].title}, `{truth}`" if truth else TESTS[test].title for test, truth in columns
    ]
    lines: list[Row] = [("metric", *titles, "images", "measured at")]
    rows = {str(metric): group for metric, group in card.groupby("metric", sort=False)}
    for metric, cells in cells_by_metric.items():
        lines.append((f"`{metric}`", *cells.values(), *_measured(rows[metric])))
    return lines


def _measured(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the fewest and most images of a network, and the commits with the last date."""
    images = rows.loc[~rows["test"].isin([SANITY, GAMING]), "n"]  # gaming judges by half of them
    counts = " to ".join(map(str, sorted({images.min(), images.max()})))
    return counts, f"{', '.join(dict.fromkeys(rows['commit']))}, {rows['date'].max()}"


@cache
def commands_table() -> list[Row]:
    """Return a header, one row for each command of the command line, and one per argument."""
    (commands,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    help_texts = {choice.dest: choice.help for choice in commands._choices_actions}
    rows: list[Row] = [("command, arguments", "meaning")]
    for name, command in commands.choices.items():
        rows.append((f"**{name}**", help_texts[name] or ""))
        for action in command._actions:
            if action.help != argparse.SUPPRESS and action.dest != "help":
                rows.append((f"`{_argument(action)}`", (action.help or "").replace("%%", "%")))
    return rows


@cache
def dimensions_table() -> list[Row]:
    """Return a header, and a row for each number of axes of space.

    A row has the numbers of methods and metrics that apply, and the names of those that don't.
    """
    rows: list[Row] = [("data", "methods", "metrics")]
    for axes, data in ((1, "signals"), (2, "images"), (3, "volumes")):
        cells = []
        for kind in ("method", "metric"):
            entries = [plugins.load(kind, name) for name in plugins.names(kind)]
            excluded = [f"`{entry.name}`" for entry in entries if axes not in entry.dimensions]
            count = f"{len(entries) - len(excluded)} of {len(entries)}"
            cells.append(f"{count}: not {', '.join(excluded)}" if excluded else count)
        rows.append((data, *cells))
    return rows


@cache
def method_counts() -> dict[str, int]:
    """Return the number of methods of conf/method, and the number of controls among them."""
    entries = [plugins.load("method", name) for name in plugins.names("method")]
    return {"methods": len(entries), "controls": sum(bool(entry.spec.control) for entry in entries)}


@cache
def conservation_counts() -> dict[str, int]:
    """Return on how many networks XGrad-CAM's conservation error differs from Grad-CAM's.

    Only significant differences count.
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
    """Return the text with its sentence's current counts, or None if the sentence is missing."""
    found = re.search(pattern, text)
    if found is None:
        return None
    for name in sorted(counts, key=found.start, reverse=True):
        text = f"{text[: found.start(name)]}{counts[name]}{text[found.end(name) :]}"
    return text


def with_measured_table(readme: str) -> str:
    """Return README's text with the table that its command writes now.

    A table that differs only by rounding is kept.

    Raises:
        BenchError: If the command or the markers around the table are missing.
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
    current = current.strip()
    table = "\n".join(line for line in written.splitlines() if line.startswith("|"))
    if is_close(current, table):
        table = current
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


def is_close(printed: str, computed: str) -> bool:
    """Return whether two texts differ only in the last of three printed digits.

    Another processor may round differently.
    """
    if NUMBER.sub("", printed) != NUMBER.sub("", computed):
        return False
    pairs = zip(
        map(float, NUMBER.findall(printed)), map(float, NUMBER.findall(computed)), strict=True
    )
    return all(abs(first - second) <= 0.011 * max(first, second) for first, second in pairs)


def _argument(action: argparse.Action) -> str:
    """Return an argument as it is typed: FILE, [FILE ...], --option VALUE."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    value = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(
        str(action.nargs), value
    )
    return f"{', '.join(action.option_strings)} {value}".strip()


TABLES: dict[str, Callable[[], list[Row]]] = {
    "methods.md": methods_table,
    "metrics.md": metrics_table,
    "paper.md": paper_table,
    "which-metric.md": scorecard_table,
    "cli.md": commands_table,
    "signals.md": dimensions_table,
}


def _method_row(method: Plugin[MethodSpec]) -> Row:
    definition, _, result = method.description.rstrip(".").rpartition(" -> ")
    spec = method.spec
    return (
        f"`{method.name}`",
        spec.title or method.name,
        definition,
        f"`{result}`",
        "yes" if spec.on_score_scale else "no",
        _cost(spec),
        _parameters(method.params),
        _source(spec.reference),
        spec.note or "",
    )


def _metric_row(metric: Plugin[MetricSpec]) -> Row:
    spec = metric.spec
    names = dict.fromkeys((metric.name, *value_names(metric), *whole_set_value_names(metric)))
    return (
        ", ".join(f"`{name}`" for name in names),
        metric.description,
        f"{spec.unit}, {spec.kind}, {spec.better}",
        _cost(spec),
        _parameters(metric.params),
        _source(spec.reference),
        spec.definition or "",
        f"no: {spec.deviation}" if spec.deviation else "yes",
        spec.note or "",
    )


def _cost(spec: MethodSpec | MetricSpec) -> str:
    """Return the passes of the YAML, or "ablation drops"; empty for no or an unknown number."""
    if isinstance(spec, MethodSpec) and spec.needs_drops:
        return "ablation drops"
    if not spec.passes:
        return ""
    return "1 pass" if spec.passes == 1 else f"{spec.passes} passes"


def _parameters(params: Mapping[str, Any]) -> str:
    """Return the parameters with their values, as on the command line."""
    if not params:
        return ""
    words = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in params.items()
    ]
    return f"`{' '.join(words)}`"


def _source(key: str | None) -> str:
    """Return authors, year and link of a reference. Raise BenchError if the key has no entry."""
    if key is None:
        return ""
    reference = manifest.reference(key)
    cited = f"{reference.authors} {reference.year}"
    return f"{cited}, [{reference.label or 'link'}]({reference.url})" if reference.url else cited


def markdown(rows: Sequence[Row]) -> str:
    """Return a table whose first row is its header; pipes in cells are escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "| " + " | ".join("---" for _ in rows[0]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def out_of_date(folder: Path = DOCS) -> dict[Path, str]:
    """Return the documents whose table or count differs from conf/, each with its new text.

    Raises:
        BenchError: If a document lacks the markers around its table, or its sentence.
    """
    changed = {}
    for name, table in TABLES.items():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        before, start, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not start or not end:
            raise BenchError(f"{path.name} needs the lines {START!r} and {END!r} around its table.")
        expected = f"{before}{START}\n\n{markdown(table())}\n\n{END}{after}"
        if expected != text:
            changed[path] = expected
    for name, (pattern, counts) in SENTENCES.items():
        path = (folder / name).resolve()
        text = changed.get(path) or path.read_text(encoding="utf-8")
        counted = _counted(text, pattern, counts())
        if counted is None:
            raise BenchError(f"{path.name} needs a sentence that matches {pattern!r}.")
        if counted != text:
            changed[path] = counted
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the tables. Return 1 if a check finds one out of date, otherwise 0."""
    parser = argparse.ArgumentParser(description="Write the tables in docs/.")
    parser.add_argument(
        "--check", action="store_true", help="only say which documents are out of date"
    )
    parser.add_argument(
        "--measure", action="store_true", help="also README's table, which takes half a minute"
    )
    options = parser.parse_args(argv)
    changed = out_of_date()
    if options.measure:
        text = changed.get(README) or README.read_text(encoding="utf-8")
        measured_text = with_measured_table(text)
        if measured_text != text:
            changed[README] = measured_text
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        linked = with_lines(path, changed.get(path, text))
        if linked != text:
            changed[path] = linked
    for path, text in changed.items():
        if options.check:
            print(f"{path.name}: out of date; run python scripts/write_docs.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: written")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
