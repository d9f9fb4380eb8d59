"""Tests of a run's values of the whole data set.

The values are rows with the image id "*", and their curves are files next to the records. A resumed
run has the same values.
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
from axiom_bench.statistics.summary import leading_rows, summarise

from .conftest import RUN, manifest_of, write_module

CHOSEN = (
    "metric=[max_box_acc,pxap,box_iou]",
    "data.size=12",
    "shard_size=5",
    "target=each_label",
    # With most other seeds of the random weights some maps are zero, and they have no box.
    "model.seed=27",
)


@pytest.fixture
def folder(results) -> Path:
    """The run folder of a tiny run."""
    return results / RUN


def read(folder: Path, outcome: JobResult) -> RunFolder:
    manifest_file.write(folder, manifest_of([outcome]))
    running.end_command(folder)
    return RunFolder.read(folder)


@pytest.fixture(scope="module")
def outcome(finished_run) -> JobResult:
    """The outcome of CHOSEN."""
    _, (outcome,) = finished_run(CHOSEN)
    return outcome


@pytest.fixture(scope="module")
def finished(finished_run) -> RunFolder:
    """The finished run of CHOSEN, which tests only read."""
    results, (outcome,) = finished_run(CHOSEN)
    return read(results / RUN, outcome)


@pytest.mark.slow
def test_one_row_for_each_method_and_value(finished):
    rows = finished.records.frame()
    whole_set = rows[rows["image_id"] == "*"]
    names = product(("grad_cam", "xgrad_cam"), ("max_box_acc", "max_box_acc_threshold", "pxap"))
    assert sorted(zip(whole_set["method"], whole_set["metric"], strict=True)) == list(names)
    assert (whole_set["status"] == "ok").all()

    images = rows[(rows["image_id"] != "*") & (rows["metric"] == "box_acc_own_threshold")]
    # One threshold for all images can't be better than the best threshold of each image.
    maxima = images.groupby("method", observed=True)["value"].mean()
    values = whole_set[whole_set["metric"] == "max_box_acc"].set_index("method")["value"]
    assert (values <= maxima + 1e-12).all()


@pytest.mark.slow
def test_the_value_is_that_of_the_curves_in_their_side_files(finished, outcome):
    assert len(outcome.files["curves"]) == 3  # shards
    parts = reading.read_curves(finished.path, finished.manifest)
    curves = pd.concat(part.table.to_pandas() for part in parts)
    assert set(curves["curve"]) == {"max_box_acc_iou", "pxap_above", "pxap_hit"}

    rows = finished.records.frame()
    whole_set = rows[(rows["image_id"] == "*") & (rows["metric"] == "max_box_acc")]
    ious = curves[(curves["curve"] == "max_box_acc_iou") & (curves["status"] == "ok")]
    for method in curves["method"].unique():
        iou = np.stack(list(ious.loc[ious["method"] == method, "points"]))
        values = whole_set.loc[whole_set["method"] == method, "value"]
        assert values.tolist() == [(iou >= 0.5).mean(0).max()]


def test_each_value_has_its_replicates_and_images(finished):
    """Check methods that all have the same images.

    The value and its replicates are then those on the common images.
    """
    table = finished.whole_set.set_index(["method", "metric"])
    single = finished.records.frame().query("image_id != '*' and status == 'ok'")
    for (method, metric), row in table.iterrows():
        assert len(row["replicates"]) == whole_set.RESAMPLES
        assert row["common_value"] == row["value"]
        np.testing.assert_array_equal(row["replicates"], row["common_replicates"])
        name = "pixel_ap_own_image" if metric == "pxap" else "box_acc_own_threshold"
        image_rows = single[(single["metric"] == name) & (single["method"] == method)]
        assert row["images"] == row["common_images"] == image_rows["image_id"].nunique()
    errors = finished.summary.query("whole_set").set_index(["method", "metric"])["standard_error"]
    deviation = np.std(table["replicates"]["grad_cam", "pxap"], ddof=1)
    assert errors["grad_cam", "pxap"] == deviation > 0
    assert list(whole_set_problems(finished)) == []


OWN = """
import torch
from axiom_bench.explanation.explanation import Curve


def silent(trace, classes):
    keep = [int(target) not in classes for target in trace.targets]
    keep = torch.tensor(keep, device=trace.scores.device)
    return torch.ones_like(trace.activations) * keep[:, None, None, None]


def spread(explanation):
    map_mean = explanation.heatmap.mean((1, 2))
    return {"spread": map_mean, "spread_curve": Curve(map_mean[:, None])}


def over_images(curves):
    return {"spread": float(curves["spread_curve"].mean())}
