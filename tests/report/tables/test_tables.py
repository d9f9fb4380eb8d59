"""The tables of a run: their numbers, the counts of images, and the rows without a value."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from axiom_bench.records.entries import MethodEntry
from axiom_bench.report.tables.summaries import (
    overview_table,
    training_tables,
    wide_frame,
)
from axiom_bench.report.tables.table import Table
from axiom_bench.report.tables.text import target_note, without_value
from axiom_bench.report.writing import write_tables
from axiom_bench.statistics.labels import NOTHING
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise
from tests.made_runs import entries_of

AXIOMS = ["sensitivity_error", "conservation_error"]
SUMMARY = (  # the columns of summary.csv, which programs read
    "model layer data method metric whole_set split unit better images n rows mean mean_low "
    "mean_high median median_low median_high standard_error compared common_images common_n "
    "common_mean common_median statuses"
)


def texts(table: Table, group: int = 0) -> dict[str, list[str]]:
    """Return the texts of each method's cells, the bold ones in asterisks."""
    rows = table.groups[group].rows
    return {
        row[0].text: [f"*{cell.text}*" if cell.bold else cell.text for cell in row[1:]]
        for row in rows
    }


@pytest.fixture(scope="module")
def run(usual: RunFolder) -> RunFolder:
    return usual


@pytest.mark.slow
def test_what_depends_on_the_batch_is_marked_in_every_table(
    make_run, make_records, edit_manifest, tmp_path
):
    folder = make_run(make_records(n=12))
    about = entries_of(folder)
    for kind, name in (("methods", "grad_cam"), ("metrics", "box_iou")):
        about[kind][name] = {**about[kind].get(name, {}), "unstable": f"{name} draws at random"}
    edit_manifest(folder, methods=about["methods"], metrics=about["metrics"])
    run = RunFolder.read(folder)
    tables = write_tables(run, tmp_path / "tables")
    assert len(tables) > 5
    for path in (tmp_path / "tables").glob("*.md"):
        text = path.read_text()
        assert (
            "§ grad_cam: grad_cam draws at random.\n\n§ box_iou: box_iou draws at random." in text
        )
        assert ("grad_cam\N{NO-BREAK SPACE}§" in text) == ("| grad_cam" in text), path.name
        assert ("Box IoU\N{NO-BREAK SPACE}§" in text) == ("Box IoU" in text), path.name


@pytest.mark.slow
def test_a_method_without_any_value_is_in_a_note_alone(make_records, make_run):
    records = make_records(12)
    absent = (records["method"] == "random") & (records["model"] == "scenes_fc")
    records["status"] = records["status"].mask(absent, "not_applicable")
    records["value"] = records["value"].mask(absent)
    table = overview_table(RunFolder.read(make_run(records, pictures=False)))
    assert ["random" in texts(table, group) for group in (0, 1)] == [False, True]
    (note,) = [note for note in table.notes if "can't explain this network" in note]
    assert note.startswith("On scenes_fc, random has no value of ")
    assert note.endswith(": can't explain this network.")


def test_each_target_rule_says_what_correct_means():
    texts = {
        "each_label": "every class",
        "predicted": "every row counts as correct",
        "label": "labelled class",
    }
    assert all(text in target_note(rule) for rule, text in texts.items())


def test_other_statuses_add_up():
    assert (
        without_value("ok:3 zero_map:1 ok:2 zero_map:1 odd_status:4")
        == "map is zero everywhere: 2, odd status: 4"
    )
    assert without_value("ok:3") == NOTHING


@pytest.mark.slow
def test_every_table_is_there_in_every_format_and_csv_has_full_precision(run, tmp_path):
    names = {table.name for table in write_tables(run, tmp_path)}
    assert {"overview", "metrics_1", "metrics_2", "correctness_1", "statuses", "runtime"} <= names
    for name in names:
        assert (tmp_path / f"{name}.md").read_text().startswith("# ")
        assert r"\toprule" in (tmp_path / f"{name}.tex").read_text()
    long = pd.read_csv(tmp_path / "summary.csv", keep_default_na=False, na_values=[""])
    assert " ".join(long) == SUMMARY
    all_rows = long[long["split"] == "all"].reset_index(drop=True)
    expected = summarise(run.records)
    assert all_rows["mean"].to_list() == pytest.approx(
        expected["mean"].to_list(), rel=1e-15, nan_ok=True
    )
    keys = ["model", "method", "metric"]
    parts = long[long["split"] != "all"].groupby(keys)["n"].sum()
    assert parts.to_dict() == all_rows.groupby(keys)["n"].sum().to_dict()
    wide = pd.read_csv(tmp_path / "overview.csv", float_precision="round_trip").set_index(
        ["model", "method"]
    )
    for row in expected.query("metric == 'box_iou' and method == 'random'").itertuples():
        assert wide.loc[(row.model, "random"), "box_iou mean"] == row.mean
    assert wide.loc[("scenes_fc", "hires_cam"), "milliseconds_per_image"] == 3


