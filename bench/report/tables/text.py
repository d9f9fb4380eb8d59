"""Texts of cells, headings and notes, the same in all tables; and a run's last lines."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.labels import NOTHING, Setting, Value, counts_text, number, rows_at, with_interval
from axiom_bench.statistics.paired_tests import COMPARE_COLUMNS, LEVEL, compare
from axiom_bench.statistics.ranking import on_common_images, unbeaten
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder, whole_set_problems
from axiom_bench.statistics.summary import counts_of, leading

ARROWS = {"lower": "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}", "higher": "\N{NO-BREAK SPACE}\N{UPWARDS ARROW}"}
PARTIAL = "\N{DAGGER}"
PARTIAL_NOTE = (
    f"{PARTIAL} fewer images or rows than another method has. Methods are compared on those that all compared methods "
    "have (values: table of all metrics); a method that lacks more than a tenth isn't compared. In common:"
)
CONSTRUCTED = "\N{DOUBLE DAGGER}"
BOLD_NOTE = (
    "Bold: from the best value down to the first that a method is significantly better than, which isn't bold; nothing "
    "where no method is better than another, or than a control, which explains nothing. Tests are of the difference of "
    "the two printed values and its bootstrap over images, at 5 % after Holm over all pairs. Methods are compared "
    "image by image, so that a small difference that nearly all images share is told, and a larger one that varies may "
    "not be."
)
INTERVAL_NOTE = (
    "In brackets: 95 % intervals by a bootstrap over images, all rows of an image together; fewer than "
    f"{FEWEST_IMAGES} images have none."
)
LAYER_ALONE = "(layer alone)"
MAX_NOTES = 8
WHOLE_SET_NOTE = (
    "Intervals of values of the whole data set reach 1.96 standard deviations of the run's resamples of the images."
)


def name_of(run: RunFolder, method: str) -> str:
    """The method as people read it; a method-free metric belongs to the layer alone."""
    return LAYER_ALONE if method == METHOD_FREE else run.metadata.method_title(method)


def names_of(run: RunFolder, methods: Iterable[str]) -> str:
    """Methods as people read them, in one list."""
    return ", ".join(name_of(run, method) for method in methods)


def group_name(run: RunFolder, group: Iterable[str]) -> str:
    """Methods that coincide: "HiResCAM = XGrad-CAM"."""
    return " = ".join(name_of(run, method) for method in group)


def heading(value: Value, whole_set: bool = False) -> str:
    """A wide table's column, in two lines: "Conservation error", "median [95 %] ↓"; the arrow points to the better.

    whole_set: the column holds values of the whole data set.
    """
    statistic = "whole data set" if whole_set else value.lead
    return f"{value.title}\n{statistic} [95 %]{ARROWS.get(value.better, '')}"


def group_title(value: Value, whole_set: bool = False) -> str:
    """A long table's group of rows: "Conservation error [ratio], lower is better"."""
    unit = f" [{value.unit}]" if value.unit and value.unit not in value.title else ""
    direction = f", {value.better} is better" if value.better in ARROWS else ""
    return value.title + (" of the whole data set" if whole_set else "") + unit + direction


Row = Mapping[Hashable, Any]  # of a summary: {column: value}


def statistic(row: Row, value: Value, lead: str) -> str:
    """The mean or median (lead) of a metric's summary row with its interval: "0.120 [0.101, 0.137]"."""
    if not row.get("n", 0) > 0:
        return NOTHING
    return with_interval(row[lead], row[f"{lead}_low"], row[f"{lead}_high"], value.rounding)


def statistic_cell(row: Row, value: Value, lead: str, bold: bool = False) -> Cell:
    """`statistic`, marked, with its numbers."""
    numbers = tuple(float(row[name]) for name in (lead, f"{lead}_low", f"{lead}_high")) if row.get("n", 0) > 0 else ()
    return Cell(marked(statistic(row, value, lead), row), bold, tuple(filter(math.isfinite, numbers)))


