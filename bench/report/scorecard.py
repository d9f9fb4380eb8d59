"""The scorecard of metrics: what `axiom-bench judge` prints and writes into tables/, and a section of the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.judging import judgement as judging
from axiom_bench.judging.agreement import TAU
from axiom_bench.judging.judgement import SIZES, Judgement, is_small, overall, spoiled_methods
from axiom_bench.records import files, running
from axiom_bench.report.page.html import Section, part
from axiom_bench.report.page.tables import SCRIPTS, STYLES, Terms, block
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric, to_csv, to_markdown, to_text
from axiom_bench.report.tables.text import ARROWS, warning_lines
from axiom_bench.statistics.labels import NOTHING, Setting, with_interval
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Judging the metrics"
ABOUT = "\N{ALMOST EQUAL TO}"
AT_MOST = "\N{LESS-THAN OR EQUAL TO}"
AT_LEAST = "\N{GREATER-THAN OR EQUAL TO}"
HEADER = (
    "Metric", "Methods", "Images", "Alpha [95 %]", "Tau of halves", f"n for tau {TAU:g}", "Best control", "Verdict",
)  # fmt: skip
NOTES = (
    "Alpha: Krippendorff's ordinal alpha of the images' rankings of the methods, 1 where all images agree, 0 where "
    "they agree as by chance. Tau of halves: Kendall's tau-b between the orders of the methods by two random halves of "
    "the images, the mean over 200 splits. Methods that coincide are one.",
    f"n for tau {TAU:g}: images of which two sets would agree by it; {AT_MOST} where the halves do, {ABOUT} "
    f"extrapolated, with its range; {AT_LEAST} where methods may be tied, and no number may do (docs/judging.md).",
    "Best control: the control with the best value, its place and, in brackets, the places that can't be excluded.",
)
RECOVERY_NOTE = (
    "Right: the share of pairs of explanations, spoiled to two degrees in one way, that the metric puts in the right "
    "order by its mean (or median) over 1, 10 and 100 images. A tie counts half. A dash where there are fewer images. "
    f"Verdict: passes where the interval at 100 images is above {judging.GOAL:.0%}, fails where it is below."
)


def all_tables(run: RunFolder, judgements: list[Judgement]) -> Iterator[Table]:
    """Of each setting the table of metrics, and those of controls, recovery and disagreement where they have rows."""
    for number, judgement in enumerate(judgements, start=1):
        yield metrics_table(run, judgement, number)
    for number, judgement in enumerate(judgements, start=1):
        for table in (controls_table, recovery_table, disagreement_table):
            made = table(run, judgement, number)
            if made.groups[0].rows:
                yield made


def metrics_table(run: RunFolder, judgement: Judgement, number: int = 1) -> Table:
    """A row for each metric. The columns of recovery are there where any metric has it."""
    recovered = {(row["metric"], row["size"]): row for row in overall(judgement.recovery).to_dict("records")}
    header = (*HEADER[:-1], *(f"Right at n = {size}" for size in SIZES), HEADER[-1]) if recovered else HEADER
    controls, words = _best_controls(judgement), verdicts(run, judgement)
    rows = []
    for row in judgement.metrics.to_dict("records"):
        name = row["metric"]
        right = [recovered.get((name, size)) for size in SIZES]
        cells = (*_agreement(row), _control(run, controls.get(name)))
        cells = (*cells, *map(_right, right)) if recovered else cells
        title = run.metadata.value(name).title + ARROWS.get(run.metadata.value(name).better, "")
        rows.append((Cell(title), *cells, Cell(words[name] or NOTHING)))
    notes = (*NOTES, RECOVERY_NOTE) if recovered else NOTES
    return _table(run, judgement, f"judging_metrics_{number}", TITLE, header, rows, notes, 1, text_last=True)


def _table(
    run: RunFolder,
    judgement: Judgement,
    name: str,
    title: str,
    header: tuple[str, ...],
    rows: Any,
    *how: Any,
    **more: Any,
) -> Table:
    return Table.of_setting(name, title, run.label(judgement.setting), header, (Group("", tuple(rows)),), *how, **more)


def verdicts(run: RunFolder, judgement: Judgement) -> dict[str, str]:
    """{metric: how far its order of the methods can be trusted}, in words; empty where nothing tells."""
    controls, recovered = _best_controls(judgement), overall(judgement.recovery).to_dict("records")
    right = {row["metric"]: row for row in recovered if row["size"] == SIZES[-1]}
    rows = {row["metric"]: row for row in judgement.metrics.to_dict("records")}
    return {name: "; ".join(_verdict(run, row, controls.get(name), right.get(name))) for name, row in rows.items()}


def _best_controls(judgement: Judgement) -> dict[Hashable, dict[Hashable, Any]]:
    return judgement.controls.drop_duplicates("metric").set_index("metric").to_dict("index")


def _verdict(
    run: RunFolder, row: Mapping[Any, Any], control: Mapping[Any, Any] | None, right: Mapping[Any, Any] | None
) -> Iterator[str]:
    """Recovery at the most images, whether the order of the methods holds, and a control at the top."""
    if right is not None and not math.isfinite(right["right"]):
        yield f"fewer than {right['size']} images"
    elif right is not None:  # by the interval of the share of right pairs
        failing = "fails" if right["high"] < judging.GOAL else "unclear"
        passing = "passes" if right["low"] >= judging.GOAL else failing
        yield f"{passing}: {right['right']:.0%} of spoiled explanations in the right order"
    if row["methods"] < judging.MIN_METHODS:
        yield f"fewer than {judging.MIN_METHODS} methods that differ"
    elif math.isfinite(row["tau_halves"]):
        order = "order holds" if row["tau_halves"] >= TAU else f"order unsure at n = {row['half']}"
        yield f"{order} (tau of halves {row['tau_halves']:.2f})"
    if control is not None and control["against"] in (judging.BEATS, judging.UNCLEAR):
        yield f"{run.metadata.method_title(control['control'])}, a control, is {control['against']}"


def controls_table(run: RunFolder, judgement: Judgement, number: int = 1) -> Table:
    """All controls of all metrics, one group for each metric."""
    rows = (
        (
            Cell(run.metadata.value(row["metric"]).title),
            Cell(run.metadata.method_title(row["control"])),
            numeric(row["value"]),
            numeric(row["place"], _place(row)),
            Cell(row["against"]),
        )
        for row in judgement.controls.to_dict("records")
    )
    header = ("Metric", "Control", "Value", "Place", "Against the best method")
    notes = (
        "Place: by value, of so many, and the places that can't be excluded. Against: by the paired test against the "
        "best method that is no control, 5 % after Holm over all pairs of the metric.",
    )
    name, title = f"judging_controls_{number}", "Where controls stand"
    return _table(run, judgement, name, title, header, rows, notes, 2, text_last=True)


def recovery_table(run: RunFolder, judgement: Judgement, number: int = 1) -> Table:
    """By case and kind of spoiling."""
    table, rows = judgement.recovery, []
    for (metric, case, kind), selected in table.groupby(["metric", "case", "kind"], sort=False) if len(table) else ():
        first, right = selected.iloc[0], selected.set_index("size").to_dict("index")
        texts = (run.metadata.value(str(metric)).title, str(case), "all kinds" if kind == judging.ALL else str(kind))
        numbers = (count(first["pairs"]), count(first["images"]), numeric(first["missing"], f"{first['missing']:.0%}"))
        rows.append((*map(Cell, texts), *numbers, *(_right(right.get(size)) for size in SIZES)))
    sizes = (f"Right at n = {size}" for size in SIZES)
    header = ("Metric", "Case", "Kind", "Pairs", "Images", "Without a value", *sizes)
    notes = (
        RECOVERY_NOTE,
        "Without a value: the share of images on which one of a pair has none, the mean over pairs.",
    )
    return _table(run, judgement, f"judging_recovery_{number}", "Recovery by kind of spoiling", header, rows, notes, 3)


def disagreement_table(run: RunFolder, judgement: Judgement, number: int = 1) -> Table:
    """A matrix: metrics as rows and columns."""
    table = judgement.disagreement
    names = [name for name in judgement.metrics["metric"] if name in {*table["row"], *table["column"]}]
    tau = {}
    for row in table.to_dict("records"):
        numbers = (row["tau"], row["low"], row["high"])
        cell = Cell(with_interval(*numbers), False, numbers)
        tau[row["row"], row["column"]] = tau[row["column"], row["row"]] = cell
    titles = {name: run.metadata.value(name).title for name in names}
    rows = ((Cell(titles[name]), *(tau.get((name, other), Cell(NOTHING)) for other in names)) for name in names)
    header = ("Metric", *titles.values())
    notes = (
        "Kendall's tau-b between two metrics over the methods that both have, each by its mean or median, turned so "
        "that more is better; in brackets the 95 % interval by a bootstrap over images.",
    )
    return _table(run, judgement, f"judging_disagreement_{number}", "Disagreement of metrics", header, rows, notes)


def _agreement(row: Mapping[Any, Any]) -> tuple[Cell, ...]:
    ends = (row["alpha"], row["alpha_low"], row["alpha_high"])
    alpha = Cell(with_interval(*ends), False, tuple(end for end in ends if math.isfinite(end)))
    tau = row["tau_halves"]
    halves = Cell(NOTHING) if math.isnan(tau) else numeric(tau, f"{tau:.2f} (n = {row['half']})")
    return count(row["methods"]), count(row["images"]), alpha, halves, numeric(row["needed"], needed_text(row))


def needed_text(row: Mapping[Any, Any]) -> str:
    """Two digits of an extrapolated number, with its range; where methods may be tied, what it is at least."""
    needed, least, most = (row[name] for name in ("needed", "least", "most"))
    if math.isnan(needed):
        return NOTHING
    if not row["extrapolated"]:
        return f"{AT_MOST} {row['half']}"
    if math.isinf(max(needed, most)):
        return f"{AT_LEAST} {_two_digits(least)}"
    return f"{ABOUT} {_two_digits(needed)} ({_two_digits(least)} to {_two_digits(most)})"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.1e}'):,.0f}"


def _control(run: RunFolder, row: Mapping[Any, Any] | None) -> Cell:
    if row is None:
        return Cell(NOTHING)
    return numeric(row["place"], f"{run.metadata.method_title(row['control'])}, {_place(row)}")


def _place(row: Mapping[Any, Any]) -> str:
    return f"{row['place']} of {row['places']} [{row['place_low']}, {row['place_high']}]"


def _right(row: Mapping[Any, Any] | None) -> Cell:
    if row is None or not math.isfinite(row["right"]):
        return Cell(NOTHING)
    ends = (row["right"], row["low"], row["high"])
    has_ends = math.isfinite(row["low"]) and math.isfinite(row["high"])
    text = f"{row['right']:.3f}" + (f" [{row['low']:.3f}, {row['high']:.3f}]" if has_ends else "")
    return Cell(text, False, tuple(map(float, ends if has_ends else ends[:1])))


def frames(run: RunFolder, judgements: list[Judgement]) -> dict[str, pd.DataFrame]:
    """{name of a CSV file: all settings}, with unrounded numbers; the metrics with columns right_1, right_1_low,
    right_1_high, ... where there is recovery."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for judgement in judgements:
        for name in ("metrics", "controls", "disagreement", "recovery"):
            parts.setdefault(name, []).append(getattr(judgement, name).assign(**judgement.setting._asdict()))
        metrics, recovered = parts["metrics"][-1], overall(judgement.recovery)
        for size in SIZES if len(recovered) else ():
            selected = recovered[recovered["size"] == size].set_index("metric")
            for end, name in (("right", ""), ("low", "_low"), ("high", "_high")):
                metrics[f"right_{size}{name}"] = metrics["metric"].map(selected[end])
    joined = {name: [selected for selected in tables if len(selected)] or tables[:1] for name, tables in parts.items()}
    return {f"judging_{name}": pd.concat(selected, ignore_index=True) for name, selected in joined.items()}


