"""Write the tables and counts in docs/ and README.md.

    python scripts/write_docs.py            # what is generated in methods.md, docs/metrics/, ...
    python scripts/write_docs.py --measure  # also README's table, by the command that README names
    python scripts/write_docs.py --check    # exit code 1 and the files' names if one is out of date

The sources are conf/, the functions' docstrings, conf/references.bib, the command line's parser and
findings.csv. --measure takes half a minute.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from line_links import defined_lines, with_lines

import axiom_bench
from axiom_bench import compat, report
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import parser
from axiom_bench.cutting import output_presets as outputs
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.other_names import other_names
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.judging.card import PRIMARY, verdicts
from axiom_bench.judging.tests import GAMING, SANITY, TESTS
from axiom_bench.models.spec import other_models
from axiom_bench.report import write
from axiom_bench.report.card import line_cells
from axiom_bench.report.paper import Exhibit, paper
from axiom_bench.run import manifest
from axiom_bench.statistics.bootstrap import LEVEL

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
START = "<!-- written by scripts/write_docs.py -->"
END = "<!-- end of the table -->"
# the command above README's table
COMMAND = re.compile(r"^axiom-bench (.*metric=.*)$", re.MULTILINE)
# the start of a metric's `definition` that no publication has
THIS_PROJECT = "this project"
NUMBER = re.compile(r"\d+(?:\.\d+)?")
FIRST_SENTENCE = re.compile(r".*?\.(?= |$)", re.DOTALL)

Row = Sequence[str]


@cache
def methods_table() -> list[Row]:
    """Return a header and one row for each method of conf/method."""
    header = ("name", "definition", "passes", "networks", "source")
    return [
        header,
        *(_method_row(plugins.load("method", name)) for name in plugins.names("method")),
    ]


@cache
def method_notes() -> str:
    """Return a list of the methods that have parameters or a note."""
    items = []
    for name in plugins.names("method"):
        method = plugins.load("method", name)
        params = _parameters(method.params)
        note = method.spec.note or ""
        if params or note:
            head = f"- **`{name}`** {params}".rstrip()
            items.append(f"{head}: {note}" if note else head)
    return "\n".join(items)


@cache
def methods_text() -> str:
    """Return the table of methods, the names on the score's scale and the list of notes."""
    methods = [plugins.load("method", name) for name in plugins.names("method")]
    on_scale = ", ".join(f"`{method.name}`" for method in methods if method.spec.on_score_scale)
    scale = f"These are on the [score's scale](glossary.md#score-scale): {on_scale}."
    return f"{markdown(methods_table())}\n\n{scale}\n\n### Notes\n\n{method_notes()}"


@dataclass(frozen=True)
class Family:
    """The metrics of one page of docs/metrics/."""

    page: str
    """The name of the page's file, without its suffix."""
    title: str
    text: str
    """The question that its metrics answer."""
    has: Callable[[MetricSpec], bool]
    """Return True if a metric that is in no earlier family belongs to this one."""


def _needs(spec: MetricSpec) -> set[str]:
    return {need.name for need in spec.needs}


