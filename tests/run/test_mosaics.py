"""Tests of the images that a run explains.

They are mosaics of images that the model names with confidence, or the images that
data.only_correct and data.only_classes choose.
"""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.cli.finish import finish
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.run import choosing
from axiom_bench.run.job import Job
from axiom_bench.run.result import JobResult
from axiom_bench.run.spine import configuration

from .conftest import RUN, failure, rows_of, write_images

pytestmark = pytest.mark.slow  # whole runs

MOSAIC_SETTINGS = (
    "data.size=3",
    "data.confidence=0.9",  # scenes_resnet gives no class 0.99
    "data.workers=0",
    "model.weights=default",
    "method=[grad_cam,uniform]",
    "metric=[grid_pointing_game,focus,energy_pointing_game,pointing_game_strict,box_iou,mask_iou]",
)
MOSAIC = ("data=mosaic", "data.of.size=60", *MOSAIC_SETTINGS)
LIGHT = ("method=[grad_cam]", "metric=[grid_pointing_game]")  # for tests of the choice of images
CORRECT = ("data.size=12", "data.only_correct=true", "shard_size=5", "target=label")


def values(records: pd.DataFrame, metric: str, method: str = "grad_cam") -> pd.Series:
    chosen = records[(records["metric"] == metric) & (records["method"] == method)]
    assert (chosen["status"] == "ok").all()
    return chosen.set_index(["image_id", "target_class"])["value"]


@pytest.fixture
def outcomes(copied_run) -> list[JobResult]:
    """The outcomes of MOSAIC, with a copy of its files in `results`."""
    return copied_run(MOSAIC)


def finished(outcomes: list[JobResult], results: Path) -> tuple[dict, list[str]]:
    """Finish the run and return its manifest and the printed lines."""
    _, lines = finish(outcomes[0].settings, outcomes)
    return json.loads((results / RUN / "manifest.json").read_text()), lines


def test_grid_pg_on_scenes(outcomes, rows, results, undrawn):
    assert outcomes[0].failure is None
    records = rows(outcomes)
    located = values(records, "grid_pointing_game")
    assert len(located) == 3 * 4
    # A map that doesn't depend on the class has 1/4. More mosaics had 0.8.
    assert located.mean() > 0.5
    pd.testing.assert_series_equal(located, values(records, "energy_pointing_game"))
    by_mosaic = values(records, "grid_pointing_game", "uniform").groupby("image_id").mean()
    assert by_mosaic.to_numpy() == pytest.approx(0.25, rel=1e-9)
    assert records["status"].eq("ok").all()

    written, lines = finished(outcomes, results)
    (model,) = written["models"].values()
    images = model["images"]["mosaic_scenes"]
    assert images["chosen"] == 3
    assert images["kept"] == 3
    assert images["others"] is None
    choice = images["mosaics"]
    assert choice["of"] == "scenes"
    assert choice["images"] == 60
    assert choice["mosaics"] == 3
    assert choice["in_mosaics"] == 12
    assert 60 > choice["of_one_class"] >= choice["confident"] >= 12
    assert any(f"{choice['confident']} of 60 images of 'scenes'" in line for line in lines)
    assert written["data"]["mosaic_scenes"]["ids"] == sorted(set(records["image_id"]))


def test_focus_on_scenes(run, rows, results):
    settings = ["data=mosaic_focus", "data.of.size=80", *MOSAIC_SETTINGS, "data.confidence=null"]
    outcomes = run(settings)
    located = values(rows(outcomes), "focus")
    assert len(located) == 3
    assert located.mean() > 0.6
    # Without data.confidence the network needn't predict which images to use.
    assert not list((results / RUN).glob("predictions/*"))
    data = Job.of(outcomes[0].settings).data
    assert isinstance(data, MosaicImages)
    assert data.target_cells == 2


def test_only_images_that_the_model_names_with_confidence(run, results):
    (outcome,) = run([*MOSAIC, *LIGHT, "data.size=null", "data.confidence=0.97"])

    predictions = {}
    for path in (results / RUN / "predictions").glob("*.json"):
        predictions |= json.loads(path.read_text())["predictions"]
    label_by_image = {}
    data = Job.of(outcome.settings).data
    for index, image in enumerate(data.ids):
        labels = data.labels(index)
        if len(labels) == 1:
            label_by_image[image] = labels[0]
    assert set(predictions) == set(label_by_image)

    confident = set()
    for image, (label, probability) in predictions.items():
        if label == label_by_image[image] and probability >= 0.97:
            confident.add(image)
    used_images = set()
    for mosaic in outcome.facts.data["mosaic_scenes"].ids:
        used_images |= set(mosaic[6:].split(" | "))
    assert used_images <= confident
    facts = outcome.facts.models["scenes_vgg"].images["mosaic_scenes"]
    assert facts.mosaics["confident"] == len(confident)


