"""Tests of methods with values for different images.

They check closed forms, and what tables, a report's headline and the ranking show of them.
"""

import itertools

import numpy as np
import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Figure
from axiom_bench.report.page.tables import Terms, tables_block
from axiom_bench.report.page.this_run import header
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.summaries import correctness_tables, metric_tables, overview_table
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import COLUMNS
from tests.made_runs import rows_of

NAN = float("nan")
OFF_SCALE = "not_on_score_scale"
METRICS = {
    "hit": {"title": "Hit", "unit": "share", "kind": "bounded", "better": "higher"},
    "error": {"title": "Error", "unit": "ratio", "kind": "ratio", "better": "lower"},
    "size": {"title": "Size", "unit": "share", "better": "none"},
}


@pytest.fixture
def make_folder(make_run, edit_manifest):
    """Return a function (records, **changes of the manifest) that reads a new run folder."""
    numbers = itertools.count()

    def make(records, **changes):
        methods = {name: {} for name in records["method"].unique() if name != "-"}
        folder = make_run(
            records,
            f"run {next(numbers)}",
            methods=methods,
            layers=dict.fromkeys(records["model"].unique(), ("last",)),
            runtime=False,
            pictures=False,
        )
        report_settings = {
            "headline": list(METRICS),
            "columns": list(METRICS),
            "figures": {"perturbed": None, "pair": []},
        }
        metrics = {}
        for name, about in METRICS.items():
            metrics[name] = {"tolerance": "mean:1%", "metric": name, **about}
        config = {"target": "label", "report": report_settings}
        edit_manifest(folder, metrics=metrics, config=config, **changes)
        return RunFolder.read(folder)

    return make


def bold_cells(table, group=0):
    """Return the texts of each method's bold cells."""
    rows = table.groups[group].rows
    return {row[0].text: [cell.text for cell in row if cell.bold] for row in rows}


def has_bold_cells(table, group=0):
    return any(bold_cells(table, group).values())


def has_stars(run):
    """Return True if the headline marks a best method with a star."""
    return any("*" in line for line in report.headline(run))


def texts(table, group=0):
    """Return the texts of each method's cells."""
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.groups[group].rows}


def common(run, metric="hit"):
    """Return the COLUMNS of one metric for each method."""
    of_metric = run.summary[run.summary["metric"] == metric]
    summary = of_metric.set_index("method")[list(COLUMNS)]
    return dict(zip(summary.index, summary.to_numpy().tolist(), strict=True))


# There are 20 images. `silent` is right on 8 and has no map on 12. `steady` is right on 15, among
# them 5 of those 8. `poor` is right on none.
SILENT = {
    "silent": [1.0] * 8 + [NAN] * 12,
    "steady": [1.0] * 5 + [0.0] * 3 + [1.0] * 10 + [0.0] * 2,
    "poor": [0.0] * 20,
}


def test_a_method_that_says_nothing_does_not_win(make_folder):
    run = make_folder(rows_of("hit", SILENT))
    assert common(run)["steady"] == [True, False, 20, 20, 0.75, 1.0]
    assert common(run)["silent"][:4] == [False, True, 0, 0]
    table = overview_table(run)
    assert bold_cells(table) == {"silent": [], "steady": ["0.750 [0.533, 0.958]"], "poor": []}
    assert texts(table)["silent"][0] == "1.00†"  # eight images have no interval
    note = "In common: Hit n = 20 images, 20 rows, without silent."
    assert any(note in line for line in table.notes)
    (details,) = metric_tables(run)
    assert bold_cells(details) == {"silent": [], "steady": ["0.750"], "poor": []}
    lines = [line.split() for line in report.headline(run)[3:6]]
    assert lines == [["silent", "1.00†"], ["steady", "*0.750"], ["poor", "0"]]


# b's mean, 1.26, is above a's; but on the 18 images that both have a is above b.
FEW = {"a": [0.5] * 18 + [NAN] * 2, "b": [0.4] * 18 + [9.0] * 2, "c": [0.3] * 20}