def marked(text: str, row: Row) -> str:
    """The text of a value with a mark where the method has fewer rows than another method of the metric, and where it
    wins by construction."""
    if text == NOTHING:
        return text
    marks = {PARTIAL: row.get("partial"), CONSTRUCTED: row.get("by_construction")}
    return text + "".join(mark for mark, is_marked in marks.items() if is_marked == True)  # noqa: E712 - it may be NaN


def construction_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """Which methods win by construction in what, of these summary rows."""
    rows = summary[summary["by_construction"].astype(bool) & (summary["n"] > 0)]
    groups = rows.groupby(rows["metric"].astype(str), sort=False)["method"]
    parts = [f"{run.metadata.value(name).title} of {names_of(run, dict.fromkeys(who))}" for name, who in groups]
    return [f"{CONSTRUCTED} 0 by the method's own formula, so not ranked: {'; '.join(parts)}."] if parts else []


def control_notes(
    run: RunFolder, settings: Iterable[Setting], metrics: Collection[str], sign: str = "bold"
) -> list[str]:
    """Why nothing is bold, or has another sign, where a control is unbeaten: see `statistics.comparison`."""
    labels_of: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for setting in settings:
        for name in metrics:
            if controls := unbeaten(run, setting, name):
                title = run.metadata.value(name).title
                labels_of.setdefault(controls, {}).setdefault(title, []).append(run.label(setting))
    return [
        f"Nothing is {sign} in {_listed([f'{title} ({_listed(labels)})' for title, labels in titles.items()])}: no "
        f"method is significantly better than a control ({names_of(run, controls)})."
        for controls, titles in labels_of.items()
    ]


def common_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """What the mark means, and how many images decide which method is best, for each metric with such values."""
    labels_of: dict[str, list[str]] = {}
    for setting in run.settings:
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            if on_common_images(rows):
                labels_of.setdefault(f"{value.title} {_common(run, rows)}", []).append(run.label(setting))
    if not labels_of:
        return []
    several = summary[["model", "layer", "data"]].drop_duplicates().shape[0] > 1
    parts = (f"{text} ({_listed(labels)})" if several else text for text, labels in labels_of.items())
    return [f"{PARTIAL_NOTE} {'; '.join(parts)}."]


def _common(run: RunFolder, rows: pd.DataFrame) -> str:
    """ "n = 60 images, 112 rows, without Random": the images that all compared methods have, and who isn't compared."""
    compared = rows[rows["compared"]]
    others = names_of(run, rows.loc[(rows["n"] > 0) & ~rows["compared"], "method"])
    counts = counts_text(compared["common_images"], compared["common_n"]) if len(compared) else "none"
    return f"{counts}, without {others}" if others else counts


def interval_notes(run: RunFolder, has_whole_set: bool) -> Iterator[str]:
    """What the intervals of a table are, and which of them the run must compute."""
    yield f"{INTERVAL_NOTE} {WHOLE_SET_NOTE}" if has_whole_set else INTERVAL_NOTE
    if has_whole_set:
        yield from whole_set_problems(run)


def without_value(statuses: str) -> str:
    """The counts of what isn't ok, added up: "ok:3 zero_map:1 zero_map:1" -> "map is zero everywhere: 2"; a dash for
    none."""
    total: dict[str, int] = {}
    for pair in statuses.split():
        for name, count in counts_of(pair).items():
            total[name] = total.get(name, 0) + count
    return ", ".join(f"{reason(name)}: {count:,}" for name, count in total.items() if name != OK) or NOTHING


def methods_by_status(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """(status other than ok, "3 of 120") -> the methods with it, of one metric's summary rows."""
    methods: dict[tuple[str, str], tuple[str, ...]] = {}
    for statuses, total, method in zip(rows["statuses"], rows["rows"], rows["method"], strict=True):
        for status, count in counts_of(statuses).items():
            if status != "ok":
                key = (status, f"{count} of {total}")
                methods[key] = (*methods.get(key, ()), str(method))
    return methods


def by_metric(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Value, bool, pd.DataFrame]]:
    """(metric, is it of the whole data set, its rows), in the manifest's order; the whole data set's come first."""
    kinds = [summary["metric"].astype(str), summary["whole_set"].astype(bool)]
    rows_of = dict(iter(summary.groupby(kinds, sort=False)))
    for name in run.metrics:
        for whole_set in (True, False):
            if (name, whole_set) in rows_of:
                yield run.metadata.value(name), whole_set, rows_of[name, whole_set]


