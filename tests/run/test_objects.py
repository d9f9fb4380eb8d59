"""Runs of networks that find objects: a row each, with the values of Python."""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
import torch

import axiom_bench as ab
from axiom_bench.cli.explain_images import explain
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import networks
from axiom_bench.run.spine import configuration
from axiom_bench.run.verification import recomputed

from .conftest import failure

pytestmark = pytest.mark.slow  # whole runs

WORDS = (
    *("model=scenes_detector", "model.weights=default", "data=scenes_repeated", "data.size=3"),
    *(
        "method=[grad_cam,xgrad_cam,hires_cam,random]",
        "metric.deletion_auc_fast.params.output=logit",
    ),
    "metric=[sensitivity_error,conservation_error,energy_pointing_game,deletion_auc_fast,object_effects]",
)
ROW = ["image_id", "target_class", "method", "metric"]


def scenes(size=3):
    """(images (n, 3, 96, 96) as the network takes them, the data set)."""
    data = load_dataset({"kind": "scenes", "objects": "repeated", "size": size})
    pixels = np.stack([np.asarray(data.read(index).image) for index in range(size)])
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (networks.MEAN, networks.STD))
    return (torch.from_numpy(pixels).movedim(3, 1) / 255 - mean) / std, data


def objects_of(results):
    """What the run in this folder of results has found."""
    return pd.concat(map(pd.read_parquet, sorted((results / "quick/default/objects").glob("*"))))


def test_each_matched_box_has_the_values_of_python(run, rows, results):
    records = rows(run(*WORDS))
    images, data = scenes()
    network = ab.BoxScores(networks.load("scenes_detector"))
    explained, places, batches, ids = [], [], [], []
    for index, found in enumerate(network.found(images, 0.3)):
        annotated = data.read(index).objects
        for each in found:
            boxes = [torch.tensor(box) for label, box in annotated]
            ious = [
                iou(each.box, box) if label == each.label else 0
                for (label, _), box in zip(annotated, boxes)  # noqa: B905
            ]
            if max(ious) >= 0.5:
                best = int(np.argmax(ious))
                explained.append((images[index], each.label))
                places.append(each.place)
                labels, stacked = (
                    torch.tensor([label for label, _ in annotated]),
                    torch.stack(boxes).float(),
                )
                batches.append(ab.Annotation(labels, stacked, explained=best))
                ids.append(f"{data.ids[index]}//{best:03d}")
    inputs = torch.stack([image for image, _ in explained]), torch.stack(places)
    batch = ab.Batch(
        inputs, tuple(ids), torch.tensor([label for _, label in explained]), tuple(batches)
    )
    names = "sensitivity_error", "conservation_error", "energy_pointing_game"
    expected = ab.evaluate(
        network, "features.13", [batch], ["grad_cam", "xgrad_cam", "hires_cam", "random"], names
    )
    values = records[records["metric"].isin(names)].set_index(ROW)["value"]
    assert len(values) == len(explained) * 12
    expected = expected.set_index(ROW)["value"].reindex(values.index)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)  # in batches of other sizes
    objects = objects_of(results)
    assert set(ids) == {
        f"{row.image_id}//{row.annotation:03d}"
        for row in objects.itertuples()
        if row.annotation >= 0
    }


@pytest.mark.parametrize("target", ["matched", "detections"])
def test_a_join_by_number_takes_the_box_of_the_row(target, run, rows, results):
    records = rows(
        run(*WORDS[:4], f"target={target}", "method=[grad_cam]", "metric=[sensitivity_error]")
    )
    objects = objects_of(results)
    _, data = scenes()
    ids = [f"{row.image_id}//{row.number:03d}" for row in objects.itertuples()]
    joined = records.merge(
        objects.assign(row=ids), left_on="image_id", right_on="row", validate="one_to_one"
    )
    assert len(joined) == len(records) > 5
    assert joined["target_class"].tolist() == joined["label"].tolist()
    for _, row in joined.iterrows():
        box = torch.tensor(row[["x0", "y0", "x1", "y1"]].tolist())
        if target == "matched":
            label, annotated = data.read(data.ids.index(row["image_id_y"])).objects[row["number"]]
            assert label == row["label"]
            # float32
            assert iou(box, torch.tensor(annotated)) == pytest.approx(row["iou"], abs=1e-5)
    found = objects[objects["number"] >= 0] if target == "matched" else objects
    assert len(found) == len(joined)
    ordered = objects.sort_values(["image_id", "detection"]).groupby("image_id")["probability"]
    assert all(of_image.is_monotonic_decreasing for _, of_image in ordered)


