"""The texts of cells, headings and notes, the same in all tables, on the page, on the leaderboard
and in a run's last lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import first_names, plural
from axiom_bench.report.tables.table import Cell, interval_cell
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, LEVEL, normal_reach
from axiom_bench.statistics.labels import (
    NOTHING,
    Setting,
    Value,
    confidence,
    counts_text,
    percent,
    rows_at,
    share,
)
from axiom_bench.statistics.paired_tests import COMPARE_COLUMNS, compare
from axiom_bench.statistics.ranking import on_common_images, unbeaten
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder, whole_set_problems
from axiom_bench.statistics.summary import counts_of

ARROWS = {
    "lower": "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",
    "higher": "\N{NO-BREAK SPACE}\N{UPWARDS ARROW}",
}
PARTIAL = "\N{DAGGER}"
PARTIAL_NOTE = (
    f"{PARTIAL} fewer images or rows than another method has. Methods are compared on those that "
    "all compared methods have (values: table of all metrics); a method that lacks more than a "
    "tenth isn't compared. In common:"
)
CONSTRUCTED = "\N{DOUBLE DAGGER}"
LAYER_ALONE = "(layer alone)"
MAX_NOTES = 8
MAX_NAMES = 100  # methods that a sentence names, unless it has less room


def bold_note(level: float) -> str:
    """Return the note on the rule of bold numbers."""
    return (
        "Bold: from the best value down to the first that a method is significantly better than, "
        "which isn't bold; nothing if no method is better than another, or than a control, "
        "which explains nothing. Tests are of the difference of the two printed values and its "
        f"bootstrap over images, at {percent(level)} after Holm over all pairs. Methods are "
        "compared image by image, so that a small difference that nearly all images share counts, "
        "and a larger one that varies may not be."
    )


def interval_note(level: float) -> str:
    """Return the note on the intervals of means and medians."""
    return (
        f"In brackets: {confidence(level)} intervals by a bootstrap over images, all rows of an "
        f"image together; fewer than {FEWEST_IMAGES} images have none."
    )


def whole_set_note(level: float) -> str:
    """Return the note on the intervals of values of the whole data set."""
    return (
        f"Intervals of values of the whole data set reach {normal_reach(level):.2f} standard "
        "deviations of the run's resamples of the images."
    )


def name_of(run: RunFolder, method: str) -> str:
    """Return the method as people read it. A metric without a method is of the layer alone."""
    return LAYER_ALONE if method == METHOD_FREE else run.metadata.method_title(method)


def names_of(run: RunFolder, methods: Iterable[str]) -> str:
    """Return methods as people read them, in one list."""
    return ", ".join(name_of(run, method) for method in methods)


def heading(value: Value, whole_set: bool = False, level: float = LEVEL) -> str:
    """Return the heading of a wide table's column in two lines: "Conservation error", "median [95
    %] ↓". The arrow points to the better values.

    Args:
        value: The metric.
        whole_set: The column holds values of the whole data set.
        level: The level of the intervals.
    """
    statistic = "whole data set" if whole_set else value.lead
    return f"{value.title}\n{statistic} [{confidence(level)}]{ARROWS.get(value.better, '')}"


def group_title(value: Value, whole_set: bool = False) -> str:
    """Return the title of a long table's group of rows, such as "Conservation error [ratio], lower
    is better".
    """
    scope = " of the whole data set" if whole_set else ""
    unit = f" [{value.unit}]" if value.unit and value.unit not in value.title else ""
    direction = f", {value.better} is better" if value.better in ARROWS else ""
    return f"{value.title}{scope}{unit}{direction}"


Row = Mapping[Hashable, Any]  # a row of a summary: {column: value}


def statistic(row: Row, value: Value, lead: str, bold: bool = False) -> Cell:
    """Return a cell with the mean or median (`lead`) of a metric's summary row and its interval,
    such as "0.120 [0.101, 0.137]".
    """
    if not row.get("n", 0) > 0:
        return Cell(NOTHING, bold)
    return interval_cell(row[lead], row[f"{lead}_low"], row[f"{lead}_high"], value.rounding, bold)


def statistic_cell(row: Row, value: Value, lead: str, bold: bool = False) -> Cell:
    """Return the cell of `statistic` with the marks of `marked`."""
    cell = statistic(row, value, lead, bold)
    return replace(cell, text=marked(cell.text, row))


def marked(text: str, row: Row) -> str:
    """Return the text of a value, with a mark if the method has fewer rows than another method of
    the metric, and with another if it wins by construction.
    """
    if text == NOTHING:
        return text
    if row.get("partial") == True:  # noqa: E712 - it may be NaN
        text += PARTIAL
    if row.get("by_construction") == True:  # noqa: E712 - it may be NaN
        text += CONSTRUCTED
    return text


def legend(run: RunFolder, summary: pd.DataFrame) -> str:
    """Return one line on the meaning of bold and the marks of these summary rows, and on the
    controls among them. It is next to the table; further notes give the rules.
    """
    rows = summary[summary["n"] > 0]
    sentences = ["Bold: the best, and those not significantly worse."]
    if rows["partial"].eq(True).any():
        sentences.append(f"{PARTIAL} on fewer images or rows than another method.")
    if rows["by_construction"].eq(True).any():
        sentences.append(f"{CONSTRUCTED} 0 by the method's own formula, so not ranked.")
    methods = dict.fromkeys(rows["method"])
    controls = [name for name in methods if name in run.metadata.controls]
    if controls:
        sentences.append(f"Controls, which explain nothing: {names_of(run, controls)}.")
    return " ".join(sentences)


def construction_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """Return a note on the methods of these summary rows that win a metric by construction."""
    rows = summary[summary["by_construction"].astype(bool) & (summary["n"] > 0)]
    groups = rows.groupby(rows["metric"].astype(str), sort=False)["method"]
    parts = []
    for metric, methods in groups:
        names = names_of(run, dict.fromkeys(methods))
        parts.append(f"{run.metadata.value(metric).title} of {names}")
    if not parts:
        return []
    return [f"{CONSTRUCTED} 0 by the method's own formula, so not ranked: {'; '.join(parts)}."]


def control_notes(
    run: RunFolder, settings: Iterable[Setting], metrics: Collection[str], sign: str = "bold"
) -> list[str]:
    """Return notes on why nothing is bold, or has another sign: a control is unbeaten, or would be,
    see `Value.reached_by`.
    """
    # {unbeaten controls: {title of a metric: labels of settings}}
    labels_by_controls: dict[tuple[str, ...], dict[str, list[str]]] = {}
    titles_by_reason: dict[str, dict[str, None]] = {}
    for setting in settings:
        for name in metrics:
            value = run.metadata.value(name)
            if value.reached_by and run.comparisons.of(setting, name) is not None:
                titles_by_reason.setdefault(value.why_no_best, {})[value.title] = None
            elif controls := unbeaten(run, setting, name):
                labels_by_title = labels_by_controls.setdefault(controls, {})
                labels_by_title.setdefault(value.title, []).append(run.label(setting))
    notes = []
    for reason, reason_titles in titles_by_reason.items():
        notes.append(f"Nothing is {sign} in {_distinct([*reason_titles])}: {reason}.")
    for controls, labels_by_title in labels_by_controls.items():
        places = [f"{title} ({_distinct(labels)})" for title, labels in labels_by_title.items()]
        notes.append(
            f"Nothing is {sign} in {_distinct(places)}: no method is significantly better than a "
            f"control ({names_of(run, controls)})."
        )
    return notes


def common_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """Return a note on the mark of fewer rows. For each metric with marked values it says how many
    images decide which method is best, and which methods aren't compared.
    """
    labels_by_text: dict[str, list[str]] = {}
    for setting in run.settings:
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            if not on_common_images(rows):
                continue
            compared = rows[rows["compared"]]
            counts = "none"
            if len(compared):
                counts = counts_text(compared["common_images"], compared["common_n"])
            text = f"{value.title} {counts}"
            others = names_of(run, rows.loc[(rows["n"] > 0) & ~rows["compared"], "method"])
            if others:
                text += f", without {others}"
            labels_by_text.setdefault(text, []).append(run.label(setting))
    if not labels_by_text:
        return []
    has_several_settings = len(summary[["model", "layer", "data"]].drop_duplicates()) > 1
    parts = []
    for text, labels in labels_by_text.items():
        parts.append(f"{text} ({_distinct(labels)})" if has_several_settings else text)
    return [f"{PARTIAL_NOTE} {'; '.join(parts)}."]


def interval_notes(run: RunFolder, has_whole_set: bool) -> Iterator[str]:
    """Yield what the intervals of a table are, and the problems of those that the run must
    compute.
    """
    note = interval_note(run.level)
    yield f"{note} {whole_set_note(run.level)}" if has_whole_set else note
    if has_whole_set:
        yield from whole_set_problems(run)


def without_value(statuses: str) -> str:
    """Return the counts of the statuses that aren't ok, added up: "ok:3 zero_map:1 zero_map:1" ->
    "map is zero everywhere: 2"; a dash for none.
    """
    counts: Counter[str] = Counter()
    for pair in statuses.split():
        counts.update(counts_of(pair))
    texts = [f"{reason(name)}: {count:,}" for name, count in counts.items() if name != OK]
    return ", ".join(texts) or NOTHING


def methods_by_status(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return {(status other than ok, "3 of 120"): the methods with it} of one metric's summary
    rows.
    """
    methods: dict[tuple[str, str], tuple[str, ...]] = {}
    for statuses, total, method in zip(rows["statuses"], rows["rows"], rows["method"], strict=True):
        for status, count in counts_of(statuses).items():
            if status != "ok":
                key = (status, f"{count} of {total}")
                methods[key] = (*methods.get(key, ()), str(method))
    return methods