# A metric belongs to the first family of which `has` is true. `has` reads `computed_from`, `needs`
# and `of` of conf/metric, so a new metric finds its family by itself.
FAMILIES = (
    Family(
        "known-truth",
        "Known truth",
        "Is the explanation right? Only networks that report their true contributions can say, "
        "such as the [planted](../glossary.md#planted) ones.",
        lambda spec: bool(_needs(spec) & {"truth", "positive_truth"}),
    ),
    Family(
        "interventions",
        "Interventions",
        "Does the map agree with what each part of the image does to the score? The data set "
        "draws the image again without each part, so no pixel is filled or blurred.",
        # A metric of a code's structure reads only the regions of the parts, not their effects.
        lambda spec: "interventions" in _needs(spec) and "structure" not in _needs(spec),
    ),
    Family(
        "axioms",
        "Axioms",
        "Do the contributions obey the axioms of the paper? Read the median: errors divided by "
        "|S| have heavy tails near S = 0.",
        lambda spec: spec.of == "layer" or bool({"drops", "score"} & {*spec.computed_from}),
    ),
    Family(
        "robustness",
        "Robustness, classes and randomisation",
        "Does the map change when it should, and only then? These metrics explain again: another "
        "image, another class or another model.",
        lambda spec: "other_maps" in spec.computed_from,
    ),
    Family(
        "deletion",
        "Deletion and insertion by the heatmap",
        "Does the score follow the pixels that the heatmap shows? Pixels are removed or inserted "
        "in the order of the heatmap.",
        lambda spec: "perturbed_scores" in spec.computed_from and "nonzero_map" in _needs(spec),
    ),
    Family(
        "signed-deletion",
        "Deletion by the signed map",
        "Do the drops of the score agree with the map's values? Groups of pixels are removed, and "
        "the drops of the score are compared with the sums of the signed raw map there.",
        lambda spec: "perturbed_scores" in spec.computed_from,
    ),
    Family(
        "localization",
        "Localization",
        "Does the map lie on the object? These metrics ask where the object is, not what the "
        "network used.",
        lambda spec: "regions" in spec.computed_from,
    ),
    Family(
        "complexity",
        "Complexity",
        "How simple is the map? These metrics read only the map.",
        lambda spec: not spec.computed_from,
    ),
)


FAMILY_INTRODUCTION = """[All metrics](../metrics.md) has the rules that hold for every metric, \
the [symbols](../metrics.md#symbols) of the formulas, what a [pass](../metrics.md#cost) costs, and \
the [needs](../metrics.md#when-a-value-is-missing) without which a value is missing."""


@cache
def metrics_by_family() -> dict[Family, list[Plugin[MetricSpec]]]:
    """Return the metrics of each family, without those that are the fast form of another metric.

    Raises:
        BenchError: If a metric belongs to no family.
    """
    metrics: dict[Family, list[Plugin[MetricSpec]]] = {family: [] for family in FAMILIES}
    for metric in _metrics():
        family = next((family for family in FAMILIES if family.has(metric.spec)), None)
        if family is None:
            raise BenchError(f"No page of docs/metrics/ has {metric.name!r}; see FAMILIES.")
        if not metric.spec.fast_form_of:  # the section of the full metric describes it
            metrics[family].append(metric)
    return metrics


def _metrics() -> list[Plugin[MetricSpec]]:
    return [plugins.load("metric", name) for name in plugins.names("metric")]


@cache
def metrics_table() -> list[Row]:
    """Return a header and one row for each name in the records, with a link to its section."""
    rows: dict[str, Row] = {}
    fast_forms = _fast_forms()
    for family, metrics in metrics_by_family().items():
        page = f"metrics/{family.page}.md"
        family_link = f"[{family.title}]({page})"
        for metric in metrics:
            anchor = f"{page}#{metric.name}"
            definition = FIRST_SENTENCE.match(metric.description)
            assert definition, metric.name
            definitions = {metric.name: definition[0]}
            if metric.name in fast_forms:
                fast_name = fast_forms[metric.name].name
                definitions[fast_name] = f"The fast form of `{metric.name}`."
            for name in (*value_names(metric), *whole_set_value_names(metric)):
                definitions.setdefault(name, f"A value of `{metric.name}`.")
            for name, text in definitions.items():
                rows.setdefault(name, (f"[`{name}`]({anchor})", text, family_link))
    return [("metric", "definition", "page"), *(rows[name] for name in sorted(rows))]


def _fast_forms() -> dict[str, Plugin[MetricSpec]]:
    """Return the fast form of each metric that has one."""
    return {metric.spec.fast_form_of: metric for metric in _metrics() if metric.spec.fast_form_of}


@cache
def family_page(family: Family) -> str:
    """Return the page of a family of metrics: its question, and a section for each metric."""
    metrics = metrics_by_family()[family]
    fast_forms = _fast_forms()
    links = ", ".join(f"[`{metric.name}`](#{metric.name})" for metric in metrics)
    parts = [f"# {family.title}", START, family.text, links, FAMILY_INTRODUCTION]
    for metric in metrics:
        parts.append(_metric_section(metric, fast_forms.get(metric.name)))
    return "\n\n".join([*parts, END]) + "\n"


