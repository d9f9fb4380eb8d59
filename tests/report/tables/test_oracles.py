"""One oracle for each table and chart: its numbers and labels are computed here from the rows of
the records alone.
"""

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
# in the made records they differ by nothing in both errors
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
    """{(model, method, metric): rows of the records}"""
    frame = usual.records.frame()
    return dict(iter(frame.groupby(["model", "method", "metric"], observed=True)))


def statistic(values: pd.Series, metric: str) -> float:
    """The median of a ratio, whose tails are heavy, and the mean of anything else."""
    return values.median() if METRICS[metric]["unit"] == "ratio" else values.mean()


def names_in(metric: str) -> list[str]:
    """The first cells of a metric's rows, in the order of the run."""
    return [LAYER] if METRICS[metric]["of"] == "layer" else list(METHODS)


def measured(rows: Rows, model: str, method: str, metric: str) -> pd.DataFrame:
    return rows[model, "-" if method == LAYER else method, metric]


def values_of(rows: Rows, model: str, method: str, metric: str) -> pd.Series:
    """The values with status ok by image."""
    own = measured(rows, model, method, metric)
    return own[own["status"] == "ok"].set_index("image_id")["value"]


def common_values(rows: Rows, model: str, metric: str) -> pd.DataFrame:
    """(images, methods) on the images that every method with a value has."""
    columns = {method: values_of(rows, model, method, metric) for method in METHODS}
    return pd.DataFrame(
        {method: values for method, values in columns.items() if len(values)}
    ).dropna()


def check_value(cell: Cell, expected: float) -> None:
    """The cell has this value, printed as numbers are, inside its interval; or a dash if there is
    none.
    """
    if np.isnan(expected):
        assert cell.text == NOTHING
        return
    value, low, high = cell.numbers
    assert value == pytest.approx(expected, rel=1e-12)
    assert low < value < high
    assert cell.text.startswith(f"{number(expected)} [")


def check_groups(table: Table, metrics: tuple[str, ...]) -> None:
    assert [(group.metric, group.title) for group in table.groups] == [
        (name, TITLES[name]) for name in metrics
    ]


def test_overview(usual, rows):
    table = summaries.overview_table(usual)
    arrows = {"lower": "\u00a0↓", "higher": "\u00a0↑", "none": ""}
    headings = []
    for metric in OVERVIEW:
        about = METRICS[metric]
        name = "median" if about["unit"] == "ratio" else "mean"
        headings.append(f"{about['title']}\n{name} [95 %]{arrows[about['better']]}")
    assert table.header == ("Method", *headings, "Run time\nms/image\u00a0↓")
    assert [group.title for group in table.groups] == list(MODELS)
    for group in table.groups:
        assert [cells[0].text for cells in group.rows] == list(METHODS)
        for place, (name, *cells, time) in enumerate(group.rows):
            for metric, cell in zip(OVERVIEW, cells, strict=True):
                values = values_of(rows, group.title, name.text, metric)
                most = max(len(values_of(rows, group.title, method, metric)) for method in METHODS)
                check_value(cell, statistic(values, metric))
                assert ("†" in cell.text) == (0 < len(values) < most)
            assert time.numbers == (10.0 + 1.0 + place,)  # the trace, and the method


def test_metrics(usual, rows):
    for table, model in zip(summaries.metric_tables(usual), MODELS, strict=True):
        check_groups(table, tuple(TITLES))
        assert table.header == (
            "Method", "Images", "Rows", "Median [95 %]", "Mean [95 %]", "Standard error", "In common",
            "Rows without a value",
        )  # fmt: skip
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
                    assert error.numbers == pytest.approx(
                        [values.std() / len(values) ** 0.5], rel=1e-9
                    )
                shared = (
                    common_values(rows, model, group.metric)
                    if name.text != LAYER
                    else pd.DataFrame()
                )
                if group.metric == "confidence_drop":  # in which grad_cam lacks some
                    assert common.numbers == pytest.approx([shared[name.text].mean()], rel=1e-12)
                else:
                    assert common.text == ""
                assert without.text == without_value(own)