def test_the_best_is_decided_on_the_images_that_all_compared_methods_have(make_folder):
    equal_errors = rows_of("error", {name: [1.0] * 20 for name in FEW})
    run = make_folder(pd.concat([rows_of("hit", FEW), equal_errors]))

    means = {"a": 0.5, "b": 0.4, "c": 0.3}
    for method, mean in means.items():
        compared, partial, images, n, value, _ = common(run)[method]
        assert (compared, partial, images, n) == (True, method == "a", 18, 18)
        assert value == pytest.approx(mean, rel=1e-15)
    assert common(run, "error")["a"][:4] == [True, False, 20, 20]

    table = overview_table(run)
    # No error is bold, since all errors coincide.
    assert bold_cells(table) == {"a": ["0.500 [0.500, 0.500]†"], "b": [], "c": []}
    assert texts(table)["b"][0].startswith("1.26 [")
    (details,) = metric_tables(run)
    assert details.header[-2] == "In common"
    assert bold_cells(details) == {"a": ["0.500"], "b": [], "c": []}
    assert [row[-2] for row in texts(details).values()] == ["0.500", "0.400", "0.300"]
    # All methods have their errors on the same images.
    assert [row[-2] for row in texts(details, 1).values()] == ["", "", ""]

    assert report.headline(run)[2].split()[:2] == ["a", "*0.500†"]
    assert "†" in tables_block([table], Terms())
    assert r"\dag{}" in to_latex(table)
    assert "†" in to_markdown(table)
    (order,) = [drawing for drawing in ranking.draw(run) if isinstance(drawing, Figure)]
    drawn_texts = [text.get_text() for text in order.draw().axes[0].texts]
    assert drawn_texts[:3] == ["0.500", "0.400", "0.300"]


def test_the_median_of_a_ratio_is_over_the_common_images(make_folder):
    values = {"a": [1.0] * 9 + [NAN], "b": [0.5] * 5 + [2.0] * 4 + [9.0]}
    table = common(make_folder(rows_of("error", values)), "error")
    assert [table[name][5] for name in values] == [1.0, 0.5]  # b's own is 1.25


@pytest.mark.parametrize(
    ("records", "expected", "best"),
    [
        pytest.param(
            [
                rows_of("hit", {"a": [0.2] * 10, "b": [0.4] * 10}),
                rows_of("hit", {"off": [NAN] * 10}, OFF_SCALE),
            ],
            {
                "a": (True, False, 10, 10),
                "b": (True, False, 10, 10),
                "off": (False, False, 0, 0),
            },
            ["b"],
            id="does not apply",
        ),
        pytest.param(
            [rows_of("hit", {name: [0.5] * 15 + [NAN] * 5 for name in "ab"}, "no_annotation")],
            {"a": (True, False, 15, 15), "b": (True, False, 15, 15)},
            [],
            id="images that no method has",
        ),
        pytest.param(
            [rows_of("hit", {"a": [NAN] + [1.0] * 19, "b": [1.0] * 19 + [NAN]})],
            {"a": (True, True, 18, 18), "b": (True, True, 18, 18)},
            [],
            id="as many images but others",
        ),
        pytest.param(
            [rows_of("error", FEW), rows_of("hit", {"-": [0.9] * 3 + [NAN] * 17})],
            {"-": (True, False, 3, 3)},
            ["c"],
            id="a layer's own metric is compared with no method",
        ),
    ],
)
def test_common_images(make_folder, records, expected, best):
    run = make_folder(pd.concat(records))
    assert {name: tuple(row[:4]) for name, row in common(run).items()} == expected
    table = overview_table(run)
    assert [name for name, cells in bold_cells(table).items() if cells] == best
    is_any_partial = any(partial for _, partial, *_ in expected.values())
    assert ("In common: Hit" in "".join(table.notes)) == is_any_partial


APART = {"a": [1.0] * 10 + [NAN] * 10, "b": [NAN] * 10 + [0.5] * 10}


@pytest.mark.slow
def test_methods_without_an_image_in_common_are_not_ranked(make_folder):
    run = make_folder(rows_of("hit", APART))
    table = overview_table(run)
    assert any("In common: Hit none, without a, b." in note for note in table.notes)
    assert not has_stars(run)

    # A single method isn't ranked either.
    run_of_one = make_folder(rows_of("hit", {name: SILENT[name] for name in ("silent", "steady")}))
    for unranked in (run, run_of_one):
        assert not has_bold_cells(overview_table(unranked))
        assert not [part for part in ranking.draw(unranked) if isinstance(part, Figure)]