def _metric_section(
    metric: Plugin[MetricSpec],
    fast_form: Plugin[MetricSpec] | None,
) -> str:
    """Return the heading, the definition, the note and the facts of a metric."""
    spec = metric.spec
    params = _parameters(metric.params)
    needs = ", ".join(f"`{name}`" for name in dict.fromkeys(need.name for need in spec.needs))
    value_words = _value_words(spec)
    facts = [f"{value_words[0].upper()}{value_words[1:]}; {_passes(spec)}."]
    if params:
        facts.append(f"Parameters {params}.")
    if needs:
        facts.append(f"Needs {needs}.")
    names = [*dict.fromkeys((*value_names(metric), *whole_set_value_names(metric)))]
    if names != [metric.name]:
        facts.append(f"Recorded as {', '.join(_value_name(metric, name) for name in names)}.")
    items = [" ".join(facts)]
    if fast_form is not None:
        items.append(f"Fast form: `{fast_form.name}`. {fast_form.spec.note or ''}")
    items.append(_definition(spec))
    text = " ".join(filter(None, (metric.description, spec.note)))
    bullets = "\n".join(f"- {item.rstrip()}" for item in items)
    return f"## {metric.name}\n\n{text}\n\n{bullets}"


def _definition(spec: MetricSpec) -> str:
    """Return the source with the definition that the metric follows, and how it differs."""
    source = _source(spec.reference)
    definition = spec.definition or THIS_PROJECT
    if not source:
        return f"Defined by {definition}."
    if definition.startswith(THIS_PROJECT):
        return f"Defined by {definition}. The idea is from {source}."
    differences = f" Here: {spec.deviation}." if spec.deviation else ""
    return f"{source}: {definition}.{differences}"


def _value_words(spec: MetricSpec) -> str:
    """Return unit, range and better direction, such as "area, 0 to 1, lower is better"."""
    words = [spec.unit or "number"]
    if spec.kind == "proportion":
        words.append("0 or 1")
    elif spec.bounds:
        least, largest = spec.bounds
        words.append(_range(least, largest))
    words.append(_direction(spec.better))
    return ", ".join(words)


def _range(least: float | None, largest: float | None) -> str:
    if least is None:
        return f"up to {largest}"
    return f"from {least}" if largest is None else f"{least} to {largest}"


def _direction(better: str) -> str:
    return "ranks nothing" if better == "none" else f"{better} is better"


def _value_name(metric: Plugin[MetricSpec], name: str) -> str:
    """Return the name of a value, with its direction if that isn't the metric's."""
    better = metric.spec.about(name).better
    if better == metric.spec.better:
        return f"`{name}`"
    return f"`{name}` ({_direction(str(better))})"


def _passes(spec: MetricSpec) -> str:
    """Return the number of passes in words."""
    if spec.passes is None:
        return "passes depend on the network or image"
    if spec.passes == 0:
        return "no passes"
    return "1 pass" if spec.passes == 1 else f"{spec.passes} passes"


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


# The signs of the table of verdicts; None: the metric can't be judged by the test.
SIGNS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}", None: "\N{EN DASH}"}


@cache
def scorecard() -> pd.DataFrame:
    """Return docs/data/scorecard.csv, which write_scorecard.py writes."""
    card = pd.read_csv(
        DOCS / "data" / "scorecard.csv", dtype={"passes": str}, keep_default_na=False
    )
    card["passes"] = card["passes"].map({"True": True, "False": False})
    card["value"] = pd.to_numeric(card["value"])
    return card


def metric_links() -> dict[str, str]:
    """Return the link of each name in the records to its section, for a page of docs/."""
    return {row[0].partition("]")[0].strip("[`"): row[0] for row in metrics_table()[1:]}


