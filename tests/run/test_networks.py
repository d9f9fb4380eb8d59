"""Networks other than image -> logits of the data's classes, from the command line to the
records.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from axiom_bench.embedded.planted import BUILDERS
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.run.composing.composition import plain
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration

from .conftest import failure, pictures

pytestmark = pytest.mark.slow  # whole runs

DENSE = """
from torch import nn

class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.classes = nn.Conv2d(8, 10, 1)

    def forward(self, images):
        return {"out": self.classes(self.body(images)), "aux": None}

def build():
    return Dense()
"""
FUNCTION = """
import torch
from torch import nn
import axiom_bench as ab

def left_half(output):
    maps = output["out"]
    return maps[..., : FACTOR * maps.shape[-1] // 2].sum((2, 3))

class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.full((10,), float(FACTOR)))

    def forward(self, output):
        return output["out"].sum((2, 3)) * self.weight

module = Weighted()
preset = ab.outputs.regression(module)
"""
TRANSFORMER = """
import torch
from torchvision.models import VisionTransformer
from axiom_bench.cutting.tokens import Tokens

def build():
    model = VisionTransformer(96, 16, 2, 2, 8, 16, num_classes=10)
    torch.nn.init.normal_(model.heads.head.weight)
    return model

class Mine(Tokens):
    pass
"""
POOLED = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, {classes}))
"""
RANDOM = """
from torch import nn

class Drawing(nn.Module):
    def forward(self, features):
        return nn.functional.dropout(features)

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         Drawing(), nn.Linear(16, 10))
"""
TRUTH = "metric=[truth_channel_error,truth_correlation,truth_mass_outside,truth_rank_agreement]"
PLANTED = ("model.weights=default", "data.size=3", "method=[hires_cam,xgrad_cam,saliency]", TRUTH)


@pytest.fixture
def dense(tmp_path) -> tuple[str, ...]:
    """A network that returns a dict of maps."""
    (tmp_path / "dense.py").write_text(DENSE)
    (tmp_path / "own.py").write_text(FUNCTION.replace("FACTOR", "1"))
    return (
        "model=user",
        f"model.architecture={tmp_path}/dense.py:build",
        "model.resize=96",
        "model.crop=96",
    )


@pytest.mark.parametrize(
    ("more", "name", "layer"),
    [
        ("", "user", "body.3"),  # what comes before the layer of the classes
        (" model.output=FOLDER/own.py:left_half model.layer=body", "user+left_half", "body"),
    ],
)
def test_a_run_of_a_network_that_returns_a_dict(run, rows, dense, tmp_path, more, name, layer):
    table = rows(run(*dense, *more.replace("FOLDER", str(tmp_path)).split()))
    assert (set(table["model"]), set(table["layer"])) == ({name}, {layer})
    assert set(table[table["metric"] == "sensitivity_error"]["status"]) == {"ok"}


def test_metrics_of_the_score_of_a_named_output(run, rows, dense):
    deletion = ("metric=[deletion_auc,average_drop]", "metric.deletion_auc.params.output=logit")
    table = rows(run(*dense, *deletion, "model.output=multi_label", "method=[hires_cam]"))
    assert set(table["model"]) == {"user+multi_label"}
    of = dict(table.groupby("metric")["status"].agg(set))
    assert {"ok"} <= of["deletion_auc"] <= {"ok", "zero_map"}
    assert of["average_drop"] <= {"no_probability", "zero_map"}


def test_a_network_that_ends_in_a_softmax_has_the_values_of_its_logits(run, rows, job, tmp_path):
    """It is recognised by the network alone, so that all shards agree; logits that are recognised
    have no other key.
    """
    (tmp_path / "plain.py").write_text(POOLED.format(classes=10))
    (tmp_path / "ends.py").write_text(f"{POOLED.format(classes=10)[:-2]}, nn.Softmax(1))\n")
    sizes = (
        "model.resize=96",
        "model.crop=96",
        "metric=[deletion_auc_fast,sensitivity_error,average_drop]",
    )
    settings = [
        ("model=user", f"model.architecture={tmp_path}/{name}.py:build", *sizes)
        for name in ("plain", "ends")
    ]
    (first,), (second,) = (run(*each) for each in settings)
    assert [each.facts.models["user"].model_dump().get("returns") for each in (first, second)] == [
        None,
        "probabilities",
    ]
    assert "The network returns probabilities" in second.facts.models["user"].note
    plain, ends = (rows([each]) for each in (first, second))
    assert ends[["value", "status"]].equals(plain[["value", "status"]])
    keys = [
        Keys(job(*settings[place], *more)).common
        for place in (0, 1)
        for more in ([], ["model.output=logits"])
    ]
    assert keys[0] == keys[1] != keys[2] != keys[3]


