"""Values of the whole data set in a run: curves beside the records, rows with image id "*", the
same after a resume.
"""

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench import metrics
from axiom_bench.cli import finish
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.evaluation.whole_set import image_ids, resampled_values
from axiom_bench.gate import gate, write_baseline
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import reading, running
from axiom_bench.run import whole_set
from axiom_bench.run.result import JobResult
from axiom_bench.run.whole_set import RESAMPLES, draws, replicates
from axiom_bench.statistics.run_folder import RunFolder, whole_set_problems
from axiom_bench.statistics.summary import leading, summarise

from .conftest import RUN, assembled, module_of

# of the random weights: with most other seeds some maps are zero, which have no box
SEED = "model.seed=27"
CHOSEN = (
    "metric=[max_box_acc,pxap,box_iou]",
    "data.size=12",
    "shard_size=5",
    "target=each_label",
    SEED,
)


@pytest.fixture
def folder(results) -> Path:
    return results / RUN


def read(folder: Path, outcome: JobResult) -> RunFolder:
    manifest_file.write(folder, assembled([outcome]))
    running.end(folder)
    return RunFolder.read(folder)


@pytest.fixture(scope="module")
def chosen(finished_run) -> tuple[RunFolder, JobResult]:
    """The finished run of CHOSEN. Read only."""
    results, (outcome,) = finished_run(*CHOSEN)
    return read(results / RUN, outcome), outcome


def test_one_row_for_each_method_and_value(chosen):
    rows = chosen[0].records.frame()
    whole_set = rows[rows["image_id"] == "*"]
    names = product(("grad_cam", "xgrad_cam"), ("max_box_acc", "max_box_acc_threshold", "pxap"))
    assert sorted(zip(whole_set["method"], whole_set["metric"], strict=True)) == list(names)
    assert (whole_set["status"] == "ok").all()
    images = rows[(rows["image_id"] != "*") & (rows["metric"] == "box_acc_own_threshold")]
    upper = images.groupby("method", observed=True)["value"].mean()
    value = whole_set[whole_set["metric"] == "max_box_acc"].set_index("method")["value"]
    assert (value <= upper + 1e-12).all()


def test_the_value_is_that_of_the_curves_in_their_side_files(chosen):
    finished, outcome = chosen
    assert len(outcome.files["curves"]) == 3  # shards
    curves = pd.concat(
        part.table.to_pandas() for part in reading.read_curves(finished.path, finished.manifest)
    )
    assert set(curves["curve"]) == {"max_box_acc_iou", "pxap_above", "pxap_hit"}
    rows = finished.records.frame()
    for method, own in curves.groupby("method", observed=True):
        iou = np.stack(
            list(own.loc[(own["curve"] == "max_box_acc_iou") & (own["status"] == "ok"), "points"])
        )
        value = rows[
            (rows["image_id"] == "*")
            & (rows["metric"] == "max_box_acc")
            & (rows["method"] == method)
        ]
        assert value["value"].tolist() == [(iou >= 0.5).mean(0).max()]


def test_each_value_has_its_replicates_and_images(chosen):
    """The same images for all methods: the value and its replicates are those on the common
    images.
    """
    finished = chosen[0]
    table = finished.whole_set.set_index(["method", "metric"])
    single = finished.records.frame().query("image_id != '*' and status == 'ok'")
    for (method, metric), row in table.iterrows():
        assert len(row["replicates"]) == whole_set.RESAMPLES
        assert row["common_value"] == row["value"]
        np.testing.assert_array_equal(row["replicates"], row["common_replicates"])
        name = "pixel_ap_own_image" if metric == "pxap" else "box_acc_own_threshold"
        of_images = single[(single["metric"] == name) & (single["method"] == method)]
        assert row["images"] == row["common_images"] == of_images["image_id"].nunique()
    errors = finished.summary.query("whole_set").set_index(["method", "metric"])["standard_error"]
    assert errors["grad_cam", "pxap"] == np.std(table["replicates"]["grad_cam", "pxap"], ddof=1) > 0
    assert list(whole_set_problems(finished)) == []


OWN = """
import torch
from axiom_bench.explanation.explanation import Curve


def silent(trace, classes):
    keep = torch.tensor([int(target) not in classes for target in trace.targets], device=trace.scores.device)
    return torch.ones_like(trace.activations) * keep[:, None, None, None]


def spread(explanation):
    map_mean = explanation.heatmap.mean((1, 2))
    return {"spread": map_mean, "spread_curve": Curve(map_mean[:, None])}


def over_images(curves):
    return {"spread": float(curves["spread_curve"].mean())}
"""
OWN_METRIC = (
    "metric=[zeta]", "+metric.spread._target_=own_maps.spread", "+metric.spread.aggregate=own_maps.over_images",
    "+metric.spread.needs=[nonzero_map]", "+metric.spread.curves=[spread_curve]", "+metric.spread.of=method",
)  # fmt: skip


def silent_on(name: str, classes: list[int]) -> tuple[str, str]:
    """A method that has no map for these classes."""
    return f"+method.{name}._target_=own_maps.silent", f"+method.{name}.params.classes={classes}"


