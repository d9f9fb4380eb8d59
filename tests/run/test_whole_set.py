"""Values of the whole data set in a run: curves beside the records, rows with image id "*", the same after a resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli import finish
from axiom_bench.evaluation.plugins import load
from axiom_bench.evaluation.whole_set import values
from axiom_bench.gate import gate, write_baseline
from axiom_bench.records import manifest as manifest_file
from axiom_bench.records import reading
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.summary import leading, summarise, summary_of
from axiom_bench.report.statistics.whole_set import problems
from axiom_bench.run import bootstrap
from axiom_bench.run.manifest import Outcome, assemble

Run = Callable[..., list[Outcome]]
SEED = "model.seed=27"  # of the random weights: with most other seeds some maps are zero, which have no box
CHOSEN = ("metric=[max_box_acc,pxap,box_iou]", "data.size=12", "shard_size=5", "target=each_label", SEED)


@pytest.fixture
def folder(results: Path) -> Path:
    return results / "quick/default"


def read(folder: Path, outcome: Outcome) -> RunFolder:
    manifest_file.write(folder, assemble([outcome], "quick", "default"))
    return RunFolder.read(folder)


def test_one_row_for_each_method_and_value(run: Run, folder: Path):
    (outcome,) = run(*CHOSEN)
    rows = read(folder, outcome).records
    whole = rows[rows["image_id"] == "*"]
    assert sorted(zip(whole["method"], whole["metric"], strict=True)) == [
        (method, metric)
        for method in ("grad_cam", "xgrad_cam")
        for metric in ("max_box_acc", "max_box_acc_threshold", "pxap")
    ]
    assert (whole["status"] == "ok").all()
    images = rows[(rows["image_id"] != "*") & (rows["metric"] == "max_box_acc")]
    upper = images.groupby("method", observed=True)["value"].mean()
    found = whole[whole["metric"] == "max_box_acc"].set_index("method")["value"]
    assert (found <= upper + 1e-12).all()


def test_the_value_is_that_of_the_curves_in_their_side_files(run: Run, folder: Path):
    (outcome,) = run(*CHOSEN)
    assert len(outcome.curves) == 3  # shards
    finished = read(folder, outcome)
    curves = pd.concat(part.table.to_pandas() for part in reading.read_curves(folder, finished.manifest))
    assert set(curves["curve"]) == {"max_box_acc_iou", "pxap_above", "pxap_hit"}
    rows = finished.records
    for method, own in curves.groupby("method", observed=True):
        iou = np.stack(list(own.loc[(own["curve"] == "max_box_acc_iou") & (own["status"] == "ok"), "points"]))
        found = rows[(rows["image_id"] == "*") & (rows["metric"] == "max_box_acc") & (rows["method"] == method)]
        assert found["value"].tolist() == [(iou >= 0.5).mean(0).max()]


def test_each_value_has_its_replicates_and_images(run: Run, folder: Path):
    """The same images for all methods: the value and its replicates are those on the common images."""
    finished = read(folder, run(*CHOSEN)[0])
    table = finished.whole_set.set_index(["method", "metric"])
    single = finished.records[(finished.records["image_id"] != "*") & (finished.records["status"] == "ok")]
    for (method, metric), row in table.iterrows():
        assert len(row["replicates"]) == bootstrap.RESAMPLES
        assert row["common_value"] == row["value"]
        np.testing.assert_array_equal(row["replicates"], row["common_replicates"])
        name = metric.removesuffix("_threshold")
        of_images = single[(single["metric"] == name) & (single["method"] == method)]
        assert row["images"] == row["common_images"] == of_images["image_id"].nunique()
    errors = summary_of(finished).query("whole_set").set_index(["method", "metric"])["standard_error"]
    assert errors["grad_cam", "pxap"] == np.std(table["replicates"]["grad_cam", "pxap"], ddof=1) > 0
    assert list(problems(finished)) == []


def test_common_images_are_those_that_all_methods_have(run: Run, folder: Path, tmp_path: Path, monkeypatch):
    """A method without a map of one of the images; and one that has no map at all, which isn't counted."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "blind_maps.py").write_text(
        "import torch\n\n\n"
        "def to_some(trace):\n"
        "    keep = trace.targets % 2 == 0\n"
        "    return torch.where(keep[:, None, None, None], trace.gradients, torch.zeros_like(trace.gradients))\n\n\n"
        "def to_all(trace):\n"
        "    return torch.zeros_like(trace.gradients)\n"
    )
    own = [f"+method.{name}._target_=blind_maps.{name}" for name in ("to_some", "to_all")]
    finished = read(folder, run("metric=[pxap]", "data.size=12", "method=[grad_cam]", SEED, *own)[0])
    table = finished.whole_set.set_index("method")
    assert 0 < table["images"]["to_some"] < table["images"]["grad_cam"]
    assert table["images"]["to_all"] == table["common_images"]["to_all"] == 0
    assert table["common_images"]["to_some"] == table["common_images"]["grad_cam"] <= table["images"]["to_some"]
    assert table["status"]["to_all"] == "no_image"
    curves = pd.concat(part.table.to_pandas() for part in reading.read_curves(folder, finished.manifest))
    curves = curves[curves["status"] == "ok"]
    common = set.intersection(*(set(rows["image_id"]) for _, rows in curves.groupby("method", observed=True)))
    reference = curves[(curves["method"] == "grad_cam") & curves["image_id"].isin(common)]
    expected, status = values(load("metric", "pxap"), reference)["pxap"]
    assert table["common_value"]["grad_cam"] == expected
    assert status == "ok"
    assert list(problems(finished)) == []