NO_TRUTH = (
    "Recovery: this run has no spoiled explainers. `axiom-bench experiment=truth` makes cases whose order is known; "
    "give their run folders with --truth."
)


def write_judgement(folder: Path, truth: Sequence[Path] = (), metrics: Collection[str] | None = None) -> list[str]:
    """The lines to print. truth: run folders whose spoiled explainers recovery is measured on, in place of the run's
    own. metrics: names of values, None for all.

    Raises BenchError where a run can't be read, has no such metric, or has nothing to judge.
    """
    run = RunFolder.read(folder)
    names, cases = judging.chosen_metrics(run, metrics), [RunFolder.read(path) for path in truth]
    judging.check(run, len(spoiled_methods(run)))
    recovered = recovery_of_runs(cases, names) if truth else None
    judgements = [judging.judge(run, setting, names, recovered) for setting in _trained(run)]
    made = {files.safe_name(f"{table.name}.md"): to_markdown(table) for table in all_tables(run, judgements)}
    written = made | {f"{name}.csv": to_csv(frame) for name, frame in frames(run, judgements).items()}
    for name, text in written.items():
        files.write(run.path / "tables" / name, text.encode())
    parts = [to_text(metrics_table(run, judgement, number)) for number, judgement in enumerate(judgements, start=1)]
    # The notes are the same below every table.
    notes = parts[-1][len(judgements[-1].metrics) + 2 :] if parts else []
    lines = [line for part in parts for line in (*part[: len(part) - len(notes)], "")]
    hint = [] if truth or spoiled_methods(run) else [NO_TRUTH]
    warnings = [*running.sentences(run.manifest), *warning_lines(run)]
    places = f"written: {run.path / 'tables'}/{{{', '.join(written)}}}"
    return [*warnings, *lines, *notes, *hint, "How each is computed and read: docs/judging.md.", places]


