"""An oracle for each table and chart, which computes its numbers from the records only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.charts import by_method, points
from axiom_bench.report.charts.drawing import Figure
from axiom_bench.report.tables import comparisons, summaries
from axiom_bench.report.tables.table import Cell, Table
from axiom_bench.report.tables.text import REASONS
from axiom_bench.statistics.labels import NOTHING, number
from tests.made_runs import METHODS, METRICS, MODELS

OVERVIEW = (
    "sensitivity_error",
    "conservation_error",
    "conservation_error_raw",
    "confidence_drop",
    "box_iou",
)
RANKED = ("sensitivity_error", "conservation_error", "confidence_drop", "box_iou")
LAYER = "(layer alone)"
# These methods have the same sensitivity and conservation errors in the records.
TWINS = {"xgrad_cam": "xgrad_cam = hires_cam"}
TITLES = {
    "sensitivity_error": "Sensitivity error [ratio], lower is better",
    "conservation_error": "Conservation error [ratio], lower is better",
    "conservation_error_raw": "Conservation error, raw [logit]",
    "confidence_drop": "Confidence drop [probability], higher is better",
    "box_iou": "Box IoU, higher is better",
    "zeta": "Normalised zeta [ratio]",
    "epsilon": "Normalised epsilon [ratio]",
    "axiom_floor_sensitivity": "Axiom floor, sensitivity [ratio]",
    "axiom_floor_conservation": "Axiom floor, conservation [ratio]",
}


Rows = dict[tuple[str, str, str], pd.DataFrame]


@pytest.fixture(scope="module")
def rows(usual) -> Rows:
    """The rows of the records for each (model, method, metric)."""
    frame = usual.records.frame()
    return dict(iter(frame.groupby(["model", "method", "metric"], observed=True)))


def statistic(values: pd.Series, metric: str) -> float:
    """Return the median of a ratio, whose tails are heavy, and the mean of other values."""
    return values.median() if METRICS[metric]["unit"] == "ratio" else values.mean()


def names_in(metric: str) -> list[str]:
    """Return the first cells of a metric's rows, in the order of the run."""
    return [LAYER] if METRICS[metric]["of"] == "layer" else list(METHODS)


def measured(rows: Rows, model: str, method: str, metric: str) -> pd.DataFrame:
    return rows[model, "-" if method == LAYER else method, metric]


def values_of(rows: Rows, model: str, method: str, metric: str) -> pd.Series:
    """Return the values with status ok, indexed by image."""
    own = measured(rows, model, method, metric)
    return own[own["status"] == "ok"].set_index("image_id")["value"]


def common_values(rows: Rows, model: str, metric: str) -> pd.DataFrame:
    """Return a table (images, methods) of the images for which every method has a value.

    Methods without any value are left out.
    """
    columns = {}
    for method in METHODS:
        values = values_of(rows, model, method, metric)
        if len(values):
            columns[method] = values
    return pd.DataFrame(columns).dropna()


def check_value(cell: Cell, expected: float) -> None:
    """Check that the cell has this value inside an interval, or a dash if the value is missing."""
    if np.isnan(expected):
        assert cell.text == NOTHING
        return
    value, low, high = cell.numbers
    assert value == pytest.approx(expected, rel=1e-12)
    assert low < value < high
    assert cell.text.startswith(f"{number(expected)} [")


def check_groups(table: Table, metrics: tuple[str, ...]) -> None:
    expected = [(metric, TITLES[metric]) for metric in metrics]
    assert [(group.metric, group.title) for group in table.groups] == expected


@pytest.mark.slow
def test_overview(usual, rows):
    table = summaries.overview_table(usual)
    arrows = {"lower": "\u00a0↓", "higher": "\u00a0↑", "none": ""}
    headings = []
    for metric in OVERVIEW:
        about = METRICS[metric]
        name = "median" if about["unit"] == "ratio" else "mean"
        headings.append(f"{about['title']}\n{name} [95 %]{arrows[about['better']]}")
    assert table.header == ("Method", *headings, "Own run time\nms/image\u00a0↓")
    assert [group.title for group in table.groups] == list(MODELS)
    for group in table.groups:
        assert [cells[0].text for cells in group.rows] == list(METHODS)
        for place, (name, *cells, time) in enumerate(group.rows):
            for metric, cell in zip(OVERVIEW, cells, strict=True):
                values = values_of(rows, group.title, name.text, metric)
                most = max(len(values_of(rows, group.title, method, metric)) for method in METHODS)
                check_value(cell, statistic(values, metric))
                assert ("†" in cell.text) == (0 < len(values) < most)
            assert time.numbers == (1.0 + place,)  # without the trace, which takes 10


