"""Methods with values for different images: closed forms, and what tables, last lines and the ranking make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Drawing
from axiom_bench.report.page.tables import Terms, block
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.summaries import correctness_tables, metric_tables, overview_table
from axiom_bench.report.tables.table import Table, to_markdown
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import COLUMNS

NAN = float("nan")
MakeFolder = Callable[..., RunFolder]
METRICS = {
    "hit": {"title": "Hit", "unit": "share", "better": "higher"},
    "error": {"title": "Error", "unit": "ratio", "better": "lower"},
    "size": {"title": "Size", "unit": "share", "better": "none"},
}


def rows(metric: str, values: Mapping[str, list[float]], status: str = "zero_map", **names: Any) -> pd.DataFrame:
    """Method -> its values image by image; NaN has the other status."""
    place = {"experiment": "synthetic", "model": "net", "layer": "last", "data": "scenes", "metric": metric, **names}
    frames = [
        pd.DataFrame({**place, "method": method, "image_id": [f"{i:02d}" for i in range(len(column))],
                      "target_class": 1, "predicted_class": 1, "value": column,
                      "status": [status if math.isnan(value) else "ok" for value in column]})
        for method, column in values.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def make_folder(make_run: Any, edit_manifest: Any) -> MakeFolder:
    """(records, **changes of the manifest) -> the run folder, read."""

    def make(records: pd.DataFrame, **changes: Any) -> RunFolder:
        methods = {name: {} for name in records["method"].unique() if name != "-"}
        layers = dict.fromkeys(records["model"].unique(), ("last",))
        folder = make_run(records, methods=methods, layers=layers, runtime=False, pictures=False)
        names = list(METRICS)
        settings = {"headline": names, "columns": names, "figures": {"perturbed": None, "pair": []}}
        metrics = {name: {"tolerance": "mean:1%", "metric": name, **about} for name, about in METRICS.items()}
        edit_manifest(folder, metrics=metrics, config={"target": "label", "report": settings}, **changes)
        return RunFolder.read(folder)

    return make


def bold_cells(table: Table, group: int = 0) -> dict[str, list[str]]:
    """method -> its bold cells."""
    return {row[0].text: [cell.text for cell in row if cell.bold] for row in table.groups[group].rows}


def texts(table: Table, group: int = 0) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.groups[group].rows}


def common(run: RunFolder, metric: str = "hit") -> dict[str, list[Any]]:
    """method -> COLUMNS of one metric."""
    summary = run.summary[run.summary["metric"] == metric].set_index("method")
    return {
        str(method): row for method, row in zip(summary.index, summary[list(COLUMNS)].to_numpy().tolist(), strict=True)
    }


# Of 20 images `silent` is right on 8 and has no map on 12; `steady` is right on 15 of 20, on 5 of those 8; `poor` on
# none.
SILENT = {
    "silent": [1.0] * 8 + [NAN] * 12,
    "steady": [1.0] * 5 + [0.0] * 3 + [1.0] * 10 + [0.0] * 2,
    "poor": [0.0] * 20,
}


def test_a_method_that_says_nothing_does_not_win(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", SILENT))
    assert common(run)["steady"] == [True, False, 20, 20, 0.75, 1.0]
    assert common(run)["silent"][:4] == [False, True, 0, 0]
    table = overview_table(run, run.summary)
    assert bold_cells(table) == {"silent": [], "steady": ["0.750 [0.510, 0.896]"], "poor": []}
    assert texts(table)["silent"][0] == "1.00†"  # eight images have no interval
    assert any("In common: Hit n = 20 images, 20 rows, without silent." in note for note in table.notes)
    (details,) = metric_tables(run, run.summary)
    assert bold_cells(details) == {"silent": [], "steady": ["0.750"], "poor": []}
    assert report.headline(run)[0] == (
        "Hit (mean, higher is better): net: steady 0.750 [0.510, 0.896], better than all others "
        "(n = 20 images, 20 rows in common)"
    )


def test_one_method_has_no_order(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", {name: SILENT[name] for name in ("silent", "steady")}))
    assert bold_cells(overview_table(run, run.summary)) == {"silent": [], "steady": []}
    assert not [drawing for drawing in ranking.draw(run) if isinstance(drawing, Drawing)]


# b's mean, 1.26, is above a's; but on the 18 images that both have a is above b.
FEW = {"a": [0.5] * 18 + [NAN] * 2, "b": [0.4] * 18 + [9.0] * 2, "c": [0.3] * 20}


def test_the_best_is_decided_on_the_images_that_all_compared_methods_have(make_folder: MakeFolder) -> None:
    run = make_folder(pd.concat([rows("hit", FEW), rows("error", {name: [1.0] * 20 for name in FEW})]))
    means = {"a": 0.5, "b": 0.4, "c": 0.3}
    for method, mean in means.items():
        compared, partial, images, n, value, _ = common(run)[method]
        assert (compared, partial, images, n) == (True, method == "a", 18, 18)
        assert value == pytest.approx(mean, rel=1e-15)
    assert common(run, "error")["a"][:4] == [True, False, 20, 20]
    table = overview_table(run, run.summary)
    assert bold_cells(table) == {"a": ["0.500 [0.500, 0.500]†"], "b": [], "c": []}  # all errors coincide
    assert texts(table)["b"][0].startswith("1.26 [")
    (details,) = metric_tables(run, run.summary)
    assert details.header[-2] == "In common"
    assert bold_cells(details) == {"a": ["0.500"], "b": [], "c": []}
    assert [row[-2] for row in texts(details).values()] == ["0.500", "0.400", "0.300"]
    assert [row[-2] for row in texts(details, 1).values()] == ["", "", ""]  # the same images for all
    line = "net: a 0.500 [0.500, 0.500], better than all others (n = 18 images, 18 rows in common)"
    assert report.headline(run)[0].endswith(line)
    (order,) = [drawing for drawing in ranking.draw(run) if isinstance(drawing, Drawing)]
    assert [text.get_text() for text in order.draw().axes[0].texts][:3] == ["0.500", "0.400", "0.300"]


def test_the_median_of_a_ratio_is_over_the_common_images(make_folder: MakeFolder) -> None:
    values = {"a": [1.0] * 9 + [NAN], "b": [0.5] * 5 + [2.0] * 4 + [9.0]}
    table = common(make_folder(rows("error", values)), "error")
    assert [table[name][5] for name in values] == [1.0, 0.5]  # b's own is 1.25


def test_a_method_that_a_metric_does_not_apply_to_changes_nothing(make_folder: MakeFolder) -> None:
    both = {"a": [0.2] * 10, "b": [0.4] * 10}
    absent = rows("hit", {"off_scale": [NAN] * 10}, status="not_on_score_scale")
    run = make_folder(pd.concat([rows("hit", both), absent]))
    assert common(run)["a"][:4] == [True, False, 10, 10]
    assert common(run)["off_scale"][:4] == [False, False, 0, 0]
    table = overview_table(run, run.summary)
    assert bold_cells(table) == {"a": [], "b": ["0.400 [0.400, 0.400]"]}
    assert not any("In common" in note for note in table.notes)


def test_images_that_no_method_has_make_no_difference(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", {name: [0.5] * 15 + [NAN] * 5 for name in ("a", "b")}, status="no_annotation"))
    assert common(run)["a"][:4] == [True, False, 15, 15]
    assert "†" not in "".join(overview_table(run, run.summary).notes)


def test_as_many_images_but_others_are_told_apart(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", {"a": [NAN] + [1.0] * 19, "b": [1.0] * 19 + [NAN]}))
    assert [row[:4] for row in common(run).values()] == [[True, True, 18, 18]] * 2


@pytest.mark.usefixtures("undrawn")
def test_methods_without_an_image_in_common_are_not_ranked(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", {"a": [1.0] * 10 + [NAN] * 10, "b": [NAN] * 10 + [0.5] * 10}))
    table = overview_table(run, run.summary)
    assert bold_cells(table) == {"a": [], "b": []}
    assert any("In common: Hit none, without a, b." in note for note in table.notes)
    assert report.headline(run)[0].endswith("net: 0.500 to 1.00 over 2 methods (n = 10 images, 10 rows)")
    assert not [drawing for drawing in ranking.draw(run) if isinstance(drawing, Drawing)]


@pytest.mark.slow
def test_a_report_without_an_image_in_common_is_written(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", {"a": [1.0] * 10 + [NAN] * 10, "b": [NAN] * 10 + [0.5] * 10}))
    assert report.write(run).is_file()


def test_each_setting_has_its_own_common_images(make_folder: MakeFolder) -> None:
    other = {"a": [0.5] * 20, "b": [0.6] * 20}
    parts = [rows("hit", FEW), rows("hit", other, model="other"), rows("hit", other, data="photos")]
    run = make_folder(pd.concat(parts), models={"net": {"layer": "last"}, "other": {"layer": "last"}})
    summary = run.summary[run.summary["method"] == "a"].set_index(["model", "data"])
    counts = {("net", "scenes"): 18, ("net", "photos"): 20, ("other", "scenes"): 20}
    assert summary["common_n"].to_dict() == counts
    notes = overview_table(run, run.summary).notes
    assert any("In common: Hit n = 18 images, 18 rows (net (scenes))." in note for note in notes)
    first, second, third = metric_tables(run, run.summary)
    assert "In common" in first.header + second.header
    assert "In common" not in third.header


def test_a_layers_own_metric_is_compared_with_no_method(make_folder: MakeFolder) -> None:
    layer = rows("hit", {"-": [0.9] * 3 + [NAN] * 17})
    assert common(make_folder(pd.concat([rows("error", FEW), layer])))["-"][:4] == [True, False, 3, 3]


def test_correct_and_wrong_images_have_common_images_of_their_own(make_folder: MakeFolder) -> None:
    records = rows("hit", FEW)
    records["predicted_class"] = records["predicted_class"].where(records["image_id"] < "10", 2)
    run = make_folder(records)
    (table,) = correctness_tables(run, run.split_summary)
    counts = run.split_summary.set_index(["method", "split"])["common_n"].to_dict()
    # Of the ten wrong ones a has eight, fewer than nine tenths: b and c are compared on all ten.
    assert counts == {("a", "correct"): 10, ("b", "correct"): 10, ("c", "correct"): 10,
                      ("a", "wrong"): 0, ("b", "wrong"): 10, ("c", "wrong"): 10}  # fmt: skip
    assert not any(any(cells) for cells in bold_cells(table).values())
    assert "†" in texts(table)["a"][3]


def test_random_weights_rank_nothing_on_any_images(make_folder: MakeFolder) -> None:
    models = {"net": {"layer": "last", "random_weights": True}}
    run = make_folder(rows("hit", FEW), models=models)
    assert not any(any(cells) for cells in bold_cells(overview_table(run, run.summary)).values())
    assert "net: 0.300 to 1.26 over 3 methods" in report.headline(run)[1]


def test_a_metric_without_a_direction_is_never_bold(make_folder: MakeFolder) -> None:
    run = make_folder(rows("size", FEW))
    (details,) = metric_tables(run, run.summary)
    for table in (overview_table(run, run.summary), details, *correctness_tables(run, run.split_summary)):
        assert not any(any(cells) for cells in bold_cells(table).values())
    assert "is better" not in report.headline(run)[0]


def whole_set(run: RunFolder, **columns: Any) -> pd.DataFrame:
    """Values of the whole data set of methods a and b, as a run stores them."""
    names = {"model": "net", "layer": "last", "data": "scenes", "method": ["a", "b"], "metric": "hit", "status": "ok"}
    return pd.DataFrame({**names, "replicates": [[], []], "common_replicates": [[], []], **columns})


def replicates(run: RunFolder, values: list[list[float]]) -> RunFolder:
    """The run with these resampled values of methods a and b."""
    stored = run.whole_set.assign(replicates=values, common_replicates=values)
    return RunFolder(run.path, run.manifest, run.records, run.class_records, run.runtime, stored)


def with_whole_set(run: RunFolder, **columns: Any) -> RunFolder:
    return RunFolder(run.path, run.manifest, run.records, run.class_records, run.runtime, whole_set(run, **columns))


def test_values_of_the_whole_data_set_lead_and_alone_are_bold(make_folder: MakeFolder) -> None:
    values = {"a": [0.9] * 20, "b": [0.8] * 20}
    stars = rows("hit", {"a": [0.4], "b": [0.6]}).assign(image_id="*", target_class=-1, predicted_class=-1)
    records = pd.concat([rows("hit", values), stars])
    run = make_folder(records)
    values = {"value": [0.4, 0.6], "common_value": [0.4, 0.6]}
    counts = dict.fromkeys(("images", "rows", "common_images", "common_rows"), 20)
    sure = replicates(with_whole_set(run, **values, **counts), [[0.39, 0.4, 0.41], [0.61, 0.6, 0.62]])
    (details,) = metric_tables(sure, sure.summary)
    assert [group.title for group in details.groups] == [
        "Hit of the whole data set [share], higher is better", "Hit [share], higher is better",
    ]  # fmt: skip
    assert bold_cells(details) == {"a": [], "b": ["0.600 [0.580, 0.620]"]}
    assert bold_cells(details, 1) == {"a": [], "b": []}
    unsure = replicates(sure, [[0.2, 0.4, 0.8], [0.7, 0.6, 0.3]])
    without = replicates(sure, [[], []])  # as records of several runs that were combined
    for other in (run, unsure, without):
        (details,) = metric_tables(other, other.summary)
        assert bold_cells(details) == {"a": [], "b": []}


def test_a_value_of_the_whole_data_set_has_the_counts_that_it_was_computed_from(make_folder: MakeFolder) -> None:
    """Without values of images under its name it stood on one image, "*"."""
    stars = rows("hit", {"a": [0.7], "b": [0.6]}).assign(image_id="*", target_class=-1, predicted_class=-1)
    run = make_folder(stars)
    run = with_whole_set(run, value=[0.7, 0.6], images=[18, 20], rows=[30, 33], common_value=[0.7, 0.75],
                         common_images=[18, 18], common_rows=[30, 30])  # fmt: skip
    run = replicates(run, [[0.69, 0.7, 0.71], [0.74, 0.75, 0.77]])
    (details,) = metric_tables(run, run.summary)
    cells = texts(details)
    assert [row[:2] for row in cells.values()] == [["18", "30"], ["20", "33"]]
    assert cells["a"][3].startswith("0.700 [")
    assert cells["a"][3].endswith("]†")
    assert bold_cells(details) == {"a": [], "b": ["0.750"]}  # on the common rows
    assert report.headline(run)[0] == (
        "Hit (whole data set, higher is better): net: b 0.750 [0.720, 0.780], better than all others "
        "(n = 18 images, 30 rows in common)"
    )


@pytest.mark.usefixtures("undrawn")
def test_the_page_and_all_formats_show_the_mark(make_folder: MakeFolder) -> None:
    run = make_folder(rows("hit", FEW))
    table = overview_table(run, run.summary)
    assert "†" in block([table], Terms())
    assert r"\dag{}" in to_latex(table, "auto")
    assert "†" in to_markdown(table)


def test_no_record_is_no_summary(make_folder: MakeFolder, usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    none = run.records.where(np.zeros(len(run.records.keys), dtype=bool))
    empty = RunFolder(run.path, run.manifest, none, run.class_records, run.runtime, run.whole_set)
    assert empty.summary.empty
    assert set(COLUMNS) <= set(empty.summary.columns)