@pytest.mark.slow
def test_values_on_the_rows_that_all_compared_methods_have(run, folder, tmp_path, monkeypatch):
    """Of three methods one lacks a few rows, one most of them and one all of them: the latter two
    aren't compared.
    """
    module_of(tmp_path, "own_maps", OWN, monkeypatch)
    size = ("data.size=24", "target=each_label")
    ran = read(folder, run("metric=[zeta]", "method=[uniform]", *size)[0])
    classes = ran.records.frame()["target_class"].value_counts()
    rarest, total = int(classes.index[-1]), int(classes.sum())
    assert 0 < 10 * classes[rarest] <= total
    own = [
        *silent_on("few", [rarest]),
        *silent_on("most", list(range(9))),
        *silent_on("all", list(range(10))),
    ]
    (outcome,) = run(*OWN_METRIC, "method=[uniform]", *size, *own)
    assert outcome.failure is None
    finished, few = read(folder, outcome), total - classes[rarest]
    table = finished.whole_set.set_index("method")
    assert table["rows"].to_dict() == {"uniform": total, "few": few, "most": classes[9], "all": 0}
    assert table["common_rows"].to_dict() == {"uniform": few, "few": few, "most": 0, "all": 0}
    assert table["images"]["uniform"] == 24
    single = finished.records.frame(["spread"]).query("image_id != '*'")
    common = single[(single["method"] == "uniform") & (single["target_class"] != rarest)]
    values = table["common_value"]
    assert values["uniform"] == pytest.approx(common["value"].mean(), rel=1e-12)
    assert (
        table["common_images"]["uniform"]
        == table["common_images"]["few"]
        == common["image_id"].nunique()
    )
    assert values["few"] == table["value"]["few"]
    assert np.isnan(values["most"])
    assert table["status"]["all"] == "no_image"
    assert list(whole_set_problems(finished)) == []
    summary = finished.summary[finished.summary["whole_set"].astype(bool)].set_index("method")
    assert summary["n"].drop("all").to_dict() == table["rows"].drop("all").to_dict()
    assert summary["compared"].to_dict() == {
        "uniform": True,
        "few": True,
        "most": False,
        "all": False,
    }
    assert summary["partial"].to_dict() == {
        "uniform": False,
        "few": True,
        "most": True,
        "all": False,
    }


@pytest.mark.slow
def test_values_of_other_images_or_methods_are_named_not_computed(run, folder):
    """As where the records of two runs were combined."""
    finished = read(folder, run("metric=[pxap]", "data.size=6")[0])
    table = finished.whole_set
    more, other = (
        table.assign(images=table["images"] + 1),
        table.assign(common_images=range(1, 1 + len(table))),
    )
    for changed in (more, other, pd.concat([table, table])):
        (sentence,) = whole_set_problems(replace(finished, whole_set=changed))
        assert sentence.startswith("PxAP: ")
        assert "run the same command again" in sentence


@pytest.mark.slow
def test_a_repeated_run_and_other_shards_give_the_same(run, ran, folder):
    first, again = ran(*CHOSEN)[0], run(*CHOSEN)[0]
    assert (again.values, again.files) == (first.values, first.files)
    assert again.computed.shards == 0
    values = [
        read(folder, outcome).records.frame()
        for outcome in (first, run(*CHOSEN, "shard_size=3")[0])
    ]
    first_run, other = (
        table[table["image_id"] == "*"].set_index(["method", "metric"])["value"] for table in values
    )
    np.testing.assert_array_equal(first_run, other)


def test_metrics_without_curves_have_no_side_file(run, folder):
    (without,) = run("metric=[box_iou]", "data.size=2")
    assert without.files["curves"] == ()
    assert not (folder / "curves").exists()


def test_it_is_no_bad_image_and_counts_the_images_it_is_of(ran, folder, unreported):
    (outcome,) = ran(*CHOSEN)
    finished = read(folder, outcome)
    assert not any("left out" in line for line in finish.finish(outcome.settings, [outcome])[1])
    summary = summarise(finished.records, image_value_of=finished.image_value_of)
    for names in (
        ["pxap", "pixel_ap_own_image"],
        ["max_box_acc", "max_box_acc_threshold", "box_acc_own_threshold"],
    ):
        both = summary[summary["metric"].isin(names)]
        for _, rows in both.groupby("method"):
            assert len(rows) == len(names)
            assert (
                rows["n"].nunique() == rows["images"].nunique() == rows["statuses"].nunique() == 1
            )
            assert rows["n"].iloc[0] > 2
    first = leading(summary)
    assert first[first["metric"] == "pxap"]["whole_set"].all()
    assert not first[first["metric"] == "box_iou"]["whole_set"].any()


def test_the_gate_holds_it_to_its_tolerance(chosen, tmp_path):
    folder = chosen[0].path
    baseline = write_baseline(folder, tmp_path / "baseline.csv")
    assert gate(folder, baseline).exit_code == 0
    assert "max_box_acc (whole set)" in baseline.read_text()
    lines = baseline.read_text().splitlines(keepends=True)
    moved = (line.replace(",0.", ",0.9") if "pxap (whole set)" in line else line for line in lines)
    baseline.write_text("".join(moved))
    assert gate(folder, baseline).exit_code == 1


