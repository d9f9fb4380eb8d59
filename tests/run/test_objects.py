"""Tests of runs of networks that find objects.

Each object is a row, and the values are those of Python.
"""

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

from .conftest import RUN, failure

pytestmark = pytest.mark.slow  # whole runs

DETECTOR = (
    "model=scenes_detector",
    "model.weights=default",
    "data=scenes_repeated",
    "data.size=3",
)
METHODS = ["grad_cam", "xgrad_cam", "hires_cam", "random"]
WORDS = (
    *DETECTOR,
    f"method=[{','.join(METHODS)}]",
    "metric.deletion_auc_fast.params.output=logit",
    "metric=[sensitivity_error,conservation_error,energy_pointing_game,"
    "deletion_auc_fast,object_effects]",
)
ROW = ["image_id", "target_class", "method", "metric"]


def scenes(size=3):
    """Return the images (n, 3, 96, 96) in the network's normalisation, and the data set."""
    data = load_dataset({"kind": "scenes", "objects": "repeated", "size": size})
    pixels = np.stack([np.asarray(data.read(index).image) for index in range(size)])
    mean = torch.tensor(networks.MEAN).view(3, 1, 1)
    std = torch.tensor(networks.STD).view(3, 1, 1)
    return (torch.from_numpy(pixels).movedim(3, 1) / 255 - mean) / std, data


def objects_of(results):
    """Return the objects that the run in this folder of results has found."""
    paths = sorted((results / RUN / "objects").glob("*"))
    return pd.concat(map(pd.read_parquet, paths))


def iou(box, other):
    intersection = torch.minimum(box[2:], other[2:]) - torch.maximum(box[:2], other[:2])
    width, height = intersection.clamp(min=0)
    box_area = (box[2] - box[0]) * (box[3] - box[1])
    other_area = (other[2] - other[0]) * (other[3] - other[1])
    return float(width * height / (box_area + other_area - width * height))


def matched_boxes(network, images, data):
    """Return a batch with a row for each found box whose IoU with an annotation is at least 0.5."""
    matched_images = []
    places = []
    ids = []
    targets = []
    annotations = []
    for index, detections in enumerate(network.found(images, 0.3)):
        objects = data.read(index).objects
        labels = torch.tensor([label for label, _ in objects])
        boxes = torch.stack([torch.tensor(box) for _, box in objects])
        for detection in detections:
            ious = []
            for label, box in zip(labels, boxes, strict=True):
                ious.append(iou(detection.box, box) if label == detection.label else 0)
            if max(ious) < 0.5:
                continue
            best = int(np.argmax(ious))
            matched_images.append(images[index])
            places.append(detection.place)
            ids.append(f"{data.ids[index]}//{best:03d}")
            targets.append(detection.label)
            annotations.append(ab.Annotation(labels, boxes.float(), explained=best))
    inputs = torch.stack(matched_images), torch.stack(places)
    return ab.Batch(inputs, tuple(ids), torch.tensor(targets), tuple(annotations))


def test_each_matched_box_has_the_values_of_python(run, rows, results):
    records = rows(run(WORDS))
    images, data = scenes()
    network = ab.BoxScores(networks.load("scenes_detector"))
    batch = matched_boxes(network, images, data)
    metrics = ["sensitivity_error", "conservation_error", "energy_pointing_game"]

    python_values = ab.evaluate(network, "features.13", [batch], METHODS, metrics)

    values = records[records["metric"].isin(metrics)].set_index(ROW)["value"]
    assert len(values) == len(batch.image_ids) * len(METHODS) * len(metrics)
    expected = python_values.set_index(ROW)["value"].reindex(values.index)
    # The run's batches have other sizes, which changes the rounding.
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    objects = objects_of(results)
    matched = objects[objects["annotation"] >= 0]
    ids = {f"{row.image_id}//{row.annotation:03d}" for row in matched.itertuples()}
    assert set(batch.image_ids) == ids


