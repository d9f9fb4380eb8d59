"""Which images a run explains: mosaics of those named with confidence, data.only_correct,
data.only_classes.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.cli.finish import finish
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.run import choosing
from axiom_bench.run.job import Job
from axiom_bench.run.result import JobResult
from axiom_bench.run.spine import configuration

from .conftest import RUN, failure, pictures, rows_of

pytestmark = pytest.mark.slow  # whole runs

SIZE = ("data=mosaic", "data.of.size=60")
# scenes_resnet gives no class 0.99
MOSAIC = (
    *SIZE,
    *(
        "data.size=3",
        "data.confidence=0.9",
        "data.workers=0",
        "model.weights=default",
        "method=[grad_cam,uniform]",
    ),
    "metric=[grid_pointing_game,focus,energy_pointing_game,pointing_game_strict,box_iou,mask_iou]",
)
LIGHT = ("method=[grad_cam]", "metric=[grid_pointing_game]")  # where the maps are not the subject
CORRECT = ("data.size=12", "data.only_correct=true", "shard_size=5", "target=label")


def values(records: pd.DataFrame, metric: str, method: str = "grad_cam") -> pd.Series:
    chosen = records[(records["metric"] == metric) & (records["method"] == method)]
    assert (chosen["status"] == "ok").all()
    return chosen.set_index(["image_id", "target_class"])["value"]


@pytest.fixture
def outcomes(ran) -> list[JobResult]:
    """The outcomes of MOSAIC, with a copy of its files in `results`."""
    return ran(*MOSAIC)


def finished(outcomes: list[JobResult], results: Path) -> tuple[dict, list[str]]:
    _, lines = finish(outcomes[0].settings, outcomes)
    return json.loads((results / RUN / "manifest.json").read_text()), lines


def test_grid_pg_on_scenes(outcomes, rows, results, undrawn):
    assert outcomes[0].failure is None
    records = rows(outcomes)
    located = values(records, "grid_pointing_game")
    assert len(located) == 3 * 4
    assert located.mean() > 0.5  # a map that knows no class has 1/4; measured 0.8 on more of them
    pd.testing.assert_series_equal(located, values(records, "energy_pointing_game"))
    by_mosaic = values(records, "grid_pointing_game", "uniform").groupby("image_id").mean()
    assert by_mosaic.to_numpy() == pytest.approx(0.25, rel=1e-9)
    assert records["status"].eq("ok").all()
    written, lines = finished(outcomes, results)
    (about,) = [model["images"]["mosaic_scenes"] for model in written["models"].values()]
    choice = about["mosaics"]
    assert (about["chosen"], about["kept"], about["others"]) == (3, 3, None)
    assert (choice["of"], choice["images"], choice["mosaics"], choice["in_mosaics"]) == (
        "scenes",
        60,
        3,
        12,
    )
    assert 60 > choice["of_one_class"] >= choice["confident"] >= 12
    assert any(f"{choice['confident']} of 60 images of 'scenes'" in line for line in lines)
    assert written["data"]["mosaic_scenes"]["ids"] == sorted(set(records["image_id"]))


def test_focus_on_scenes(run, rows, results):
    outcomes = run("data=mosaic_focus", "data.of.size=80", *MOSAIC[2:], "data.confidence=null")
    located = values(rows(outcomes), "focus")
    assert len(located) == 3
    assert located.mean() > 0.6
    assert not list((results / RUN).glob("predictions/*"))  # any image: the network isn't asked
    data = Job.of(outcomes[0].settings).data
    assert isinstance(data, MosaicImages)
    assert data.target_cells == 2


def test_only_images_that_the_model_names_with_confidence(run, results):
    (outcome,) = run(*MOSAIC, *LIGHT, "data.size=null", "data.confidence=0.97")
    stored = [
        json.loads(path.read_text()) for path in (results / RUN / "predictions").glob("*.json")
    ]
    predicted = {name: each for part in stored for name, each in part["predictions"].items()}
    data = Job.of(outcome.settings).data
    labels = {
        image: data.labels(index)[0]
        for index, image in enumerate(data.ids)
        if len(data.labels(index)) == 1
    }
    assert set(predicted) == set(labels)
    confident = {
        name
        for name, (label, share) in predicted.items()
        if label == labels[name] and share >= 0.97
    }
    shown = {
        name for image in outcome.facts.data["mosaic_scenes"].ids for name in image[6:].split(" | ")
    }
    assert shown <= confident
    assert outcome.facts.models["scenes_vgg"].images["mosaic_scenes"].mosaics["confident"] == len(
        confident
    )


def test_values_do_not_depend_on_batches_shards_or_workers_and_a_second_run_computes_nothing(
    run, rows, outcomes, monkeypatch
):
    first = values(rows(outcomes), "grid_pointing_game")
    other = rows(run(*MOSAIC, *LIGHT, "data.batch_size=3", "data.workers=2", "shard_size=3"))
    pd.testing.assert_series_equal(first, values(other, "grid_pointing_game"), rtol=1e-5)
    monkeypatch.setattr(choosing, "_predict_shard", None)  # which would raise
    (second,) = run(*MOSAIC)
    assert (outcomes[0].computed.shards, second.computed.shards) == (2, 0)
    for setting, shards in {
        "data.seed=1": 2,
        "data.cell=fit": 2,
        "data.size=2": 0,
    }.items():  # two of the three
        (other,) = run(*MOSAIC, *LIGHT, setting)
        assert (other.failure, other.computed.shards) == (None, shards)


def test_each_model_has_mosaics_of_its_own(run, results, undrawn):
    outcomes = run(*MOSAIC, *LIGHT, "model=scenes_vgg,scenes_resnet", "data.size=null")
    written, _ = finished(outcomes, results)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    ids = [outcome.facts.data["mosaic_scenes"].ids for outcome in outcomes]
    assert ids[0] != ids[1]
    assert set(written["data"]["mosaic_scenes"]["ids"]) == {*ids[0], *ids[1]}


def test_mosaics_of_which_the_model_predicts_a_class(run):
    (outcome,) = run(*MOSAIC, *LIGHT, "data.only_correct=true")
    assert outcome.failure is None
    about = outcome.facts.models["scenes_vgg"].images["mosaic_scenes"]
    assert (about.chosen, about.kept, about.mosaics["mosaics"]) == (3, outcome.images, 3)


SENTENCES = {
    "model.weights=null": r"of 'scenes'|can't be made: 0 images of 0 classes make 0; lower data\.confidence",
    "data.size=40": r"scenes_vgg.*data\.size=40 mosaics .* set data\.size to at most \d+, or null",
    "model.output=multi_label": r"no probabilities.*data\.confidence=null",
    "data.cell=half": "size of a mosaic's cells",
    "data.of.only_classes=[dog]": "class of 'scenes'",
}


@pytest.mark.parametrize("override", SENTENCES)
def test_sentences_of_a_job(run, override):
    message = failure(run(*MOSAIC, override))
    assert re.search(SENTENCES[override], message), message


MISTAKEN = ("data=mosaic", *MOSAIC[2:])


def test_data_of_chooses_a_data_set_with_its_settings():
    data = configuration(["data=mosaic", "data.of=voc", "data.of.size=7"])["data"]
    assert (data["name"], data["of"]["kind"], data["of"]["size"]) == ("mosaic_voc", "voc", 7)
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
        conv=nn.Conv2d(3, 4, 3, stride=8, padding=1), relu=nn.ReLU(), view=View(), fc=nn.Linear(4 * 12 * 12, 10)
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
    """A flattened map of another size is refused; one that is reshaped makes more rows than there
    are images.
    """
    (tmp_path / "net.py").write_text(FIXED.format(view=view))
    network = (
        "model=user",
        f"model.architecture={tmp_path / 'net.py'}:build",
        "model.weights=null",
        "model.crop=96",
    )
    kept = [part for part in MOSAIC if part != "model.weights=default"]
    settings = (*kept, *network, "model.layer=relu", "data.confidence=null", *LIGHT)
    message = failure(run(*settings))
    assert "can't take mosaics of 192 x 192 pixels" in message
    assert reason in message
    assert message.endswith("; set data.cell=fit.")
    (fit,) = run(*settings, "data.cell=fit")
    assert fit.failure is None


@pytest.mark.real
def test_photographs(run, rows, real_root):
    """SqueezeNet on two mosaics of 24 photographs: cells of 224 x 224 pixels, and Grad-CAM above
    the constant map.
    """
    network = (
        "model=squeezenet1_1",
        "model.weights=default",
        f"model.weights_folder={real_root / 'weights'}",
    )
    images = (
        "data.of=imagenet",
        "data.of.size=24",
        f"real_root={real_root}",
        "data.size=2",
        "data.confidence=0.3",
    )
    kept = [
        part
        for part in MISTAKEN
        if part.partition("=")[0] not in ("model.weights", "data.size", "data.confidence")
    ]
    outcomes = run(*kept, *network, *images, *LIGHT)
    assert outcomes[0].failure is None
    located = values(rows(outcomes), "grid_pointing_game")
    assert len(located) == 2 * 4
    assert located.mean() > 0.3  # measured 0.55 on 48 rows of images of 0.99
    assert {image.count(".JPEG") for image, _ in located.index} == {4}


def test_only_images_that_the_model_names_correctly(run, ran, rows, results, undrawn):
    """The others are counted on the screen, in the manifest and in the report; without the filter
    nothing is said.
    """
    outcomes, folder = ran(*CORRECT), results / RUN
    left_out = outcomes[0].left_out
    kept, count = rows(outcomes), 12 - len(left_out)
    written, lines = finished(outcomes, results)
    assert any(f"{len(left_out)} of 12 images are left out" in line for line in lines)
    assert written["jobs"][0]["left_out"] == list(left_out)
    assert len(written["data"]["scenes"]["ids"]) == 12
    about = {"chosen": 12, "kept": count, "others": choosing.OTHERS}
    assert {name: model["images"] for name, model in written["models"].items()} == {
        "scenes_vgg": {"scenes": about}
    }
    report.write(folder)
    sentence = f"data.only_correct: scenes_vgg {count} of 12."
    assert sentence in (folder / "tables/overview.md").read_text()
    page = (folder / "report.html").read_text()
    assert sentence in page
    assert f'<td class="page-number">{count} of 12</td>' in page
    assert re.search(r">\d+ of 12 \(\d+ %\)<", page)  # named as labelled, of all chosen

    (unfiltered,) = run("data.size=12", "target=label")
    table = rows([unfiltered])
    labels = table[table["metric"] == "zeta"].set_index("image_id")["predicted_class"].to_dict()
    data = Job.of(outcomes[0].settings).data
    right = {name for index, name in enumerate(data.ids) if labels[name] in data.labels(index)}
    assert set(kept["image_id"]) == right
    assert set(left_out) == set(labels) - right
    assert 0 < outcomes[0].images == len(right) == count < 12
    written, _ = finished([unfiltered], results)
    about = {"chosen": 12, "kept": 12, "others": None}
    assert [model["images"] for model in written["models"].values()] == [{"scenes": about}]
    assert "data.only_correct" not in (folder / "tables/overview.md").read_text()


def test_a_second_run_predicts_nothing_and_a_stopped_one_goes_on(run, ran, results, monkeypatch):
    (first,) = ran(*CORRECT)
    stored = sorted((results / RUN).glob("predictions/*.json"))
    assert len(stored) == 3
    stored[1].unlink()
    predict, calls = choosing._predict_shard, []
    monkeypatch.setattr(
        choosing,
        "_predict_shard",
        lambda *arguments: calls.append(arguments) or predict(*arguments),
    )
    (second,) = run(*CORRECT)
    assert (second.left_out, second.computed.shards) == (first.left_out, 0)
    run(*CORRECT)
    assert len(calls) == 1


def test_no_image_left_is_a_sentence(run):
    outcomes = [
        run(*CORRECT, "data.size=1", f"model.seed={seed}", f"run={seed}") for seed in range(2)
    ]
    messages = [outcome.failure.message for (outcome,) in outcomes if outcome.failure]
    assert messages
    assert all("names none of the 1 images correctly" in message for message in messages)


def test_a_bad_image_stays_as_a_row(run, rows, tmp_path):
    folder = pictures(tmp_path / "images", "0/a.png", "1/b.png", "2/c.png")
    (tmp_path / "images/1/b.png").write_text("no picture")
    chosen = (
        "target=predicted",
        f"data.classes={list(map(str, range(10)))}",
        "metric=[zeta]",
        "method=[grad_cam]",
    )
    (outcome,) = run(*folder, *chosen, "data.only_correct=true")
    assert outcome.failure is None
    table = rows([outcome])
    assert table.loc[table["image_id"] == "1/b.png", "status"].unique().tolist() == ["bad_image"]
    assert "1/b.png" not in outcome.left_out


def test_only_classes_of_the_scenes(run, results):
    (outcome,) = run("data.only_classes=[3]", "data.size=12", "target=label")
    data = Job.of(outcome.settings).data
    ids = set(rows_of(results, [outcome])["image_id"])
    assert ids == {name for index, name in enumerate(data.ids) if 3 in data.labels(index)}
    assert 0 < len(ids) < 12
    assert "class of 'scenes'" in failure(run("data.only_classes=[dog]"))