def test_values_are_named_by_the_parameters(run, folder):
    (outcome,) = run(
        "metric=[max_box_acc_v2]", "metric.max_box_acc_v2.params.ious=[0.5,0.75]", "data.size=4"
    )
    assert outcome.failure is None
    rows = read(folder, outcome).records.frame()
    names = {"max_box_acc_v2", "max_box_acc_v2_50", "max_box_acc_v2_75"}
    assert set(rows.loc[rows["image_id"] == "*", "metric"]) == names
    own = {name.replace("max_box_acc_v2", "box_acc_v2_own_threshold") for name in names}
    assert set(rows.loc[rows["image_id"] != "*", "metric"]) == own
    assert outcome.facts.metrics["max_box_acc_v2_75"].title == "MaxBoxAccV2, IoU 0.75"
    assert list(outcome.facts.metrics)[:3] == sorted(names)  # they lead
    assert {outcome.facts.metrics[name].better for name in own} == {"none"}  # so that none is bold


IMAGES, THRESHOLDS = 200, 100


def curves_of(share: float, rows_each: int = 1) -> pd.DataFrame:
    """Rows of IMAGES images, whose IoU is above 0.5 at every threshold for that share of them and 0
    for the others.
    """
    ids = np.repeat([f"image_{i:04d}" for i in range(IMAGES)], rows_each)
    hits = np.repeat(np.arange(IMAGES) < round(share * IMAGES), rows_each)
    points = list(np.where(hits, 0.8, 0.0)[:, None].repeat(THRESHOLDS, 1))
    names = {"target_class": 0, "method": "grad_cam", "curve": "max_box_acc_iou", "status": "ok"}
    return pd.DataFrame({"image_id": ids, "points": points, **names})


def mean_alone(curves):
    """A user's aggregate, which takes no `counts`."""
    return {"mine": float((curves["max_box_acc_iou"] >= 0.5).mean())}


def resampled(
    metric: Plugin, curves: pd.DataFrame, images: list[str] | None = None
) -> dict[str, list[float]]:
    rows = image_ids(metric, curves)
    return replicates(partial(resampled_values, metric, curves), images or sorted(set(rows)), rows)


MAX_BOX_ACC = metrics.get("max_box_acc")


def test_of_a_share_of_the_images_the_deviation_is_the_binomials():
    values = resampled(MAX_BOX_ACC, curves_of(0.3))
    exact = np.sqrt(0.3 * 0.7 / IMAGES)
    deviation = np.std(values["max_box_acc"], ddof=1)
    assert deviation == pytest.approx(exact, rel=4 / np.sqrt(2 * RESAMPLES))  # 4 of its own errors
    assert set(values["max_box_acc_threshold"]) == {0.0}  # the first of equals in every resample


def test_all_rows_of_an_image_are_drawn_together_in_any_order():
    once, thrice = (resampled(MAX_BOX_ACC, curves_of(0.3, rows)) for rows in (1, 3))
    np.testing.assert_allclose(thrice["max_box_acc"], once["max_box_acc"], rtol=1e-12)
    assert resampled(MAX_BOX_ACC, curves_of(0.3).sample(frac=1, random_state=0)) == once
    # which takes no counts
    spec = MetricSpec(curves=("max_box_acc_iou",), aggregate=f"{__name__}.mean_alone")
    alone = resampled(Plugin("mine", "", print, spec), curves_of(0.3))["mine"]
    np.testing.assert_allclose(alone, once["max_box_acc"], rtol=1e-12)
    for one_or_none in (
        curves_of(0.3)[:1],
        curves_of(0.3)[:0],
        curves_of(0.3).assign(status="zero_map"),
    ):
        assert resampled(MAX_BOX_ACC, one_or_none) == {}


def test_draws_are_seeded_by_the_image_ids():
    ids = [f"{i}" for i in range(30)]
    np.testing.assert_array_equal(draws(ids), draws(ids))
    assert (draws(ids) != draws([f"other {name}" for name in ids])).any()
    np.testing.assert_array_equal(draws(ids).sum(1), np.full(RESAMPLES, 30))


def test_a_method_without_some_images_is_seen_on_the_same_resamples():
    """The share of hits among the images that it has and that are drawn, in each resample."""
    curves, images = curves_of(0.3), sorted(set(curves_of(0.3)["image_id"]))
    part = curves[curves.index % 4 != 1]
    values = resampled(MAX_BOX_ACC, part, images)["max_box_acc"]
    columns = np.flatnonzero(np.isin(images, part["image_id"]))
    counts, hits = draws(images)[:, columns], columns < round(0.3 * IMAGES)
    np.testing.assert_allclose(values, (counts @ hits) / counts.sum(1), rtol=1e-12)


def test_curves_of_other_rows_are_refused():
    above, hit = (curves_of(0.3).assign(curve=name) for name in ("pxap_above", "pxap_hit"))
    with pytest.raises(BenchError, match="aren't of the same rows"):
        image_ids(metrics.get("pxap"), pd.concat([above, hit[1:]]))