def by_metric(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Value, bool, pd.DataFrame]]:
    """Yield (metric, whether its values are of the whole data set, its rows), in the manifest's
    order. Values of the whole data set come first.
    """
    kinds = [summary["metric"].astype(str), summary["whole_set"].astype(bool)]
    rows_by_kind = dict(iter(summary.groupby(kinds, sort=False)))
    for name in run.metrics:
        for whole_set in (True, False):
            if (name, whole_set) in rows_by_kind:
                yield run.metadata.value(name), whole_set, rows_by_kind[name, whole_set]


def status_notes(
    run: RunFolder, summary: pd.DataFrame, num_metrics: int = 0, most_names: int = MAX_NAMES
) -> list[str]:
    """Return one sentence for each reason and methods why a value is missing (a dash), or is of
    fewer rows.

    Args:
        run: The run, as read from its folder.
        summary: The rows of the summary to look at.
        num_metrics: The number of metrics in the table. A sentence about all of them names none.
        most_names: The most methods that a sentence names.
    """
    labels_by_sentence: dict[str, list[str]] = {}
    for setting in run.settings:
        titles_by_status: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            for (status, count), names in methods_by_status(rows).items():
                titles_by_status.setdefault((status, count, names), []).append(value.title)
        for (status, count, methods), titles in titles_by_status.items():
            part, total = count.split(" of ")
            extent = "" if part == total else f" on {count} rows"
            distinct = list(dict.fromkeys(titles))
            missing = "no value"
            if len(distinct) != num_metrics:
                missing = f"no value of {', '.join(distinct)}"
            names_text = first_names([name_of(run, name) for name in methods], most_names)
            verb = "has" if len(methods) == 1 else "have"
            sentence = f"{names_text} {verb} {missing}{extent}: {reason(status)}."
            labels_by_sentence.setdefault(sentence, []).append(run.label(setting))
    notes = []
    for sentence, labels in labels_by_sentence.items():
        is_everywhere = len(labels) == len(run.settings)
        notes.append(sentence if is_everywhere else f"On {_distinct(labels)}, {sentence}")
    num_hidden = len(notes) - MAX_NOTES
    if num_hidden > 0:
        more = f"{plural(num_hidden, 'more such note')}: see the table of statuses."
        notes = [*notes[:MAX_NOTES], more]
    return notes