def status_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """One sentence for each reason and methods: why a value is missing (a dash), or of fewer rows."""
    labels_of: dict[str, list[str]] = {}
    for setting in run.settings:
        titles_of: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            for (status, count), names in methods_by_status(rows).items():
                titles_of.setdefault((status, count, names), []).append(value.title)
        for (status, count, methods), titles in titles_of.items():
            part, total = count.split(" of ")
            how = "Not measured" if part == total else f"On {part} of {total} rows not measured"
            what = f"{how}, {reason(status)}: {_listed(titles)} of {names_of(run, methods)}."
            labels_of.setdefault(what, []).append(run.label(setting))
    notes = [
        sentence if len(labels) == len(run.settings) else f"{_listed(labels)}: {sentence}"
        for sentence, labels in labels_of.items()
    ]
    more = len(notes) - MAX_NOTES
    return notes if more <= 0 else [*notes[:MAX_NOTES], f"{more} more such notes: see the table of statuses."]


def metric_notes(values: Iterable[Value]) -> list[str]:
    """The notes of the metrics' YAML files, each once."""
    titles: dict[str, list[str]] = {}
    for value in values:
        if value.note:
            titles.setdefault(value.note, []).append(value.title)
    return [f"{_listed(names)}: {note}" for note, names in titles.items()]


def target_note(rule: str) -> str:
    """What "correct" means under each target rule."""
    if rule == "each_label":
        return (
            "Each image has one row for every class that it shows: a row is correct where the explained class is the "
            "predicted one. So an image with several classes has at most one correct row."
        )
    if rule == "predicted":
        return "The explained class is the predicted one, so that every row counts as correct."
    return "Correct: the labelled class, which is explained, is the predicted one."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


REASONS = {
    "bad_image": "image can't be read",
    "constant_map": "a map is the same everywhere",
    "constant_truth": "known contributions are the same everywhere",
    "no_annotation": "no box or mask of the class",
    "no_cells": "image is no mosaic",
    "no_contributions": "no contributions at the layer",
    "no_effect": "no part changes the score",
    "no_idle_part": "every part changes the score",
    "no_image": "no image has a value",
    "no_interventions": "no versions of the image without its parts",
    "no_map": "no map of the image, or of what the metric changes",
    "no_mark": "no spurious mark in the image",
    "no_mask": "no mask of the class",
    "no_positive_effect": "no object or mark speaks for the class",
    "no_probability": "no probability of the class",
    "no_truth": "no known contributions",
    "no_variation": "map or score doesn't vary",
    "not_applicable": "can't explain this network",
    "not_finite": "no finite number",
    "not_on_score_scale": "not on the score's scale",
    "off_objects": "nothing of the map on an object",
    "one_class": "no second class in the image",
    "one_logit": "network has one class only",
    "wrong_class": "image shows other classes only",
    "zero_drops": "no channel changes the score",
    "zero_map": "map is zero everywhere",
    "zero_raw_map": "raw map is zero everywhere",
    "zero_score": "score is 0",
    "zero_truth": "no true evidence for the class",
}


def reason(status: str) -> str:
    """A status in words; one without an entry, as a plug-in may have, with spaces."""
    return REASONS.get(status, status.replace("_", " "))


def last_lines(run: RunFolder, told: Collection[str] = ()) -> list[str]:
    """One line for each metric of `config.report.headline` that was measured and isn't `told`, with every setting; with
    `config.report.compare`, one more for each that has a direction. `warning_lines` come first."""
    options = options_of(run)
    summary = leading(run.summary[run.summary["metric"].isin(options.headline)])
    measured = [name for name in options.headline if name in set(summary["metric"])]
    lines = []
    for value in map(run.metadata.value, (name for name in measured if name not in told)):
        rows = summary[summary["metric"] == value.name]
        parts = [f"{run.label(at)}: {_result(rows_at(rows, at), value)}" for at in run.settings]
        direction = f", {value.better} is better" if value.has_direction else ""
        statistic = "whole data set" if rows["whole_set"].any() else value.lead
        lines.append(f"{value.title} ({statistic}{direction}): {'; '.join(parts)}")
    compared = _compared(run, options.compare, measured) if options.compare else ()
    return [*warning_lines(run), *lines, *compared]