@cache
def verdicts_table() -> list[Row]:
    """Return a header and one row for each metric, with a sign for each test that counts."""
    links = metric_links()
    verdicts_by_metric = verdicts(scorecard())
    tests = list(next(iter(verdicts_by_metric.values())))
    rows: list[Row] = [("metric", *(TESTS[test].title for test in tests))]
    for metric, verdict_by_test in verdicts_by_metric.items():
        rows.append((links[metric], *(SIGNS[verdict_by_test[test]] for test in tests)))
    return rows


@cache
def scorecard_table() -> list[Row]:
    """Return a header and one row for each metric, with the number of networks on which it passes.

    Tests against a truth are by the primary one.
    """
    card = scorecard()
    cells_by_metric = line_cells(card)
    columns = []
    for test, truth in next(iter(cells_by_metric.values())):
        if truth in ("", PRIMARY):
            columns.append((test, truth))
    rows: list[Row] = [("metric", *(TESTS[test].title for test, _ in columns), "images")]
    rows_by_metric = {str(metric): group for metric, group in card.groupby("metric", sort=False)}
    for metric, cells in cells_by_metric.items():
        texts = [cells[column] for column in columns]
        rows.append((metric, *texts, _images(rows_by_metric[metric])))
    return rows


def scorecard_text() -> str:
    """Return `scorecard_table` with links to the metrics."""
    links = metric_links()
    header, *rows = scorecard_table()
    return markdown([header, *((links[row[0]], *row[1:]) for row in rows)])


def scorecard_csv() -> str:
    """Return the rows of `scorecard_table` as CSV."""
    header, *rows = scorecard_table()
    return pd.DataFrame(rows, columns=list(header)).to_csv(index=False, lineterminator="\n")


def _images(rows: pd.DataFrame) -> str:
    """Return the fewest and most images of a network."""
    images = rows.loc[~rows["test"].isin([SANITY, GAMING]), "n"]  # gaming judges by half of them
    return "-".join(map(str, sorted({images.min(), images.max()})))


def other_names_text() -> str:
    """Return the tables of names in other libraries: what is here, and what isn't."""
    parts = []
    for kind in ("method", "metric"):
        included: list[Row] = [("name", "here")]
        left_out: list[Row] = [("name", "reason")]
        for other in other_names(kind):
            if other.reason:
                left_out.append((other.name, other.reason))
            else:
                entries = ", ".join(f"`{entry}`" for entry in other.entries)
                included.append((other.name, entries))
        title = f"{kind}s".capitalize()
        parts += [f"## {title} under another name", markdown(included)]
        parts += [f"## {title} that are not included", markdown(left_out)]
    models: list[Row] = [("name", "what to do"), *other_models().items()]
    parts += ["## Models of other projects", markdown(models)]
    return "\n\n".join(parts)


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


@dataclass(frozen=True)
class Job:
    """The public names that serve one job of a user."""

    title: str
    names: tuple[str, ...]
    """The names below `axiom_bench`, such as "methods.get"."""
    note: str = ""
    """A sentence above the table."""


API = (
    Job("Explain images", ("load_model", "explain", "overlay", "heatmap", "check")),
    Job("Measure and rank methods", ("choose", "evaluate", "rank", "results", "read_run")),
    Job(
        "Write and compare reports",
        tuple(f"report.{name}" for name in report.__all__),
        "These functions need `from axiom_bench import report`.",
    ),
    Job(
        "Find methods and metrics", ("methods.get", "methods.names", "metrics.get", "metrics.names")
    ),
    Job("Audit a CAM implementation", ("audit", "Audit")),
    Job("Trace a network", ("trace", "cut", "Trace", "CutModel", "FixedDraws")),
    Job("Write a method or a metric", ("Explanation", "Map")),
    Job(
        "Explain detectors, segmenters and other outputs",
        (
            "BoxScores",
            "RegionScores",
            "WordScores",
            *(f"outputs.{name}" for name in outputs.__all__),
        ),
    ),
    Job(
        "Replace pytorch-grad-cam",
        tuple(f"compat.{name}" for name in compat.__all__),
        "These classes need `from axiom_bench.compat import GradCAM`; see "
        "[from-grad-cam.md](from-grad-cam.md).",
    ),
    Job("Bring your own data", ("Batch", "Annotation", "Part")),
    Job("Handle mistakes", ("BenchError",)),
)