def test_values_do_not_depend_on_batches_shards_or_workers_and_a_second_run_computes_nothing(
    run, rows, outcomes, monkeypatch
):
    first = values(rows(outcomes), "grid_pointing_game")
    other = rows(run([*MOSAIC, *LIGHT, "data.batch_size=3", "data.workers=2", "shard_size=3"]))
    pd.testing.assert_series_equal(first, values(other, "grid_pointing_game"), rtol=1e-5)

    monkeypatch.setattr(choosing, "_predict_shard", None)  # a call would raise
    (second,) = run(MOSAIC)
    assert outcomes[0].computed.shards == 2
    assert second.computed.shards == 0
    for setting, num_shards in (
        ("data.seed=1", 2),
        ("data.cell=fit", 2),
        ("data.size=2", 0),  # two of the three mosaics
    ):
        (outcome,) = run([*MOSAIC, *LIGHT, setting])
        assert outcome.failure is None
        assert outcome.computed.shards == num_shards


def test_each_model_has_mosaics_of_its_own(run, results, undrawn):
    outcomes = run([*MOSAIC, *LIGHT, "model=scenes_vgg,scenes_resnet", "data.size=null"])
    written, _ = finished(outcomes, results)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    ids = [outcome.facts.data["mosaic_scenes"].ids for outcome in outcomes]
    assert ids[0] != ids[1]
    assert set(written["data"]["mosaic_scenes"]["ids"]) == {*ids[0], *ids[1]}


def test_mosaics_of_which_the_model_predicts_a_class(run):
    (outcome,) = run([*MOSAIC, *LIGHT, "data.only_correct=true"])
    assert outcome.failure is None
    facts = outcome.facts.models["scenes_vgg"].images["mosaic_scenes"]
    assert facts.chosen == 3
    assert facts.kept == outcome.images
    assert facts.mosaics["mosaics"] == 3


SENTENCES = {
    "model.weights=null": r"of 'scenes'|can't be made: 0 images of 0 classes make 0; "
    r"lower data\.confidence",
    "data.size=40": r"scenes_vgg.*data\.size=40 mosaics .* set data\.size to at most \d+, or null",
    "model.output=multi_label": r"no probabilities.*data\.confidence=null",
    "data.cell=half": "size of a mosaic's cells",
    "data.of.only_classes=[dog]": "class of 'scenes'",
}


@pytest.mark.parametrize("override", SENTENCES)
def test_sentences_of_a_job(run, override):
    message = failure(run([*MOSAIC, override]))
    assert re.search(SENTENCES[override], message), message


def test_data_of_chooses_a_data_set_with_its_settings():
    data = configuration(["data=mosaic", "data.of=voc", "data.of.size=7"])["data"]
    assert data["name"] == "mosaic_voc"
    assert data["of"]["kind"] == "voc"
    assert data["of"]["size"] == 7
    assert data["target"] == configuration(["data=mosaic"])["target"] == "each_label"
    assert configuration(["data=mosaic_focus", "data.of=folder"])["data"]["name"] == "focus_folder"


FIXED = """
from collections import OrderedDict
from torch import nn

class View(nn.Module):
    def forward(self, maps):
        return maps.{view}

def build():
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(3, 4, 3, stride=8, padding=1),
        relu=nn.ReLU(),
        view=View(),
        fc=nn.Linear(4 * 12 * 12, 10),
    )).eval()
"""


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ("flatten(1)", "mat1 and mat2 shapes cannot be multiplied"),
        ("reshape(-1, 4 * 12 * 12)", "shape"),
    ],
)
def test_a_network_of_one_input_size_takes_mosaics_that_fit(run, tmp_path, view, reason):
    """Check two networks whose last layer fits only one size of maps.

    torch refuses a flattened map of another size. A reshaped map has more rows than images.
    """
    (tmp_path / "net.py").write_text(FIXED.format(view=view))
    settings = (
        *MOSAIC,
        "model=user",
        f"model.architecture={tmp_path / 'net.py'}:build",
        "model.weights=null",
        "model.crop=96",
        "model.layer=relu",
        "data.confidence=null",
        *LIGHT,
    )
    message = failure(run(settings))
    assert "can't take mosaics of 192 x 192 pixels" in message
    assert reason in message
    assert message.endswith("; set data.cell=fit.")
    (outcome,) = run([*settings, "data.cell=fit"])
    assert outcome.failure is None