@pytest.mark.parametrize("name", ["left_half", "Weighted", "module", "preset"])
def test_the_functions_source_and_tensors_are_facts(job, dense, tmp_path, name):
    """The same file with another constant gives other values, so it has another key."""
    (tmp_path / "other.py").write_text(FUNCTION.replace("FACTOR", "2"))
    outputs = [
        [],
        *([f"model.output={tmp_path}/{file}.py:{name}"] for file in ("own", "other", "own")),
    ]
    plain, first, other, again = (
        Keys(job(*dense, "model.layer=body", *output)) for output in outputs
    )
    assert len({plain.common, first.common, other.common}) == 3
    assert again.common == first.common
    if name == "module":
        again.job.model.output.function.weight.mul_(2)
        assert Keys(again.job).common != first.common


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("own.py:missing", "There is no function in .*own.py 'missing'"),
        (
            "nothing.py:score",
            "model.output=.*can't be imported .* a function from what the network returns",
        ),
    ],
)
def test_a_wrong_output_function_is_one_sentence(job, dense, tmp_path, output, message):
    with pytest.raises(BenchError, match=message) as error:
        job(*dense, "model.layer=body", f"model.output={tmp_path}/{output}")
    assert "\n" not in str(error.value)


RESHAPES = {
    "[6]": r"model.reshape must be tokens, \[rows, columns\] or a class or null, not \[6\]",
    "nowhere:Mine": "model.reshape='nowhere:Mine' can't be imported .*; give module:class or path/to/file.py:cl",
}


@pytest.mark.parametrize("reshape", RESHAPES)
def test_a_wrong_reshape_is_one_sentence(job, transformer, reshape):
    with pytest.raises(BenchError, match=RESHAPES[reshape]):
        job(*transformer, f"model.reshape={reshape}")


@pytest.fixture
def transformer(tmp_path) -> tuple[str, ...]:
    (tmp_path / "small_vit.py").write_text(TRANSFORMER)
    network = (
        "model=user",
        f"model.architecture={tmp_path}/small_vit.py:build",
        "model.resize=96",
        "model.crop=96",
    )
    return (*network, "model.layer=encoder.layers.encoder_layer_1.ln_1")


def test_a_run_of_a_small_transformer(run, rows, job, transformer, tmp_path):
    table = rows(
        run(*transformer, "model.reshape=tokens", "method=[grad_cam,ablation_cam_axiomatic]")
    )
    of = table[
        (table["method"] == "ablation_cam_axiomatic") & (table["metric"] == "sensitivity_error")
    ]
    assert set(of["status"]) == {"ok"}
    assert (of["value"] < 1e-3).all()  # its contributions are the drops; float32
    assert "set model.reshape=tokens" in failure(run(*transformer))
    # each gives records another name
    reshapes = (
        "tokens",
        "[6,6]",
        f"{tmp_path}/small_vit.py:Mine",
    )
    assert (
        len({Keys(job(*transformer, f"model.reshape={reshape}")).common for reshape in reshapes})
        == 3
    )


@pytest.fixture
def net(tmp_path) -> Callable[[int], tuple[str, ...]]:
    """The settings of a network of so many classes, on the scenes of ten."""

    def settings(classes: int) -> tuple[str, ...]:
        # each its own: Python takes the bytecode of a file as old and as long
        path = tmp_path / f"net{classes}.py"
        path.write_text(POOLED.format(classes=classes))
        metrics = "metric=[zeta,box_iou,mask_iou,class_correlation,class_discriminability]"
        network = ("model=user", f"model.architecture={path}:build", "model.layer='1'")
        return (*network, "target=predicted", metrics, "method=[grad_cam]")

    return settings


def statuses(rows: pd.DataFrame) -> dict[str, set[str]]:
    return {name: set(part["status"]) for name, part in rows.groupby("metric")}


def test_no_label_box_or_mask_is_read_as_a_class_of_another_number_of_classes(
    net, run, rows, results
):
    """target=predicted; and a picture names the model's class by its index."""
    (outcome,) = run(*net(7), "pictures.rows=2")
    by_metric = statuses(rows([outcome]))
    assert (by_metric["zeta"], by_metric["box_iou"], by_metric["mask_iou"]) == (
        {"ok"},
        {"no_annotation"},
        {"no_mask"},
    )
    assert [name for name in by_metric if "ok" in by_metric[name]] == ["zeta"]
    (note,) = outcome.lines
    assert "the 10 classes of 'scenes' aren't the 7 of user" in note
    assert "boxes and masks aren't used" in note
    (file,) = results.glob("*/*/pictures/*.npz")
    assert all(name.isdecimal() for name in np.load(file)["class_names"])
    assert "data.only_correct=false" in failure(run(*net(7), "data.only_correct=true"))
    assert "has 12 classes and the data set scenes 10" in failure(
        run(*net(12), "target=each_label")
    )
    (as_many,) = run(*net(10), "data.size=12")
    assert "ok" in statuses(rows([as_many]))["class_correlation"]
    assert as_many.lines == ()