def without_value(own: pd.DataFrame) -> str:
    counts = own.loc[own["status"] != "ok", "status"].value_counts(sort=False)
    parts = [f"{REASONS[status]}: {count}" for status, count in counts.items() if count]
    return ", ".join(parts) or NOTHING


def test_correctness(usual, rows):
    for table, model in zip(summaries.correctness_tables(usual), MODELS, strict=True):
        check_groups(table, tuple(TITLES))
        for group in table.groups:
            assert [cells[0].text for cells in group.rows] == names_in(group.metric)
            for name, *cells, without in group.rows:
                own = measured(rows, model, name.text, group.metric)
                is_right = own["target_class"] == own["predicted_class"]
                for part, (count, value) in zip(
                    (is_right, ~is_right), (cells[:2], cells[2:]), strict=True
                ):
                    values = own.loc[part & (own["status"] == "ok"), "value"]
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
    """The pairs (winner, loser) that the tests tell apart, from pairs.csv."""
    pairs = comparisons.pair_frame(usual)
    pairs = pairs[
        (pairs["model"] == model) & (pairs["metric"] == metric) & (pairs["adjusted"] < 0.05)
    ]
    sign = -1 if METRICS[metric]["better"] == "lower" else 1
    return {
        (pair.first, pair.second) if sign * pair.difference > 0 else (pair.second, pair.first)
        for pair in pairs.itertuples()
    }


def compared_methods(rows: Rows, model: str, metric: str) -> pd.DataFrame:
    """The common values of the methods that are compared: of two that coincide the first."""
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
            assert [cells[0].text for cells in group.rows] == [
                title_of(method, metric) for method in order
            ]
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
                beaten_before = order[
                    : next((i for i, name in enumerate(order) if (order[0], name) in pairs), 0)
                ]
                assert value.bold == (method in beaten_before)


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
                assert [cell.text for cell in cells[:2]] == [
                    title_of(first, metric),
                    title_of(second, metric),
                ]
                gain = sign * (shared[first] - shared[second])
                counts = (len(gain), (gain > 0).sum(), 0, (gain < 0).sum())
                assert [cell.text for cell in cells[2:6]] == [f"{count}" for count in counts]
                check_value(
                    cells[6], statistic(shared[first], metric) - statistic(shared[second], metric)
                )
                tests = frame.loc[
                    (metric, first, second), ["adjusted", "by_images", "detectable"]
                ].tolist()
                assert [cell.numbers[0] for cell in cells[7:]] == tests
                assert [cell.bold for cell in cells] == [False] * 7 + [
                    tests[0] < 0.05,
                    False,
                    False,
                ]


def charts(draw, run) -> Iterator[tuple[str, Figure]]:
    """(metric, chart) of a kind of chart that each metric has."""
    titles = {about["title"]: name for name, about in METRICS.items()}
    for figure in draw(run):
        if isinstance(figure, Figure):
            yield titles[figure.label], figure


def test_box_charts(usual, rows):
    shown = dict(charts(by_method.draw, usual))
    assert set(shown) == set(OVERVIEW)
    for metric, figure in shown.items():
        drawn = figure.draw()
        assert drawn.get_supxlabel() == TITLES[metric]
        assert [axes.get_title(loc="left") for axes in drawn.axes] == list(MODELS)
        # with two names of two lines: 0.7 + 6 * 0.286
        height = {4: 1.608, 6: 2.416}[figure.frame["Name"].nunique()]
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


def test_cost_charts(usual, rows):
    shown = dict(charts(points.draw_costs, usual))
    assert set(shown) == set(RANKED)
    for metric, figure in shown.items():
        drawn = figure.draw()
        times = "Milliseconds an image, with the trace"
        statistic_name = "Median" if METRICS[metric]["unit"] == "ratio" else "Mean"
        title = f"{statistic_name} {TITLES[metric][0].lower()}{TITLES[metric][1:]}"
        assert drawn.get_supxlabel() == times
        assert drawn.get_supylabel().replace("\n", " ").casefold() == title.casefold()
        for entry in figure.frame.to_dict("records"):
            values = values_of(rows, entry["Network"], entry["Method"], metric)
            assert entry["Value"] == pytest.approx(statistic(values, metric), rel=1e-12)
            assert entry[times] == 11.0 + list(METHODS).index(entry["Method"])