def iou(box, other):
    width, height = (torch.minimum(box[2:], other[2:]) - torch.maximum(box[:2], other[:2])).clamp(
        min=0
    )
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def test_detections_have_boxes_of_their_own_and_a_run_goes_on(run, rows, results):
    words = (*WORDS, "target=detections", "data.size=2")
    outcomes = run(*words)
    records, objects = rows(outcomes), objects_of(results)
    ids = {f"{row.image_id}//{row.number:03d}" for row in objects.itertuples()}
    assert set(records["image_id"]) == ids
    assert set(outcomes[0].facts.data["scenes_repeated"].ids) == ids
    assert f"{len(ids)} objects are found, with a probability of at least 0.3" in outcomes[0].lines
    assert (records["status"] == "ok").mean() > 0.8
    (again,) = run(*words)
    assert again.computed.shards == 0
    more = rows(run(*words, "method=[grad_cam,xgrad_cam,hires_cam,random,layer_cam]")).set_index(
        ROW
    )["value"]
    before = records.set_index(ROW)["value"]
    pd.testing.assert_series_equal(more.reindex(before.index), before, check_exact=True)


def test_a_fresh_process_gives_the_same_bits(run, rows):
    outcomes = run(*WORDS, "data.size=2", "method=[xgrad_cam]")
    both = rows(outcomes).merge(recomputed(outcomes[0].settings, 0), on=ROW)
    assert len(both) > 10
    assert np.array_equal(both["value_x"], both["value_y"], equal_nan=True)


def test_planted_boxes_tell_what_the_axioms_do_not(run, rows):
    """XGrad-CAM meets both, and spreads a channel over both boxes."""
    words = ("model=planted_boxes", "data=planted", "target=detections", "data.size=2")
    words += (
        "method=[xgrad_cam,hires_cam]",
        "metric=[sensitivity_error,truth_channel_error,truth_mass_outside]",
    )
    records = rows(run(*words))
    means = records[records["status"] == "ok"].pivot_table("value", "method", "metric")
    # float32
    assert means.loc["xgrad_cam", ["sensitivity_error", "truth_channel_error"]].max() < 1e-5
    assert means.loc["hires_cam"].max() < 1e-5
    assert means.loc["xgrad_cam", "truth_mass_outside"] > 0.1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=scenes_vgg", "target=matched"], "target=matched is of networks that find objects"),
        (
            ["model=scenes_vgg", "model.output=boxes"],
            "not boxes (B, N, 4) and logits (B, N, C) before suppression",
        ),
        (["model.min_probability=1"], "lower model.min_probability"),
        (["target=objects"], "detections"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, sentence, run):
    assert sentence in failure(run(*WORDS, *words))


def test_images_that_cannot_be_read_are_told(run, tmp_path):
    _, data = scenes(2)
    for name, index in (("0/a.png", 0), ("1/b.png", 1)):
        (tmp_path / name).parent.mkdir()
        data.read(index).image.save(tmp_path / name)
    (tmp_path / "1/torn.png").write_bytes((tmp_path / "1/b.png").read_bytes()[:300])
    words = (
        "data=folder",
        f"data.root={tmp_path}",
        "data.size=null",
        "data.classes=null",
        "data.workers=0",
    )
    words += (
        "target=detections",
        "method=[grad_cam]",
        "metric=[sensitivity_error]",
        "model.resize=null",
    )
    (outcome,) = run(*(word for word in WORDS if not word.startswith(("data", "metric"))), *words)
    assert "1 of 3 images can't be read, and have no row" in outcome.lines


def test_a_picture_is_explained_by_its_most_probable_objects(tmp_path):
    _, data = scenes(1)
    data.read(0).image.save(tmp_path / "scene.png")
    config = configuration(["model=scenes_detector"])
    options = Namespace(top=2, targets=None)
    (image,), _, _, problems = explain(options, ["xgrad_cam"], config, [tmp_path / "scene.png"])
    assert not problems
    maps = image.maps
    assert [score.box for score in maps.scores] == [score.box for score in maps.top[0][:2]]
    first, second = maps["xgrad_cam"]
    assert (first - second).abs().max() > 0.5