@pytest.mark.slow
def test_a_report_without_an_image_in_common_is_written(make_folder):
    assert report.write(make_folder(rows_of("hit", APART))).is_file()


def test_each_setting_has_its_own_common_images(make_folder):
    other = {"a": [0.5] * 20, "b": [0.6] * 20}
    parts = [
        rows_of("hit", FEW),
        rows_of("hit", other, model="other"),
        rows_of("hit", other, data="photos"),
    ]
    models = {"net": {"layer": "last"}, "other": {"layer": "last"}}

    run = make_folder(pd.concat(parts), models=models)

    summary = run.summary[run.summary["method"] == "a"].set_index(["model", "data"])
    counts = {("net", "scenes"): 18, ("net", "photos"): 20, ("other", "scenes"): 20}
    assert summary["common_n"].to_dict() == counts
    notes = overview_table(run).notes
    assert any("In common: Hit n = 18 images, 18 rows (net (scenes))." in note for note in notes)
    first, second, third = metric_tables(run)
    assert "In common" in first.header + second.header
    assert "In common" not in third.header


def test_correct_and_wrong_images_have_common_images_of_their_own(make_folder):
    records = rows_of("hit", FEW)
    records["predicted_class"] = records["predicted_class"].where(records["image_id"] < "10", 2)
    run = make_folder(records)
    (table,) = correctness_tables(run)
    counts = run.split_summary.set_index(["method", "split"])["common_n"]
    assert counts.xs("correct", level="split").to_dict() == {"a": 10, "b": 10, "c": 10}
    # a has eight of the ten wrong images, fewer than nine tenths: b and c are compared on all ten.
    assert counts.xs("wrong", level="split").to_dict() == {"a": 0, "b": 10, "c": 10}
    assert len(counts) == 6
    assert not has_bold_cells(table)
    assert "†" in texts(table)["a"][3]


@pytest.mark.slow
def test_random_weights_and_metrics_without_a_direction_rank_nothing(make_folder):
    models = {"net": {"layer": "last", "random_weights": True}}
    random = make_folder(rows_of("hit", FEW), models=models)
    assert report.headline(random)[0].startswith("Random weights: net. ")
    assert not has_stars(random)

    run = make_folder(rows_of("size", FEW))
    assert not has_stars(run)
    overviews = [overview_table(random), overview_table(run)]
    for table in (*overviews, *metric_tables(run), *correctness_tables(run)):
        assert not has_bold_cells(table)


@pytest.mark.slow
def test_a_network_no_better_than_chance_ranks_nothing_and_that_is_the_title(make_folder):
    records = rows_of("hit", FEW)
    model = {"net": {"layer": "last", "classes": ["cat", "dog"]}}
    right = make_folder(records, models=model)
    assert has_stars(right)
    assert header(right).facts["Accuracy"] == "net 20 of 20 (100 %)"

    wrong_classes = 1 - records["target_class"]
    wrong = make_folder(records.assign(predicted_class=wrong_classes), models=model)
    lines = report.headline(wrong)
    sentence = (
        "The network net predicts the label of 0 of 20 (0 %) images, no more than chance (50 %), "
        "so its values rank no"
    )
    assert lines[0].startswith(sentence)
    lines_of_network = [line for line in lines if line.startswith("net (")]
    assert any(line.endswith("accuracy 0 of 20 (0 %)") for line in lines_of_network)
    assert not has_stars(wrong)
    assert header(wrong).title.startswith(sentence)
    assert "Check weights" in header(wrong).notices[0]
    for table in (overview_table(wrong), *metric_tables(wrong), *correctness_tables(wrong)):
        assert not has_bold_cells(table)

    # The network is reported once, not once per layer.
    layers = pd.concat([records, records.assign(layer="first")])
    layers = layers.assign(predicted_class=1 - records["target_class"])
    assert report.headline(make_folder(layers, models=model))[0].startswith(sentence)

    offset = records["image_id"].astype(int) % 5 // 2
    partly_right = records.assign(predicted_class=(records["target_class"] + offset) % 2)
    known = make_folder(partly_right, models={"net": {**model["net"], "published_accuracy": 0.99}})
    sentence = (
        "The network net predicts the label of 12 of 20 (60 %) images, fewer than the 99 % of "
        "ImageNet that are published for"
    )
    assert report.headline(known)[0].startswith(sentence)
    assert header(known).notices[0].startswith(sentence)

    unknown = make_folder(records.assign(predicted_class=-1), models=model)
    assert header(unknown).facts["Accuracy"] == "not known"
    assert has_stars(unknown)