ZERO, MANY_ZERO = "zero_map", 0.5  # a status, and the share of a method's maps from which on a run says so


def warning_lines(run: RunFolder) -> list[str]:
    """What a reader must know first: models with random weights, and methods most of whose maps are zero."""
    methods: dict[tuple[str, str], list[str]] = {}
    for setting in run.settings:
        rows = rows_at(run.summary, setting)
        for name, statuses in rows[~rows["whole_set"].astype(bool)].groupby("method", sort=False)["statuses"]:
            counts = max(map(counts_of, statuses), key=lambda of_metric: of_metric.get(ZERO, 0))
            zero, total = counts.get(ZERO, 0), sum(counts.values())
            if zero >= MANY_ZERO * total > 0:
                share = f"all {total:,}" if zero == total else f"{zero:,} of {total:,}"
                methods.setdefault((run.label(setting), share), []).append(str(name))
    zero_maps = (
        f"{label}: the maps of {names_of(run, names)} are zero on {share} rows; metrics of the map have no value there."
        for (label, share), names in methods.items()
    )
    return [*random_weights_lines(run), *zero_maps]


def random_weights_lines(run: RunFolder) -> list[str]:
    """The sentence that a run with random weights is introduced with; none where all models are trained."""
    names = [name for name in run.manifest.get("models") or () if run.metadata.has_random_weights(name)]
    if not names:
        return []
    return [f"Random weights: {', '.join(names)}. Values of an untrained network rank no method: none is called best."]


def _result(rows: pd.DataFrame, value: Value) -> str:
    """ "0.101 to 0.150 over 4 methods (n = 64 images, 120 rows)"."""
    defined = rows[rows["n"] > 0]
    if defined.empty:
        return "no value"
    low, high = (number(end, value.rounding) for end in (defined[value.lead].min(), defined[value.lead].max()))
    methods = "" if set(defined["method"]) == {METHOD_FREE} else f" over {len(defined)} methods"
    return f"{low if low == high else f'{low} to {high}'}{methods} ({counts_text(defined['images'], defined['n'])})"


def _compared(run: RunFolder, control: str, names: list[str]) -> Iterator[str]:
    """ "My-CAM, Box IoU (paired, p < 0.05 after Holm): scenes_vgg: better than Random, worse than CAM, Grad-CAM"."""
    values = [value for value in map(run.metadata.value, names) if value.has_direction]
    tests = [(run.label(setting), compare_in(run, setting, control, values)) for setting in run.settings]
    title = run.metadata.method_title(control)
    for value in values:
        parts = [f"{label}: {_verdict(run, rows[rows['metric'] == value.name])}" for label, rows in tests]
        yield f"{title}, {value.title} (paired, p < {LEVEL:g} after Holm): {'; '.join(parts)}"


def compare_in(run: RunFolder, setting: Setting, control: str, values: list[Value]) -> pd.DataFrame:
    """`compare` in one setting, for those of the values that it has.

    Raises BenchError, with the nearest names, where the run has no such method.
    """
    records = rows_at(run.records.frame(value.name for value in values), setting)
    records = records[records["method"] != METHOD_FREE]
    measured = set(records["metric"].unique())
    if not measured and control in run.methods:
        return pd.DataFrame(columns=list(COMPARE_COLUMNS))
    chosen = [value for value in values if value.name in measured]
    kinds = {value.name: value.kind for value in chosen}
    return compare(records, control, {value.name: value.better for value in chosen}, kinds)


def _verdict(run: RunFolder, rows: pd.DataFrame) -> str:
    significant = rows[rows["adjusted"] < LEVEL]
    is_better = significant["is_better"].astype(bool)
    sides = {"better than": significant[is_better], "worse than": significant[~is_better]}
    parts = [f"{words} {names_of(run, side['method'])}" for words, side in sides.items() if len(side)]
    return ", ".join(parts) or ("no significant difference" if len(rows) else "no value to compare")