def recovery_of_runs(cases: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """`judgement.recovery_of` of all settings of several runs.

    Raises BenchError for a run without spoiled explainers, and where none has one of the metrics.
    """
    parts = []
    for run in cases:
        if not spoiled_methods(run):
            raise BenchError(f"{run.path} has no spoiled explainers: run it with spoiled=all to judge metrics by it.")
        selected = [name for name in metrics if name in run.metrics]
        name = f"{run.manifest['experiment']}/{run.manifest['run']}"
        judged = (judging.recovery_of(run, setting, selected) for setting in _trained(run))
        parts += [table.assign(case=f"{name}, " + table["case"]) for table in judged if len(table)]
    if not parts:
        raise BenchError("The runs of --truth have none of the metrics of the judged run with a direction.")
    return pd.concat(parts, ignore_index=True)


def _trained(run: RunFolder) -> list[Setting]:
    """Those with trained weights: an untrained network ranks no method."""
    return [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]


def judgements_of(run: RunFolder) -> list[Judgement]:
    """Of the settings with trained weights; none of a run with many values, which takes long."""
    names = judging.chosen_metrics(run, None)
    settings = _trained(run) if names and is_small(run) else []
    return [judging.judge(run, setting, names, in_report=True) for setting in settings]


def section(run: RunFolder, judged: Sequence[Judgement], terms: Terms) -> Section | None:
    """None where no setting has trained weights, and for values of the layer alone.

    judged: `judgements_of` the run. Where there are none the section holds only the command that judges it.
    """
    if not _trained(run) or not judging.chosen_metrics(run, None):
        return None
    tables = [metrics_table(run, judgement, number) for number, judgement in enumerate(judged, start=1)]
    body = part(
        "judging",
        tables=block(tables, terms) if tables else "",
        has_truth=bool(spoiled_methods(run)),
        num_values=f"{len(run.records):,}",
        folder=f"results/{run.manifest['experiment']}/{run.manifest['run']}",
    )
    return Section("judging", TITLE, body, STYLES, SCRIPTS)