@pytest.mark.slow
def test_metrics(usual, rows):
    for table, model in zip(summaries.metric_tables(usual), MODELS, strict=True):
        check_groups(table, tuple(TITLES))
        assert table.header == (
            "Method",
            "Images",
            "Rows",
            "Median [95 %]",
            "Mean [95 %]",
            "Standard error",
            "In common",
            "Rows without a value",
        )
        for group in table.groups:
            assert [cells[0].text for cells in group.rows] == names_in(group.metric)
            for name, images, counted, median, mean, error, common, without in group.rows:
                own = measured(rows, model, name.text, group.metric)
                values = values_of(rows, model, name.text, group.metric)
                count = f"{len(values)}" if len(values) else NOTHING
                assert (images.text, counted.text) == (count, count)
                check_value(median, values.median())
                check_value(mean, values.mean())
                if len(values):
                    standard_error = values.std() / len(values) ** 0.5
                    assert error.numbers == pytest.approx([standard_error], rel=1e-9)
                if group.metric == "confidence_drop":  # grad_cam lacks some of its values
                    shared = common_values(rows, model, group.metric)
                    assert common.numbers == pytest.approx([shared[name.text].mean()], rel=1e-12)
                else:
                    assert common.text == ""
                assert without.text == without_value(own)


def without_value(own: pd.DataFrame) -> str:
    counts = own.loc[own["status"] != "ok", "status"].value_counts(sort=False)
    parts = [f"{REASONS[status]}: {count}" for status, count in counts.items() if count]
    return ", ".join(parts) or NOTHING


@pytest.mark.slow
def test_correctness(usual, rows):
    for table, model in zip(summaries.correctness_tables(usual), MODELS, strict=True):
        check_groups(table, tuple(TITLES))
        for group in table.groups:
            assert [cells[0].text for cells in group.rows] == names_in(group.metric)
            for name, *cells, without in group.rows:
                own = measured(rows, model, name.text, group.metric)
                is_right = own["target_class"] == own["predicted_class"]
                for is_chosen, (count, value) in (
                    (is_right, cells[:2]),
                    (~is_right, cells[2:]),
                ):
                    values = own.loc[is_chosen & (own["status"] == "ok"), "value"]
                    assert count.text == f"{len(values)}"
                    check_value(value, statistic(values, group.metric))
                assert without.text == without_value(own)


def test_statuses(usual, rows):
    table = summaries.status_table(usual)
    assert [group.title for group in table.groups] == list(MODELS)
    for group in table.groups:
        expected: dict[tuple[str, str, str], list[str]] = {}
        for metric in OVERVIEW:
            methods: dict[tuple[str, str], list[str]] = {}
            for method in METHODS:
                own = measured(rows, group.title, method, metric)
                for status, count in own["status"].astype(str).value_counts().items():
                    if status != "ok":
                        methods.setdefault((status, f"{count} of {len(own)}"), []).append(method)
            for (status, count), names in methods.items():
                expected.setdefault((status, ", ".join(names), count), []).append(
                    METRICS[metric]["title"]
                )
        shown = {tuple(cell.text for cell in cells) for cells in group.rows}
        assert shown == {("; ".join(titles), *key) for key, titles in expected.items()}


def test_run_times(usual):
    table = summaries.runtime_table(usual)
    assert [group.title for group in table.groups] == [
        f"{model} {layers[0]}" for model, layers in MODELS.items()
    ]
    steps = [("forward", NOTHING, 8.0), ("trace", NOTHING, 10.0), ("ablation drops", NOTHING, 20.0)]
    steps += [("method", method, place + 1.0) for place, method in enumerate(METHODS)]
    for group in table.groups:
        for cells, (step, method, milliseconds) in zip(group.rows, steps, strict=True):
            texts = [cell.text for cell in cells]
            assert texts[:2] == [step, method]
            assert [cell.numbers for cell in cells[2:4]] == [(milliseconds,), (milliseconds / 8,)]
            assert texts[4:] == ["0 / 0", "1 / 0", NOTHING, "8", "cpu (2 threads)"]


def decided_pairs(usual, model: str, metric: str) -> set[tuple[str, str]]:
    """Return the pairs (winner, loser) with a significant difference, from pairs.csv."""
    frame = comparisons.pair_frame(usual)
    frame = frame[(frame["model"] == model) & (frame["metric"] == metric)]
    sign = -1 if METRICS[metric]["better"] == "lower" else 1
    pairs = set()
    for pair in frame[frame["adjusted"] < 0.05].itertuples():
        if sign * pair.difference > 0:
            pairs.add((pair.first, pair.second))
        else:
            pairs.add((pair.second, pair.first))
    return pairs


def compared_methods(rows: Rows, model: str, metric: str) -> pd.DataFrame:
    """Return the common values of the compared methods, with only the first of two twins."""
    shared = common_values(rows, model, metric)
    return shared.drop(columns="hires_cam") if metric in OVERVIEW[:2] else shared


def title_of(method: str, metric: str) -> str:
    return TWINS.get(method, method) if metric in OVERVIEW[:2] else method