"""
OWN_METRIC = (
    "metric=[zeta]",
    "+metric.spread._target_=own_maps.spread",
    "+metric.spread.aggregate=own_maps.over_images",
    "+metric.spread.needs=[nonzero_map]",
    "+metric.spread.curves=[spread_curve]",
    "+metric.spread.of=method",
)


def silent_method(name: str, classes: list[int]) -> tuple[str, str]:
    """Return the settings of a method without maps for these classes."""
    return f"+method.{name}._target_=own_maps.silent", f"+method.{name}.params.classes={classes}"


@pytest.mark.slow
def test_values_on_the_rows_that_all_compared_methods_have(run, folder, tmp_path, monkeypatch):
    """Check a method without a few rows, one without most rows, and one without any row.

    The latter two aren't compared with the others.
    """
    write_module(tmp_path, "own_maps", OWN, monkeypatch)
    images = ("data.size=24", "target=each_label")
    (outcome,) = run(["metric=[zeta]", "method=[uniform]", *images])
    records = read(folder, outcome).records.frame()
    classes = records["target_class"].value_counts()
    rarest = int(classes.index[-1])
    total = int(classes.sum())
    assert 0 < 10 * classes[rarest] <= total

    settings = [
        *OWN_METRIC,
        "method=[uniform]",
        *images,
        *silent_method("few", [rarest]),
        *silent_method("most", list(range(9))),
        *silent_method("all", list(range(10))),
    ]
    (outcome,) = run(settings)

    assert outcome.failure is None
    finished = read(folder, outcome)
    few = total - classes[rarest]
    table = finished.whole_set.set_index("method")
    assert table["rows"].to_dict() == {"uniform": total, "few": few, "most": classes[9], "all": 0}
    assert table["common_rows"].to_dict() == {"uniform": few, "few": few, "most": 0, "all": 0}
    assert table["images"]["uniform"] == 24
    single = finished.records.frame(["spread"]).query("image_id != '*'")
    common = single[(single["method"] == "uniform") & (single["target_class"] != rarest)]
    values = table["common_value"]
    assert values["uniform"] == pytest.approx(common["value"].mean(), rel=1e-12)
    num_common = common["image_id"].nunique()
    assert table["common_images"]["uniform"] == table["common_images"]["few"] == num_common
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
    """Check tables that combining the records of two runs could produce."""
    (outcome,) = run(["metric=[pxap]", "data.size=6"])
    finished = read(folder, outcome)
    table = finished.whole_set
    more_images = table.assign(images=table["images"] + 1)
    other_common_images = table.assign(common_images=range(1, 1 + len(table)))
    doubled = pd.concat([table, table])
    for changed in (more_images, other_common_images, doubled):
        (sentence,) = whole_set_problems(replace(finished, whole_set=changed))
        assert sentence.startswith("PxAP: ")
        assert "run the same command again" in sentence


@pytest.mark.slow
def test_a_repeated_run_and_other_shards_give_the_same(run, copied_run, folder):
    def whole_set_values(outcome: JobResult) -> pd.Series:
        table = read(folder, outcome).records.frame()
        return table[table["image_id"] == "*"].set_index(["method", "metric"])["value"]

    (first,) = copied_run(CHOSEN)
    (repeated,) = run(CHOSEN)
    assert repeated.values == first.values
    assert repeated.files == first.files
    assert repeated.computed.shards == 0

    (other_shards,) = run([*CHOSEN, "shard_size=3"])
    np.testing.assert_array_equal(whole_set_values(first), whole_set_values(other_shards))


@pytest.mark.slow
def test_metrics_without_curves_have_no_side_file(run, folder):
    (outcome,) = run(["metric=[box_iou]", "data.size=2"])
    assert outcome.files["curves"] == ()
    assert not (folder / "curves").exists()


@pytest.mark.slow
def test_it_is_no_bad_image_and_counts_the_images_it_is_of(copied_run, folder, unreported):
    (outcome,) = copied_run(CHOSEN)
    finished = read(folder, outcome)
    _, lines = finish.finish(outcome.settings, [outcome])
    assert not any("left out" in line for line in lines)

    summary = summarise(finished.records, image_value_of=finished.image_value_of)
    for names in (
        ["pxap", "pixel_ap_own_image"],
        ["max_box_acc", "max_box_acc_threshold", "box_acc_own_threshold"],
    ):
        named_rows = summary[summary["metric"].isin(names)]
        for _, rows in named_rows.groupby("method"):
            assert len(rows) == len(names)
            assert rows["n"].nunique() == 1
            assert rows["images"].nunique() == 1
            assert rows["statuses"].nunique() == 1
            assert rows["n"].iloc[0] > 2
    first = leading_rows(summary)
    assert first[first["metric"] == "pxap"]["whole_set"].all()
    assert not first[first["metric"] == "box_iou"]["whole_set"].any()


@pytest.mark.slow
def test_the_gate_holds_it_to_its_tolerance(finished, tmp_path):
    baseline = write_baseline(finished.path, tmp_path / "baseline.csv")
    assert gate(finished.path, baseline).exit_code == 0
    assert "max_box_acc (whole set)" in baseline.read_text()

    lines = []
    for line in baseline.read_text().splitlines(keepends=True):
        lines.append(line.replace(",0.", ",0.9") if "pxap (whole set)" in line else line)
    baseline.write_text("".join(lines))
    assert gate(finished.path, baseline).exit_code == 1


@pytest.mark.slow
def test_values_are_named_by_the_parameters(run, folder):
    settings = [
        "metric=[max_box_acc_v2]",
        "metric.max_box_acc_v2.params.ious=[0.5,0.75]",
        "data.size=4",
    ]
    (outcome,) = run(settings)
    assert outcome.failure is None
    rows = read(folder, outcome).records.frame()
    names = {"max_box_acc_v2", "max_box_acc_v2_50", "max_box_acc_v2_75"}
    assert set(rows.loc[rows["image_id"] == "*", "metric"]) == names
    own = {name.replace("max_box_acc_v2", "box_acc_v2_own_threshold") for name in names}
    assert set(rows.loc[rows["image_id"] != "*", "metric"]) == own
    assert outcome.facts.metrics["max_box_acc_v2_75"].title == "MaxBoxAccV2, IoU 0.75"
    assert list(outcome.facts.metrics)[:3] == sorted(names)  # they lead
    # No value of a single image is printed in bold.
    assert {outcome.facts.metrics[name].better for name in own} == {"none"}


IMAGES = 200
THRESHOLDS = 100


def curves_of(share: float, rows_per_image: int = 1) -> pd.DataFrame:
    """Return curves of IMAGES images.

    For the given share of the images the IoU is above 0.5 at every threshold. It is 0 for the
    others.
    """
    ids = np.repeat([f"image_{number:04d}" for number in range(IMAGES)], rows_per_image)
    hits = np.repeat(np.arange(IMAGES) < round(share * IMAGES), rows_per_image)
    points = list(np.where(hits, 0.8, 0.0)[:, None].repeat(THRESHOLDS, 1))
    columns = {
        "image_id": ids,
        "points": points,
        "target_class": 0,
        "method": "grad_cam",
        "curve": "max_box_acc_iou",
        "status": "ok",
    }
    return pd.DataFrame(columns)


def mean_without_counts(curves):
    """Return the share of hits; this aggregate of a user takes no `counts`."""
    return {"mine": float((curves["max_box_acc_iou"] >= 0.5).mean())}


def resampled(
    metric: Plugin,
    curves: pd.DataFrame,
    images: list[str] | None = None,
) -> dict[str, list[float]]:
    row_images = image_ids(metric, curves)
    images = images or sorted(set(row_images))
    return replicates(partial(resampled_values, metric, curves), images, row_images)


MAX_BOX_ACC = metrics.get("max_box_acc")


def test_of_a_share_of_the_images_the_deviation_is_the_binomials():
    values = resampled(MAX_BOX_ACC, curves_of(0.3))
    expected = np.sqrt(0.3 * 0.7 / IMAGES)
    deviation = np.std(values["max_box_acc"], ddof=1)
    # 4 standard errors of an estimated deviation
    assert deviation == pytest.approx(expected, rel=4 / np.sqrt(2 * RESAMPLES))
    # All thresholds are equally good, so that every resample has the first.
    assert set(values["max_box_acc_threshold"]) == {0.0}


def test_all_rows_of_an_image_are_drawn_together_in_any_order():
    curves = curves_of(0.3)
    once = resampled(MAX_BOX_ACC, curves)
    thrice = resampled(MAX_BOX_ACC, curves_of(0.3, rows_per_image=3))
    np.testing.assert_allclose(thrice["max_box_acc"], once["max_box_acc"], rtol=1e-12)
    assert resampled(MAX_BOX_ACC, curves.sample(frac=1, random_state=0)) == once

    aggregate = f"{__name__}.mean_without_counts"
    spec = MetricSpec(curves=("max_box_acc_iou",), aggregate=aggregate)
    values = resampled(Plugin("mine", "", print, spec), curves)["mine"]
    np.testing.assert_allclose(values, once["max_box_acc"], rtol=1e-12)

    # One image or none can't be resampled.
    for too_few in (curves[:1], curves[:0], curves.assign(status="zero_map")):
        assert resampled(MAX_BOX_ACC, too_few) == {}


def test_draws_are_seeded_by_the_image_ids():
    ids = [str(number) for number in range(30)]
    np.testing.assert_array_equal(draws(ids), draws(ids))
    assert (draws(ids) != draws([f"other {name}" for name in ids])).any()
    np.testing.assert_array_equal(draws(ids).sum(1), np.full(RESAMPLES, 30))


def test_a_method_without_some_images_is_seen_on_the_same_resamples():
    """Check the share of hits in each resample, among the drawn images that the method has."""
    curves = curves_of(0.3)
    images = sorted(set(curves["image_id"]))
    part = curves[curves.index % 4 != 1]
    values = resampled(MAX_BOX_ACC, part, images)["max_box_acc"]
    columns = np.flatnonzero(np.isin(images, part["image_id"]))
    counts = draws(images)[:, columns]
    hits = columns < round(0.3 * IMAGES)
    np.testing.assert_allclose(values, (counts @ hits) / counts.sum(1), rtol=1e-12)


def test_curves_of_other_rows_are_refused():
    above = curves_of(0.3).assign(curve="pxap_above")
    hit = curves_of(0.3).assign(curve="pxap_hit")
    with pytest.raises(BenchError, match="has curves of different images"):
        image_ids(metrics.get("pxap"), pd.concat([above, hit[1:]]))