def metric_notes(values: Iterable[Value]) -> list[str]:
    """Return the notes of the metrics' YAML files, each once."""
    titles: dict[str, list[str]] = {}
    for value in values:
        if value.note:
            titles.setdefault(value.note, []).append(value.title)
    return [f"{_distinct(names)}: {note}" for note, names in titles.items()]


def target_note(rule: str) -> str:
    """Return what "correct" means under a target rule."""
    if rule == "each_label":
        return (
            "Each image has one row for every class that it shows: a row is correct where the "
            "explained class is the predicted one. So an image with several classes has at most "
            "one correct row."
        )
    if rule == "predicted":
        return "The explained class is the predicted one, so that every row counts as correct."
    return "Correct: the labelled class, which is explained, is the predicted one."


def _distinct(names: Sequence[str]) -> str:
    """Return names in one list, each once."""
    return ", ".join(dict.fromkeys(names))


REASONS = {
    "bad_image": "image can't be read",
    "constant_map": "a map is the same everywhere",
    "constant_truth": "known contributions are the same everywhere",
    "no_annotation": "no box or mask of the class",
    "no_background": "mask is all of the image",
    "no_cells": "image is no mosaic",
    "no_contributions": "no contributions at the layer",
    "no_effect": "no part changes the score",
    "no_finetuned": "model.finetuned names no copy of the network",
    "no_idle_part": "every part changes the score",
    "no_image": "no image has a value",
    "no_interventions": "no versions of the image without its parts",
    "no_map": "no map of the image, or of what the metric changes",
    "no_mark": "no spurious mark in the image",
    "no_mask": "no mask of the class",
    "no_positive_effect": "no object or mark speaks for the class",
    "no_probability": "no probability of the class",
    "no_structure": "no code with finder and timing patterns in the image",
    "no_truth": "no known contributions",
    "no_variation": "map or score doesn't vary",
    "not_applicable": "can't explain this network",
    "not_finite": "no finite number",
    "not_on_score_scale": "not on the score's scale",
    "off_objects": "nothing of the map on an object",
    "one_class": "no second class in the image",
    "one_object": "no other object in question in the image",
    "one_logit": "network has one class only",
    "one_pixel": "the map's highest pixels are a single one",
    "wrong_class": "image shows other classes only",
    "zero_drops": "no channel changes the score",
    "zero_map": "map is zero everywhere",
    "zero_raw_map": "raw map is zero everywhere",
    "zero_score": "score is 0",
    "zero_truth": "no true evidence for the class",
}