def test_places(usual, rows):
    for table, model in zip(comparisons.place_tables(usual), MODELS, strict=True):
        check_groups(table, RANKED)
        for group in table.groups:
            metric = group.metric
            shared = compared_methods(rows, model, group.metric)
            values = {method: statistic(shared[method], metric) for method in shared}
            order = sorted(values, key=values.get, reverse=METRICS[metric]["better"] == "higher")
            titles = [title_of(method, metric) for method in order]
            assert [cells[0].text for cells in group.rows] == titles
            pairs = decided_pairs(usual, model, metric)
            for method, (_, value, place, unclear) in zip(order, group.rows, strict=True):
                check_value(value, values[method])
                better = sum(loser == method for _, loser in pairs)
                worse = sum(winner == method for winner, _ in pairs)
                ends = dict.fromkeys((f"{1 + better}", f"{len(order) - worse}"))
                assert place.text == " to ".join(ends)
                others = [
                    title_of(other, metric)
                    for other in order
                    if other != method and not {(method, other), (other, method)} & pairs
                ]
                assert unclear.text == (", ".join(others) or NOTHING)
                # The methods before the first one that is significantly worse are bold.
                worse_places = [i for i, name in enumerate(order) if (order[0], name) in pairs]
                bold_methods = order[: worse_places[0]] if worse_places else []
                assert value.bold == (method in bold_methods)


def test_pairs(usual, rows):
    for table, model in zip(comparisons.pair_tables(usual), MODELS, strict=True):
        check_groups(table, ("conservation_error", "box_iou"))  # the run's headline
        frame = comparisons.pair_frame(usual)
        frame = frame[frame["model"] == model].set_index(["metric", "first", "second"])
        for group in table.groups:
            metric = group.metric
            shared = compared_methods(rows, model, group.metric)
            sign = -1 if METRICS[metric]["better"] == "lower" else 1
            for (first, second), cells in zip(combinations(shared, 2), group.rows, strict=True):
                assert cells[0].text == title_of(first, metric)
                assert cells[1].text == title_of(second, metric)
                gain = sign * (shared[first] - shared[second])
                counts = (len(gain), (gain > 0).sum(), 0, (gain < 0).sum())
                assert [cell.text for cell in cells[2:6]] == [f"{count}" for count in counts]
                first_value = statistic(shared[first], metric)
                second_value = statistic(shared[second], metric)
                check_value(cells[6], first_value - second_value)
                pair = frame.loc[(metric, first, second)]
                tests = pair[["adjusted", "by_images", "detectable"]].tolist()
                assert [cell.numbers[0] for cell in cells[7:]] == tests
                is_significant = tests[0] < 0.05
                is_bold = [False] * 7 + [is_significant, False, False]
                assert [cell.bold for cell in cells] == is_bold


def charts(draw, run) -> Iterator[tuple[str, Figure]]:
    """Yield each metric's chart of one kind, as pairs (metric, chart)."""
    metric_by_title = {entry["title"]: name for name, entry in METRICS.items()}
    for figure in draw(run):
        if isinstance(figure, Figure):
            yield metric_by_title[figure.label], figure


@pytest.mark.slow
def test_box_charts(usual, rows):
    shown = dict(charts(by_method.draw, usual))
    assert set(shown) == set(OVERVIEW)
    for metric, figure in shown.items():
        drawn = figure.draw()
        assert drawn.get_supxlabel() == TITLES[metric]
        assert [axes.get_title(loc="left") for axes in drawn.axes] == list(MODELS)
        # Two of the six names have two lines: 0.7 + 6 * 0.286.
        height_by_names = {4: 1.608, 6: 2.416}
        height = height_by_names[figure.frame["Name"].nunique()]
        assert tuple(drawn.get_size_inches()) == pytest.approx((7, height))
        for entry in figure.frame.to_dict("records"):
            values = values_of(rows, entry["Network"], entry["Name"], metric)
            quartiles = values.quantile([0.5, 0.25, 0.75]).tolist()
            found = [entry[name] for name in ("Median", "Lower quartile", "Upper quartile", "Mean")]
            assert found == pytest.approx([*quartiles, values.mean()], rel=1e-12)
            assert (entry["Rows"], entry["Images"]) == (len(values), len(values))
        for axes, model in zip(drawn.axes, MODELS, strict=True):
            means = figure.frame.loc[figure.frame["Network"] == model, "Mean"].tolist()
            assert axes.lines[0].get_xdata().tolist() == means


@pytest.mark.slow
def test_cost_charts(usual, rows):
    shown = dict(charts(points.draw_costs, usual))
    assert set(shown) == set(RANKED)
    for metric, figure in shown.items():
        drawn = figure.draw()
        times = "Milliseconds per image, without the shared trace"
        assert "The trace, which all methods share, takes another 10.0 ms" in figure.caption
        statistic_name = "Median" if METRICS[metric]["unit"] == "ratio" else "Mean"
        title = f"{statistic_name} {TITLES[metric][0].lower()}{TITLES[metric][1:]}"
        assert drawn.get_supxlabel() == times
        assert drawn.get_supylabel().replace("\n", " ").casefold() == title.casefold()
        for entry in figure.frame.to_dict("records"):
            values = values_of(rows, entry["Network"], entry["Method"], metric)
            assert entry["Value"] == pytest.approx(statistic(values, metric), rel=1e-12)
            assert entry[times] == 1.0 + list(METHODS).index(entry["Method"])