def test_values_of_other_images_or_methods_are_named_not_computed(run: Run, folder: Path):
    """As where the records of two runs were combined."""
    finished = read(folder, run("metric=[pxap]", "data.size=6")[0])
    table = finished.whole_set
    for changed in (
        table.assign(images=table["images"] + 1),
        table.assign(common_images=range(len(table))),
        pd.concat([table, table]),
        table.iloc[:1],
    ):
        (sentence,) = problems(replace(finished, whole_set=changed))
        assert sentence.startswith("PxAP: ")
        assert "run the same command again" in sentence


def test_a_repeated_run_and_other_shards_give_the_same(run: Run, folder: Path):
    first, again = run(*CHOSEN)[0], run(*CHOSEN)[0]
    assert again.stored == first.stored
    assert again.shards_computed == 0
    values = [read(folder, outcome).records for outcome in (first, run(*CHOSEN, "shard_size=3")[0])]
    one, other = (table[table["image_id"] == "*"].set_index(["method", "metric"])["value"] for table in values)
    np.testing.assert_array_equal(one, other)


def test_a_lost_side_file_is_made_again(run: Run, folder: Path):
    first = run(*CHOSEN)[0]
    (folder / first.curves[0]).unlink()
    again = run(*CHOSEN)[0]
    assert again.shards_computed == 1
    assert all((folder / name).is_file() for name in again.curves)


def test_metrics_without_curves_have_no_side_file(run: Run, folder: Path):
    (outcome,) = run("metric=[box_iou]")
    assert outcome.curves == ()
    assert not (folder / "curves").exists()


def test_it_is_no_bad_image_and_stands_on_the_images_that_count(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (outcome,) = run(*CHOSEN)
    table = read(folder, outcome).records
    monkeypatch.setattr("axiom_bench.report.write", lambda run: folder / "report.html")
    config = {"results": str(folder.parents[1]), "experiment": "quick", "run": "default"}
    assert not any("left out" in line for line in finish.finish(config, [outcome])[1])
    summary = summarise(table)
    both = summary[summary["metric"] == "pxap"]
    for _, rows in both.groupby("method"):
        assert rows["n"].nunique() == rows["statuses"].nunique() == 1
        assert rows["n"].iloc[0] > 2
    first = leading(summary)
    assert first[first["metric"] == "pxap"]["whole_set"].all()
    assert not first[first["metric"] == "box_iou"]["whole_set"].any()


def test_the_gate_holds_it_to_its_tolerance(run: Run, folder: Path, tmp_path: Path):
    (outcome,) = run(*CHOSEN)
    read(folder, outcome)
    baseline = write_baseline(folder, tmp_path / "baseline.csv")
    assert gate(folder, baseline).exit_code == 0
    assert "max_box_acc (whole set)" in baseline.read_text()
    moved = [
        line.replace(",0.", ",0.9") if "pxap (whole set)" in line else line
        for line in baseline.read_text().splitlines(keepends=True)
    ]
    baseline.write_text("".join(moved))
    assert gate(folder, baseline).exit_code == 1


def test_values_are_named_by_the_parameters(run: Run, folder: Path):
    (outcome,) = run("metric=[max_box_acc_v2]", "metric.max_box_acc_v2.params.ious=[0.5,0.75]", "data.size=4")
    assert outcome.failure is None
    rows = read(folder, outcome).records
    names = {"max_box_acc_v2", "max_box_acc_v2_50", "max_box_acc_v2_75"}
    assert set(rows.loc[rows["image_id"] == "*", "metric"]) == set(rows["metric"]) == names
    assert outcome.facts["metrics"]["max_box_acc_v2_75"]["title"] == "MaxBoxAccV2, IoU 0.75"