@pytest.mark.parametrize("target", ["matched", "detections"])
def test_a_join_by_number_takes_the_box_of_the_row(target, run, rows, results):
    settings = [*DETECTOR, f"target={target}", "method=[grad_cam]", "metric=[sensitivity_error]"]
    outcomes = run(settings)
    records = rows(outcomes)
    objects = objects_of(results)
    _, data = scenes()
    ids = [f"{row.image_id}//{row.number:03d}" for row in objects.itertuples()]
    objects_with_ids = objects.assign(row=ids)

    joined = records.merge(
        objects_with_ids, left_on="image_id", right_on="row", validate="one_to_one"
    )

    assert len(joined) == len(records) > 5
    assert joined["target_class"].tolist() == joined["label"].tolist()
    if target == "matched":
        for _, row in joined.iterrows():
            box = torch.tensor(row[["x0", "y0", "x1", "y1"]].tolist())
            image = data.read(data.ids.index(row["image_id_y"]))
            label, annotated_box = image.objects[row["number"]]
            assert label == row["label"]
            # float32
            assert iou(box, torch.tensor(annotated_box)) == pytest.approx(row["iou"], abs=1e-5)
    numbered = objects[objects["number"] >= 0] if target == "matched" else objects
    assert len(numbered) == len(joined)
    by_image = objects.sort_values(["image_id", "detection"]).groupby("image_id")
    for _, probabilities in by_image["probability"]:
        assert probabilities.is_monotonic_decreasing


def test_detections_have_boxes_of_their_own_and_a_run_goes_on(run, rows, results):
    words = (*WORDS, "target=detections", "data.size=2")
    (outcome,) = run(words)
    records = rows([outcome])
    objects = objects_of(results)
    ids = {f"{row.image_id}//{row.number:03d}" for row in objects.itertuples()}
    assert set(records["image_id"]) == ids
    assert set(outcome.facts.data["scenes_repeated"].ids) == ids
    assert f"{len(ids)} objects are found, with a probability of at least 0.3" in outcome.lines
    assert (records["status"] == "ok").mean() > 0.8

    (repeated,) = run(words)
    assert repeated.computed.shards == 0

    more_methods = f"method=[{','.join([*METHODS, 'layer_cam'])}]"
    later_records = rows(run([*words, more_methods]))
    before = records.set_index(ROW)["value"]
    after = later_records.set_index(ROW)["value"].reindex(before.index)
    pd.testing.assert_series_equal(after, before, check_exact=True)


def test_a_fresh_process_gives_the_same_bits(run, rows):
    outcomes = run([*WORDS, "data.size=2", "method=[xgrad_cam]"])
    both = rows(outcomes).merge(recomputed(outcomes[0].settings, 0), on=ROW)
    assert len(both) > 10
    assert np.array_equal(both["value_x"], both["value_y"], equal_nan=True)


def test_planted_boxes_tell_what_the_axioms_do_not(run, rows):
    """Check that XGrad-CAM meets both axioms, but spreads a channel over both boxes."""
    settings = [
        "model=planted_boxes",
        "data=planted",
        "target=detections",
        "data.size=2",
        "method=[xgrad_cam,hires_cam]",
        "metric=[sensitivity_error,truth_channel_error,truth_mass_outside]",
    ]
    outcomes = run(settings)
    records = rows(outcomes)
    means = records[records["status"] == "ok"].pivot_table("value", "method", "metric")
    errors = means.loc["xgrad_cam", ["sensitivity_error", "truth_channel_error"]]
    assert errors.max() < 1e-5  # float32
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
    assert sentence in failure(run([*WORDS, *words]))


def test_images_that_cannot_be_read_are_told(run, tmp_path):
    _, data = scenes(2)
    for name, index in (("0/a.png", 0), ("1/b.png", 1)):
        (tmp_path / name).parent.mkdir()
        data.read(index).image.save(tmp_path / name)
    (tmp_path / "1/torn.png").write_bytes((tmp_path / "1/b.png").read_bytes()[:300])
    settings = [
        "model=scenes_detector",
        "model.weights=default",
        "data=folder",
        f"data.root={tmp_path}",
        "data.size=null",
        "data.classes=null",
        "data.workers=0",
        "target=detections",
        "method=[grad_cam]",
        "metric=[sensitivity_error]",
        "model.resize=null",
    ]
    (outcome,) = run(settings)
    assert "1 of 3 images can't be read, and has no row" in outcome.lines


def test_a_picture_is_explained_by_its_most_probable_objects(tmp_path):
    _, data = scenes(1)
    data.read(0).image.save(tmp_path / "scene.png")
    config = configuration(["model=scenes_detector"])
    options = Namespace(top=2, targets=None, words=None)
    (image,), _, _, problems = explain(options, ["xgrad_cam"], config, [tmp_path / "scene.png"])
    assert not problems
    maps = image.maps
    assert [score.box for score in maps.scores] == [score.box for score in maps.top[0][:2]]
    first, second = maps["xgrad_cam"]
    assert (first - second).abs().max() > 0.5
