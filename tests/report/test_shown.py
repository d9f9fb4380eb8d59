"""Tests of the settings of a report that compute nothing: methods, level, order and titles."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli.report import write
from axiom_bench.errors import BenchError
from axiom_bench.report.charts import pictures
from axiom_bench.report.charts.drawing import LeftOut
from axiom_bench.report.options import Options, check_shown
from axiom_bench.report.page.this_run import this_run
from axiom_bench.report.shown import (
    Changes,
    check_order,
    methods_in_order,
    order_note,
    read_run,
)
from axiom_bench.report.tables.comparisons import pair_frame, place_frame
from axiom_bench.report.tables.headline import result_lines
from axiom_bench.report.tables.summaries import long_frame, overview_table
from axiom_bench.report.tables.table import to_text
from axiom_bench.report.writing import all_tables
from axiom_bench.statistics.run_folder import (
    RunFolder,
    View,
    with_own_common_rows,
)
from tests.made_runs import METHODS

CHOSEN = ("xgrad_cam", "random", "grad_cam")
FRAMES = (long_frame, place_frame, pair_frame)


def text_of(tables):
    return "\n".join(line for table in tables for line in to_text(table))


@pytest.mark.slow
def test_fewer_methods_are_a_run_with_only_these(make_records, make_run):
    records = make_records(40)
    # one method lacks images, which the others then need not lack
    first_images = sorted(records["image_id"].unique())[:2]
    is_missing = (records["method"] == "hires_cam") & records["image_id"].isin(first_images)
    assert is_missing.any()
    records.loc[is_missing, ["value", "status"]] = [np.nan, "zero_map"]
    full = make_run(records, "full")
    is_chosen = records["method"].isin([*CHOSEN, "-"])
    methods = {name: METHODS[name] for name in CHOSEN}
    exact = RunFolder.read(make_run(records[is_chosen], "exact", methods=methods))
    shown = read_run(full, Changes({"methods": list(CHOSEN)}))
    assert shown.methods == CHOSEN
    assert set(shown.view.left_out) == {*METHODS} - {*CHOSEN}
    for frame in FRAMES:
        pd.testing.assert_frame_equal(frame(shown), frame(exact), check_exact=True)
    # with all methods, Holm has more pairs
    all_pairs = pair_frame(RunFolder.read(full))
    pairs = all_pairs[all_pairs["first"].isin(CHOSEN) & all_pairs["second"].isin(CHOSEN)]
    assert len(pairs) == len(pair_frame(exact))
    assert pairs["adjusted"].sum() > pair_frame(exact)["adjusted"].sum()


@pytest.mark.slow
def test_a_setting_of_the_run_and_of_a_report(usual_run):
    shown = read_run(usual_run, Changes({"methods": ["random", "grad_cam"], "compare": "grad_cam"}))
    text = text_of(all_tables(shown))
    assert "hires_cam" in overview_table(shown).notes[1]
    assert "HiResCAM" not in text
    assert read_run(usual_run).methods == tuple(METHODS)
    names = [figure for figure in pictures.draw_perturbed(shown) if isinstance(figure, LeftOut)]
    assert names[0].reason == "report.methods leaves out xgrad_cam."
    for loaded in pictures.load(shown):
        assert loaded.methods == ("random", "grad_cam")
        (original,) = [
            one for one in pictures.load(read_run(usual_run)) if one.model == loaded.model
        ]
        place = original.methods.index("grad_cam")
        np.testing.assert_array_equal(loaded.heatmaps[1], original.heatmaps[place])


@pytest.mark.slow
def test_all_texts_follow_the_level(usual_run):
    changes = Changes({"level": 0.01, "compare": "grad_cam"})
    shown = read_run(usual_run, changes)
    lines = "\n".join(result_lines(shown))
    text = text_of(all_tables(shown))
    assert "99 %" in text
    assert "at 1 % after Holm" in text
    assert "bold below 0.01" in text
    assert "p < 0.01 after Holm" in lines
    assert not re.search(r"\b95 %|\bat 5 %|0\.05\b after|below 0\.05", text + lines)
    assert "(report.level=0.01)" in overview_table(shown).notes[1]
    # a wider interval and fewer significant pairs
    usual = read_run(usual_run)
    columns = ["mean_low", "mean_high", "median_low", "median_high"]
    both = usual.summary["mean_low"].notna() & ~usual.summary["whole_set"].astype(bool)
    low, high = (shown.summary.loc[both, name] for name in columns[:2])
    usual_low, usual_high = (usual.summary.loc[both, name] for name in columns[:2])
    assert (low <= usual_low).all()
    assert (high >= usual_high).all()
    assert (high - low).sum() > (usual_high - usual_low).sum()
    assert shown.at_level(0.05).summary.equals(usual.summary)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["box_iou", "conservation_error"])
def test_methods_are_sorted(usual_run, metric):
    shown = read_run(usual_run, Changes({"sort": metric}))
    value = shown.metadata.value(metric)
    for setting in shown.settings:
        rows = shown.summary[
            (shown.summary["metric"] == metric) & (shown.summary["model"] == setting.model)
        ]
        statistics = rows.set_index("method")[value.lead].dropna()
        expected = list(statistics.sort_values(ascending=value.better == "lower").index)
        expected += [name for name in shown.methods if name not in expected]
        assert list(methods_in_order(shown, setting)) == expected
        titles = list(map(shown.metadata.method_title, expected))
        (group,) = [
            group for group in overview_table(shown).groups if group.title == shown.label(setting)
        ]
        rows_of_table = [row[0].text for row in group.rows]
        assert rows_of_table == [title for title in titles if title in rows_of_table]
    assert f"(report.sort={metric})" in " ".join(overview_table(shown).notes)
    assert methods_in_order(read_run(usual_run), setting) == shown.methods


@pytest.mark.slow
def test_methods_are_not_sorted_by_a_metric_without_values(make_records, make_run):
    records = make_records(20)
    records.loc[records["metric"] == "box_iou", ["value", "status"]] = [np.nan, "no_annotation"]
    folder = make_run(records, "without_boxes")
    run = read_run(folder, Changes({"sort": "box_iou"}))
    with pytest.raises(BenchError, match=r"none has a value of box_iou\. Sort by ") as error:
        check_order(run)
    assert order_note(run).startswith("report.sort=box_iou changes nothing")
    with pytest.raises(BenchError, match="none has a value of box_iou"):
        write([folder], ["report.sort=box_iou"], None)
    advised = str(error.value).rpartition("report.sort=")[2].rstrip(".")
    sorted_run = read_run(folder, Changes({"sort": advised}))
    check_order(sorted_run)
    assert order_note(sorted_run).endswith(f"first (report.sort={advised}).")


def test_titles(usual_run):
    changes = Changes(method_titles={"grad_cam": "Ours"}, metric_titles={"box_iou": "Boxes"})
    shown = read_run(usual_run, changes)
    assert shown.metadata.method_title("grad_cam") == "Ours"
    assert shown.metadata.value("box_iou").title == "Boxes"
    with pytest.raises(BenchError, match="no method 'gradcam' in this run; did you mean"):
        read_run(usual_run, Changes(method_titles={"gradcam": "Ours"}))
    with pytest.raises(BenchError, match="no metric 'boxiou' in this run; did you mean"):
        read_run(usual_run, Changes(metric_titles={"boxiou": "Boxes"}))


@pytest.mark.slow
def test_the_page_has_the_command_that_repeats_it(usual_run):
    words = ("report.methods=[grad_cam]", "method.grad_cam.title=My CAM")
    run = read_run(usual_run, Changes({"methods": ["grad_cam"]}, words=words))
    expected = (
        "axiom-bench report results/synthetic/default &#39;report.methods=[grad_cam]&#39; "
        "&#39;method.grad_cam.title=My CAM&#39;"
    )
    assert expected in this_run(run).body
    assert "axiom-bench report results" not in this_run(read_run(usual_run)).body


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"methods": ["xgrad_camm"]},
            "'xgrad_camm' in this run .report.methods.; did you mean 'xgrad_cam'",
        ),
        ({"methods": []}, "report.methods names no method; write report.methods=null for all"),
        ({"sort": "zetta"}, "'zetta' of methods in this run .report.sort.; did you mean 'zeta'"),
        (
            {"methods": ["a"], "compare": "xgrad_cam"},
            r'leaves out xgrad_cam, .* add it: "report.methods=\[a,xgrad_cam\]"',
        ),
    ],
)
def test_names_must_be_in_the_run(settings, sentence):
    with pytest.raises(BenchError, match=sentence):
        check_shown(Options.of(settings), ["a", "xgrad_cam"], ["zeta"])


@pytest.mark.parametrize("level", [0, 0.5, 0.001, -0.05, 1, "5%", None, True])
def test_a_level_is_checked(level):
    with pytest.raises(BenchError, match=r"report.level must be a level from 0.002 to below 0.5"):
        Options.of({"level": level})
    assert Options.of({"level": 0.002}).level == 0.002


def whole_set_of(run, rows_of_method, common_rows):
    """Values of box_iou over the whole data set, stored with these numbers of rows."""
    setting = run.settings[0]
    rows = []
    for number, (method, count) in enumerate(rows_of_method.items()):
        row = {
            **setting._asdict(),
            "method": method,
            "metric": "box_iou",
            "value": 0.1 * number,
            "images": count,
            "rows": count,
            "replicates": [number, 1],
            "common_value": 0.5,
            "common_images": common_rows,
            "common_rows": common_rows,
            "common_replicates": [number, 2],
        }
        rows.append(row)
    return pd.DataFrame(rows)


def test_whole_data_sets_are_compared_on_the_rows_of_the_shown_methods(usual):
    table = usual.matrix(usual.settings[0], "box_iou")
    columns = [table.methods.index(name) for name in ("grad_cam", "xgrad_cam")]
    has = np.isfinite(table.values[:, columns])
    common = int(has.all(axis=1).sum())
    assert has.all(axis=1).sum() == has.any(axis=1).sum()  # both have the same rows
    shown = replace(usual, view=View(left_out=("hires_cam",)))
    names = {"grad_cam": common, "xgrad_cam": common}

    # a method that isn't shown lacked rows
    stored = whole_set_of(usual, names, common - 3)
    found = with_own_common_rows(replace(shown, whole_set=stored))
    assert found["common_value"].tolist() == stored["value"].tolist()
    assert found["common_rows"].tolist() == [common, common]
    assert found["common_replicates"].tolist() == stored["replicates"].tolist()

    # it lacked none
    stored = whole_set_of(usual, names, common)
    found = with_own_common_rows(replace(shown, whole_set=stored))
    assert found["common_value"].tolist() == [0.5, 0.5]
    assert found["replicates"].tolist() == stored["common_replicates"].tolist()