@pytest.mark.slow
def test_many_metrics_are_one_wide_row_without_a_warning(make_records, make_run, recwarn):
    layers = {"scenes_fc": ("features.9",)}
    rows = make_records(n=2, layers=layers, methods={"grad_cam": {}, "random": {}}).query(
        "metric == 'box_iou'"
    )
    records = pd.concat([rows.assign(metric=f"metric_{i}") for i in range(60)])
    run = RunFolder.read(make_run(records, layers=layers, pictures=False))
    wide = wide_frame(run)
    assert wide.shape == (len(rows.drop_duplicates(["model", "method"])), 4 + 60 * 3 + 1)
    assert not recwarn.list


def test_the_overview_lists_the_metrics_without_a_column(run):
    """Each metric of a run has a column or is in the last note."""
    table = overview_table(run)
    heading = " ".join(table.header)
    others = [
        title
        for name in run.metrics
        if (title := run.metadata.value(name).title) not in heading.replace("\n", " ")
    ]
    assert others
    assert (
        table.notes[-1] == f"Metrics that are only in the table 'All metrics': {', '.join(others)}."
    )


@pytest.mark.slow
def test_a_winner_by_construction_is_marked(run):
    methods = {
        **run.manifest.methods,
        "grad_cam": MethodEntry(wins_by_construction=["conservation_error"]),
    }
    run = replace(run, manifest=run.manifest.model_copy(update={"methods": methods}))
    table = overview_table(run)
    rows = texts(table)
    assert rows["grad_cam"][1].endswith("‡")
    assert rows["xgrad_cam"][1].startswith("*")  # the best of the others
    assert (
        "‡ 0 by the method's own formula, so not ranked: Conservation error of grad_cam."
        in table.notes
    )


@pytest.mark.slow
def test_the_overview_says_what_a_reader_must_know_of_a_network(
    make_run, make_records, edit_manifest
):
    """Once for all networks of which the same is to be known."""
    folder = make_run(make_records(n=12), pictures=False)
    models = entries_of(folder)["models"]
    edit_manifest(
        folder,
        models={name: {**about, "note": "made for tests."} for name, about in models.items()},
    )
    run = RunFolder.read(folder)
    assert "scenes_fc, scenes_residual: made for tests." in overview_table(run).notes


SEEDS = dict.fromkeys(("net", "net_seed1", "net_seed2"), ("features.9",))


@pytest.fixture
def trained(make_run, make_records, edit_manifest):
    """(architectures of the models) -> a run of three models."""

    def make(architectures: tuple[str, ...]) -> RunFolder:
        folder = make_run(
            make_records(n=40, layers=SEEDS), layers=SEEDS, pictures=False, runtime=False
        )
        named = zip(entries_of(folder)["jobs"], SEEDS, architectures, strict=True)
        jobs = [
            {
                **job,
                "job": f"{name} at features.9 on scenes",
                "config": {"model": {"architecture": architecture}},
            }
            for job, name, architecture in named
        ]
        edit_manifest(folder, jobs=jobs)
        return RunFolder.read(folder)

    return make


@pytest.mark.slow
def test_trainings_stand_side_by_side_with_an_interval_over_them(trained):
    """Each network's number is that of the overview; the mean over them comes with two intervals,
    the wider one over trainings too.
    """
    run = trained(("net", "net", "net"))
    (table,) = training_tables(run)
    assert table.header == (
        "Method",
        *SEEDS,
        "All trainings [95 %]",
        "These networks [95 %]",
        "Without one",
    )
    assert [group.metric for group in table.groups] == ["conservation_error", "box_iou"]
    assert {"random", "guided_xgrad_cam"} & texts(table, 0).keys() == set()  # no value there
    for group, lead in ((0, "median"), (1, "mean")):
        row = next(cells for cells in table.groups[group].rows if cells[0].text == "xgrad_cam")
        summary = run.summary[run.summary["metric"] == table.groups[group].metric]
        summary = summary[summary["method"] == "xgrad_cam"].set_index("model")
        values = [summary.loc[name, lead] for name in SEEDS]
        assert [cell.numbers[0] for cell in row[1:4]] == pytest.approx(values)

        # The interval for all trainings is wider than the one for these networks.
        mean, all_low, all_high = row[4].numbers
        same_mean, these_low, these_high = row[5].numbers
        assert mean == same_mean == pytest.approx(sum(values) / 3)
        assert all_low < these_low < mean < these_high < all_high

        # The lowest and the highest mean if one training is left out.
        lowest, middle, highest = sorted(values)
        without_one = [(lowest + middle) / 2, (middle + highest) / 2]
        assert row[6].numbers == pytest.approx(without_one)


@pytest.mark.slow
def test_other_architectures_are_no_trainings(trained):
    assert list(training_tables(trained(("net", "net", "other")))) == []