def test_a_planted_network_is_measured_against_its_truth(run, rows):
    """In the region network HiResCAM is right, XGrad-CAM's totals are and its places aren't, a map
    has no totals.
    """
    table = rows(run("model=planted_region", *PLANTED)).set_index(["metric", "method"]).sort_index()
    assert set(table["image_id"]) == {f"evaluation-0-{number:06d}" for number in range(3)}
    assert set(table["data"]) == {"planted"}
    value, status = table["value"], table["status"]
    assert value["truth_channel_error"][["hires_cam", "xgrad_cam"]].max() < 1e-5
    assert value["truth_correlation", "hires_cam"].min() > 1 - 1e-6
    assert value["truth_rank_agreement", "hires_cam"].min() == 1
    assert value["truth_mass_outside", "hires_cam"].max() < 1e-6
    assert value["truth_mass_outside", "xgrad_cam"].min() > 0.1
    assert set(status["truth_channel_error", "saliency"]) == {"no_contributions"}
    assert set(status["truth_correlation", "saliency"]) == {"ok"}


def test_other_networks_outputs_and_classes_have_no_truth_or_their_own(run, rows):
    assert set(rows(run("data.size=2", "method=[hires_cam]", TRUTH))["status"]) == {"no_truth"}
    planted = ("model=planted_and", *PLANTED[:2], "method=[hires_cam]", TRUTH)
    other = rows(run(*planted, "data.target=each_label"))
    assert set(other["target_class"].astype(int)) == {0, 1}
    of_the_other = other[
        (other["target_class"].astype(int) == 1) & (other["metric"] == "truth_channel_error")
    ]
    assert of_the_other["value"].max() < 1e-5  # its logit is linear in cyan
    probability = rows(run(*planted, "model.output=probability"))
    assert set(probability[probability["model"] == "planted_and+probability"]["status"]) == {
        "no_truth"
    }


def test_a_planted_network_takes_its_own_images_where_no_others_are_chosen(run):
    config = plain(configuration(["model=planted_and", "data.size=7"]))
    assert (config["data"]["kind"], config["data"]["size"], config["target"]) == (
        "planted",
        7,
        "label",
    )
    for name in BUILDERS:
        file = conf_folder() / "data_model" / f"scenes_{name}.yaml"
        assert file.read_text() == "# @package _global_\ndefaults:\n  - planted_images\n"
    with pytest.raises(BenchError, match="There is no folder /nowhere"):
        run("model=planted_and", "data=folder", "data.root=/nowhere", *PLANTED[:2])


def test_photographs_without_labels_are_explained_by_what_is_predicted(
    run, rows, job, tmp_path, results
):
    """And are called by the network's own names, where they go by `model.classes` too."""
    photos = pictures(tmp_path / "photos", "a.jpg", "2020/b.jpg")
    (outcome,) = run(*photos, "pictures.gallery=null", "pictures.rows=2")
    assert outcome.failure is None
    assert (outcome.config["target"], len(rows([outcome])["image_id"].unique())) == ("predicted", 2)
    assert "the images of 'folder' have no labels (a.jpg lies in no folder" in outcome.lines[0]
    assert outcome.facts.models["scenes_vgg"].classes[3] == "digit 3"
    assert outcome.facts.data["folder"].notes == [outcome.lines[0], "EXIF orientations are applied"]
    (gallery,) = results.glob("*/*/gallery/*.parquet")
    assert set(pd.read_parquet(gallery)["target_name"]) <= {f"digit {digit}" for digit in range(10)}
    assert "have no labels (a.jpg lies in no folder); set target=predicted, or" in failure(
        run(*photos, "target=label")
    )
    labelled = job(*pictures(tmp_path / "more", "digit 3/a.jpg", "7/b.jpg"))
    assert (labelled.target, labelled.labels, labelled.shares_classes) == (
        "label",
        {0: (7,), 1: (3,)},
        True,
    )
    (tmp_path / "names.txt").write_text("\n".join(f"number {digit}" for digit in range(10)))
    named = job(*photos, f"model.classes={tmp_path}/names.txt")
    assert named.class_names[3] == "number 3"
    assert Keys(named).common == Keys(job(*photos)).common  # names decide no value


def test_a_network_that_draws_runs_by_fixed_draws(run, rows, tmp_path):
    (tmp_path / "drawing.py").write_text(RANDOM)
    network = (
        "model=user",
        f"model.architecture={tmp_path}/drawing.py:build",
        "model.resize=32",
        "model.crop=32",
    )
    network += ("method=[grad_cam]", "metric=[sensitivity_error]")
    assert "model.draw=0,1,2" in failure(run(*network))
    table = rows(run(*network, "model.draw=range(0,3)"))
    assert {*table["model"]} == {"user+draw0", "user+draw1", "user+draw2"}
    assert {*table["layer"]} == {"1"}
    assert {*table["status"]} == {"ok"}
    assert table.groupby("image_id", observed=True)["value"].nunique().min() == 3