def with_whole_set(run, replicates, **columns):
    """Return the run with values of the whole data set for methods a and b, and their resampled
    values.
    """
    keys = {
        "model": "net",
        "layer": "last",
        "data": "scenes",
        "method": ["a", "b"],
        "metric": "hit",
        "status": "ok",
    }
    stored = pd.DataFrame({**keys, "replicates": replicates, **columns})
    stored["common_replicates"] = stored["replicates"]
    return RunFolder(run.path, run.manifest, run.records, run.class_records, run.runtime, stored)


@pytest.mark.slow
def test_values_of_the_whole_data_set_lead_and_alone_are_bold(make_folder):
    stars = rows_of("hit", {"a": [0.4], "b": [0.6]})
    stars = stars.assign(image_id="*", target_class=-1, predicted_class=-1)
    of_images = rows_of("hit", {"a": [0.9] * 20, "b": [0.8] * 20})
    run = make_folder(pd.concat([of_images, stars]))
    columns = {"value": [0.4, 0.6], "common_value": [0.4, 0.6]}
    columns |= dict.fromkeys(("images", "rows", "common_images", "common_rows"), 20)

    sure = with_whole_set(run, [[0.39, 0.4, 0.41], [0.61, 0.6, 0.62]], **columns)
    unsure = with_whole_set(run, [[0.2, 0.4, 0.8], [0.7, 0.6, 0.3]], **columns)
    without_replicates = with_whole_set(run, [[], []], **columns)  # as in combined runs

    (details,) = metric_tables(sure)
    assert [group.title for group in details.groups] == [
        "Hit of the whole data set [share], higher is better", "Hit [share], higher is better",
    ]  # fmt: skip
    assert bold_cells(details) == {"a": [], "b": ["0.600 [0.580, 0.620]"]}
    assert bold_cells(details, 1) == {"a": [], "b": []}
    for other in (run, unsure, without_replicates):
        (details,) = metric_tables(other)
        assert bold_cells(details) == {"a": [], "b": []}


def test_a_value_of_the_whole_data_set_has_the_counts_that_it_was_computed_from(make_folder):
    """A metric without values of images once had the count of one image, "*"."""
    stars = rows_of("hit", {"a": [0.7], "b": [0.6]})
    stars = stars.assign(image_id="*", target_class=-1, predicted_class=-1)
    run = make_folder(stars)
    columns = {"value": [0.7, 0.6], "images": [18, 20], "rows": [30, 33]}
    columns |= {"common_value": [0.7, 0.75], "common_images": [18, 18], "common_rows": [30, 30]}

    run = with_whole_set(run, [[0.69, 0.7, 0.71], [0.74, 0.75, 0.77]], **columns)

    (details,) = metric_tables(run)
    cells = texts(details)
    assert [row[:2] for row in cells.values()] == [["18", "30"], ["20", "33"]]
    assert cells["a"][3].startswith("0.700 [")
    assert cells["a"][3].endswith("]†")
    assert bold_cells(details) == {"a": [], "b": ["0.750"]}  # on the common rows
    assert [line.split() for line in report.headline(run)[2:4]] == [
        ["a", "0.700†"],
        ["b", "*0.600"],
    ]


def test_no_record_is_no_summary(usual):
    none = usual.records.select(np.zeros(len(usual.records.keys), dtype=bool))
    empty = RunFolder(
        usual.path, usual.manifest, none, usual.class_records, usual.runtime, usual.whole_set
    )
    assert empty.summary.empty
    assert set(COLUMNS) <= set(empty.summary.columns)