@cache
def api_text() -> str:
    """Return a table for each job, with a row for each public name."""
    parts: list[str] = []
    for job in API:
        rows: list[Row] = [("name", "call", "purpose")]
        rows += [_api_row(name) for name in job.names]
        parts += filter(None, [f"## {job.title}", job.note, markdown(rows)])
    return "\n\n".join(parts)


def _api_row(name: str) -> Row:
    """Return a link to the definition, the call without types, and the docstring's sentence."""
    module_name, _, short_name = name.rpartition(".")
    module = getattr(axiom_bench, module_name) if module_name else axiom_bench
    definition = getattr(module, short_name)
    path = Path(inspect.getfile(inspect.unwrap(definition))).resolve()
    line = defined_lines(path)[definition.__name__]
    link = f"[`{definition.__name__}`](../{path.relative_to(ROOT).as_posix()}#L{line})"
    description = " ".join((inspect.getdoc(definition) or "").partition("\n\n")[0].split())
    sentence = FIRST_SENTENCE.match(description)
    assert sentence, name
    # `report` and `compat` aren't among the names of `ab`, because most users need neither
    prefix = "" if module_name in ("report", "compat") else "ab."
    return link, f"`{prefix}{name}{_call(definition)}`", sentence[0]


def _call(definition: Callable[..., object]) -> str:
    """Return the parameters with their defaults. An error takes a message."""
    if isinstance(definition, type) and issubclass(definition, Exception):
        return "(message)"
    parameters = []
    for parameter in inspect.signature(definition).parameters.values():
        text = str(parameter.replace(annotation=inspect.Parameter.empty))
        has_default = parameter.default is not inspect.Parameter.empty
        if has_default and (callable(parameter.default) or parameter.default is Ellipsis):
            text = f"{parameter.name}=..."
        parameters.append(text)
    return f"({', '.join(parameters)})"


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


# What is written between the marks of each page
TEXTS: dict[str, Callable[[], str]] = {
    "methods.md": methods_text,
    "metrics.md": lambda: markdown(metrics_table()),
    "paper.md": lambda: markdown(paper_table()),
    "which-metric.md": lambda: markdown(verdicts_table()),
    "scorecard.md": scorecard_text,
    "api.md": api_text,
    "cli.md": lambda: markdown(commands_table()),
    "signals.md": lambda: markdown(dimensions_table()),
    "other-names.md": other_names_text,
}
FAMILY_PAGES: dict[str, Callable[[], str]] = {
    f"metrics/{family.page}.md": partial(family_page, family) for family in FAMILIES
}
# Files that are written as a whole
FILES = {**FAMILY_PAGES, "data/scorecard-by-metric.csv": scorecard_csv}


def _method_row(method: Plugin[MethodSpec]) -> Row:
    definition = method.description.rstrip(".").rsplit(" -> ", 1)[0]
    return (
        f"`{method.name}`",
        definition,
        _cost(method.spec),
        _networks(method.spec),
        _source(method.spec.reference),
    )


def _networks(spec: MethodSpec) -> str:
    """Return the kind of networks that a method explains."""
    if spec.of_objects:
        return "boxes and masks"
    return "transformers" if spec.of_attention else "any"


def _cost(spec: MethodSpec) -> str:
    """Return the passes of the YAML, or "drops"; empty for no or an unknown number."""
    if spec.needs_drops:
        return "drops"
    return str(spec.passes) if spec.passes else ""


def _parameters(params: Mapping[str, Any]) -> str:
    """Return the parameters with their values, as on the command line."""
    if not params:
        return ""
    words = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
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
    for name, written in TEXTS.items():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        before, start, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not start or not end:
            raise BenchError(f"{path.name} needs the lines {START!r} and {END!r} around its table.")
        expected = f"{before}{START}\n\n{written()}\n\n{END}{after}"
        if expected != text:
            changed[path] = expected
    for name, expected_text in FILES.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != expected_text():
            changed[path] = expected_text()
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