def reason(status: str) -> str:
    """Return a status in words. A status without an entry, such as a plug-in's, is returned with
    spaces.
    """
    return REASONS.get(status, status.replace("_", " "))


def random_weights_lines(run: RunFolder) -> list[str]:
    """Return the sentence that introduces a run with random weights; none if all models are
    trained.
    """
    names = [name for name, model in run.manifest.models.items() if model.random_weights]
    if not names:
        return []
    return [
        f"Random weights: {', '.join(names)}. Values of an untrained network rank no method: none "
        "is called best."
    ]


MOST_NETWORKS = 6  # the most accuracies in a line; of more, it has the least and the highest


def accuracy_text(run: RunFolder) -> str:
    """Return how many images each network names as they are labelled. Of many networks, return the
    least and the highest share.
    """
    accuracies = run.accuracies
    if len(accuracies) > MOST_NETWORKS:
        shares = sorted(accuracy.correct / accuracy.images for accuracy in accuracies.values())
        ends = f"{share(shares[0], 1)} to {share(shares[-1], 1)}"
        return f"{ends} of the images are classified as labelled"
    texts = [f"{run.network(*place)} {accuracy}" for place, accuracy in accuracies.items()]
    return ", ".join(texts) or "not known"


def compare_in(run: RunFolder, setting: Setting, control: str, values: list[Value]) -> pd.DataFrame:
    """Compare a method with every other by `compare` in one setting, for those of the values that
    the setting has.

    Raises:
        BenchError: If the run has no such method; the message has the nearest names.
    """
    records = rows_at(run.records.frame(value.name for value in values), setting)
    records = records[records["method"] != METHOD_FREE]
    measured = set(records["metric"].unique())
    if control in run.methods and control not in set(records["method"].astype(str)):
        return pd.DataFrame(columns=list(COMPARE_COLUMNS))
    measured_values = [value for value in values if value.name in measured]
    return compare(
        records,
        control,
        {value.name: value.better for value in measured_values},
        {value.name: value.kind for value in measured_values},
        run.level,
    )