@pytest.mark.real
def test_photographs(run, rows, real_root):
    """Check SqueezeNet on two mosaics of 24 photographs.

    The cells have 224 x 224 pixels, and Grad-CAM is better than the constant map.
    """
    settings = [
        "data=mosaic",
        "data.of=imagenet",
        "data.of.size=24",
        f"real_root={real_root}",
        "data.size=2",
        "data.confidence=0.3",
        "data.workers=0",
        "model=squeezenet1_1",
        "model.weights=default",
        f"model.weights_folder={real_root / 'weights'}",
        *LIGHT,
    ]
    (outcome,) = run(settings)
    assert outcome.failure is None
    located = values(rows([outcome]), "grid_pointing_game")
    assert len(located) == 2 * 4
    assert located.mean() > 0.3  # 48 rows of images with a confidence of 0.99 had 0.55
    assert {image.count(".JPEG") for image, _ in located.index} == {4}


def test_only_images_that_the_model_names_correctly(run, copied_run, rows, results, undrawn):
    """Check that the others are counted on the screen, in the manifest and in the report.

    Without the filter no text mentions it.
    """
    folder = results / RUN
    (outcome,) = copied_run(CORRECT)
    left_out = outcome.left_out
    kept = rows([outcome])
    count = 12 - len(left_out)
    written, lines = finished([outcome], results)
    assert any(f"{len(left_out)} of 12 images are left out" in line for line in lines)
    assert written["jobs"][0]["left_out"] == list(left_out)
    assert len(written["data"]["scenes"]["ids"]) == 12
    images = {"chosen": 12, "kept": count, "others": choosing.OTHERS}
    assert list(written["models"]) == ["scenes_vgg"]
    assert written["models"]["scenes_vgg"]["images"] == {"scenes": images}

    report.write(folder)
    sentence = f"data.only_correct: scenes_vgg {count} of 12."
    assert sentence in (folder / "tables/overview.md").read_text()
    page = (folder / "report.html").read_text()
    assert sentence in page
    assert f'<td class="page-number">{count} of 12</td>' in page
    assert re.search(r">\d+ of 12 \(\d+ %\)<", page)  # correct predictions for all chosen images

    (unfiltered,) = run(["data.size=12", "target=label"])
    table = rows([unfiltered])
    zeta_rows = table[table["metric"] == "zeta"].set_index("image_id")
    predictions = zeta_rows["predicted_class"].to_dict()
    data = Job.of(outcome.settings).data
    correct = {
        name for index, name in enumerate(data.ids) if predictions[name] in data.labels(index)
    }
    assert set(kept["image_id"]) == correct
    assert set(left_out) == set(predictions) - correct
    assert 0 < outcome.images == len(correct) == count < 12

    written, _ = finished([unfiltered], results)
    images = {"chosen": 12, "kept": 12, "others": None}
    assert [model["images"] for model in written["models"].values()] == [{"scenes": images}]
    assert "data.only_correct" not in (folder / "tables/overview.md").read_text()


def test_a_second_run_predicts_nothing_and_a_stopped_one_goes_on(
    run, copied_run, results, monkeypatch
):
    (first,) = copied_run(CORRECT)
    stored = sorted((results / RUN).glob("predictions/*.json"))
    assert len(stored) == 3
    stored[1].unlink()
    predict_shard = Mock(wraps=choosing._predict_shard)
    monkeypatch.setattr(choosing, "_predict_shard", predict_shard)

    (second,) = run(CORRECT)
    assert second.left_out == first.left_out
    assert second.computed.shards == 0
    run(CORRECT)
    assert predict_shard.call_count == 1


def test_no_image_left_is_a_sentence(run):
    # At least one of two random networks is wrong about the only image.
    messages = []
    for seed in range(2):
        (outcome,) = run([*CORRECT, "data.size=1", f"model.seed={seed}", f"run={seed}"])
        if outcome.failure:
            messages.append(outcome.failure.message)
    assert messages
    assert all("classifies none of 1 image correctly" in message for message in messages)


def test_a_bad_image_stays_as_a_row(run, rows, tmp_path):
    folder = write_images(tmp_path / "images", "0/a.png", "1/b.png", "2/c.png")
    (tmp_path / "images/1/b.png").write_text("no picture")
    settings = [
        *folder,
        "target=predicted",
        f"data.classes={list(map(str, range(10)))}",
        "metric=[zeta]",
        "method=[grad_cam]",
        "data.only_correct=true",
    ]
    (outcome,) = run(settings)
    assert outcome.failure is None
    table = rows([outcome])
    assert table.loc[table["image_id"] == "1/b.png", "status"].unique().tolist() == ["bad_image"]
    assert "1/b.png" not in outcome.left_out


def test_only_classes_of_the_scenes(run, results):
    (outcome,) = run(["data.only_classes=[3]", "data.size=12", "target=label"])
    data = Job.of(outcome.settings).data
    ids = set(rows_of(results, [outcome])["image_id"])
    assert ids == {name for index, name in enumerate(data.ids) if 3 in data.labels(index)}
    assert 0 < len(ids) < 12
    assert "class of 'scenes'" in failure(run(["data.only_classes=[dog]"]))
