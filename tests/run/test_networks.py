"""Tests of runs of networks that don't return one logit per class of the data.

They go from the command line to the records.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from axiom_bench.embedded.planted import BUILDERS
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.run.composing.composition import resolve_config
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration

from .conftest import failure, write_images

pytestmark = pytest.mark.slow  # whole runs

DENSE = """
from torch import nn

class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        convolutions = nn.Conv2d(3, 8, 5, 4), nn.Conv2d(8, 8, 3, 2)
        self.body = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU())
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
    pool = nn.AdaptiveAvgPool2d(1)
    linear = nn.Linear(4, {classes})
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), linear)
"""
POOLED_WITH_SOFTMAX = POOLED.replace("linear)", "linear, nn.Softmax(1))")
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
    """The settings of a network that returns a dict of maps."""
    (tmp_path / "dense.py").write_text(DENSE)
    (tmp_path / "own.py").write_text(FUNCTION.replace("FACTOR", "1"))
    return (
        "model=user",
        f"model.architecture={tmp_path}/dense.py:build",
        "model.resize=96",
        "model.crop=96",
    )


@pytest.mark.parametrize(
    ("overrides", "name", "layer"),
    [
        ("", "user", "body.3"),  # the last layer before the layer of the classes
        (" model.output=FOLDER/own.py:left_half model.layer=body", "user+left_half", "body"),
    ],
)
def test_a_run_of_a_network_that_returns_a_dict(run, rows, dense, tmp_path, overrides, name, layer):
    table = rows(run([*dense, *overrides.replace("FOLDER", str(tmp_path)).split()]))
    assert set(table["model"]) == {name}
    assert set(table["layer"]) == {layer}
    assert set(table[table["metric"] == "sensitivity_error"]["status"]) == {"ok"}


def test_metrics_of_the_score_of_a_named_output(run, rows, dense):
    settings = [
        *dense,
        "metric=[deletion_auc,average_drop]",
        "metric.deletion_auc.params.output=logit",
        "model.output=multi_label",
        "method=[hires_cam]",
    ]
    table = rows(run(settings))
    assert set(table["model"]) == {"user+multi_label"}
    statuses = statuses_by_metric(table)
    assert {"ok"} <= statuses["deletion_auc"] <= {"ok", "zero_map"}
    assert statuses["average_drop"] <= {"no_probability", "zero_map"}


def test_a_network_that_ends_in_a_softmax_has_the_values_of_its_logits(run, rows, job, tmp_path):
    """Check that the run recognises probabilities.

    It recognises them by the network only, so that all shards agree. Recognised logits have the
    same key as logits that `model.output=logits` declares.
    """

    def settings(file: str, text: str) -> tuple[str, ...]:
        (tmp_path / file).write_text(text.format(classes=10))
        return (
            "model=user",
            f"model.architecture={tmp_path}/{file}:build",
            "model.resize=96",
            "model.crop=96",
            "metric=[deletion_auc_fast,sensitivity_error,average_drop]",
        )

    logits_settings = settings("plain.py", POOLED)
    softmax_settings = settings("ends.py", POOLED_WITH_SOFTMAX)

    (logits_outcome,) = run(logits_settings)
    (softmax_outcome,) = run(softmax_settings)

    facts = logits_outcome.facts.models["user"]
    assert facts.model_dump().get("returns") is None
    facts = softmax_outcome.facts.models["user"]
    assert facts.model_dump().get("returns") == "probabilities"
    assert "The network returns probabilities" in facts.note
    columns = ["value", "status"]
    assert rows([softmax_outcome])[columns].equals(rows([logits_outcome])[columns])

    logits_key = Keys(job(logits_settings)).common
    declared_logits_key = Keys(job([*logits_settings, "model.output=logits"])).common
    softmax_key = Keys(job(softmax_settings)).common
    declared_softmax_key = Keys(job([*softmax_settings, "model.output=logits"])).common
    assert logits_key == declared_logits_key != softmax_key != declared_softmax_key


@pytest.mark.parametrize("name", ["left_half", "Weighted", "module", "preset"])
def test_the_functions_source_and_tensors_are_facts(job, dense, tmp_path, name):
    """Check a file with another constant: its values are different, so its key must be, too."""
    (tmp_path / "other.py").write_text(FUNCTION.replace("FACTOR", "2"))
    settings = (*dense, "model.layer=body")

    plain_keys = Keys(job(settings))
    own_keys = Keys(job([*settings, f"model.output={tmp_path}/own.py:{name}"]))
    other_keys = Keys(job([*settings, f"model.output={tmp_path}/other.py:{name}"]))
    same_keys = Keys(job([*settings, f"model.output={tmp_path}/own.py:{name}"]))

    assert len({plain_keys.common, own_keys.common, other_keys.common}) == 3
    assert same_keys.common == own_keys.common
    if name == "module":
        same_keys.job.model.output.function.weight.mul_(2)
        assert Keys(same_keys.job).common != own_keys.common


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("own.py:missing", "There is no function 'missing' in .*own.py"),
        (
            "nothing.py:score",
            "model.output=.*can't be imported .* a function from what the network returns",
        ),
    ],
)
def test_a_wrong_output_function_is_one_sentence(job, dense, tmp_path, output, message):
    with pytest.raises(BenchError, match=message) as error:
        job([*dense, "model.layer=body", f"model.output={tmp_path}/{output}"])
    assert "\n" not in str(error.value)


RESHAPES = {
    "[6]": r"model.reshape must be tokens, \[rows, columns\] or a class or null, not \[6\]",
    "nowhere:Mine": "model.reshape='nowhere:Mine' can't be imported .*; "
    "give module:class or path/to/file.py:cl",
}


@pytest.mark.parametrize("reshape", RESHAPES)
def test_a_wrong_reshape_is_one_sentence(job, transformer, reshape):
    with pytest.raises(BenchError, match=RESHAPES[reshape]):
        job([*transformer, f"model.reshape={reshape}"])


@pytest.fixture
def transformer(tmp_path) -> tuple[str, ...]:
    """The settings of a small vision transformer."""
    (tmp_path / "small_vit.py").write_text(TRANSFORMER)
    return (
        "model=user",
        f"model.architecture={tmp_path}/small_vit.py:build",
        "model.resize=96",
        "model.crop=96",
        "model.layer=encoder.layers.encoder_layer_1.ln_1",
    )


def test_a_run_of_a_small_transformer(run, rows, job, transformer, tmp_path):
    settings = [*transformer, "model.reshape=tokens", "method=[grad_cam,ablation_cam_axiomatic]"]
    outcomes = run(settings)
    table = rows(outcomes)
    table = table[table["method"] == "ablation_cam_axiomatic"]
    errors = table[table["metric"] == "sensitivity_error"]
    assert set(errors["status"]) == {"ok"}
    assert (errors["value"] < 1e-3).all()  # the contributions are the drops, in float32

    assert "set model.reshape=tokens" in failure(run(transformer))

    # Each reshape gives the records another name.
    keys = set()
    for reshape in ("tokens", "[6,6]", f"{tmp_path}/small_vit.py:Mine"):
        keys.add(Keys(job([*transformer, f"model.reshape={reshape}"])).common)
    assert len(keys) == 3


@pytest.fixture
def network_of_classes(tmp_path) -> Callable[[int], tuple[str, ...]]:
    """A function that returns the settings of a network with a number of classes.

    The network explains the scenes, which have ten classes.
    """

    def settings(classes: int) -> tuple[str, ...]:
        # Each network has its own file: Python would reuse the bytecode of a file of the same age
        # and length.
        path = tmp_path / f"net{classes}.py"
        path.write_text(POOLED.format(classes=classes))
        return (
            "model=user",
            f"model.architecture={path}:build",
            "model.layer='1'",
            "model.mean=[0.485,0.456,0.406]",
            "model.std=[0.229,0.224,0.225]",
            "target=predicted",
            "metric=[zeta,box_iou,mask_iou,class_correlation,class_discriminability]",
            "method=[grad_cam]",
        )

    return settings


def statuses_by_metric(rows: pd.DataFrame) -> dict[str, set[str]]:
    return {name: set(part["status"]) for name, part in rows.groupby("metric")}


def test_no_label_box_or_mask_is_read_as_a_class_of_another_number_of_classes(
    network_of_classes, run, rows, results
):
    """Check target=predicted; a picture calls the model's class by its index."""
    (outcome,) = run([*network_of_classes(7), "pictures.rows=2"])
    statuses = statuses_by_metric(rows([outcome]))
    assert statuses["zeta"] == {"ok"}
    assert statuses["box_iou"] == {"no_annotation"}
    assert statuses["mask_iou"] == {"no_mask"}
    assert [metric for metric in statuses if "ok" in statuses[metric]] == ["zeta"]
    (note,) = outcome.lines
    assert "the 10 classes of 'scenes' aren't the 7 of user" in note
    assert "boxes and masks aren't used" in note
    (file,) = results.glob("*/*/pictures/*.npz")
    assert all(name.isdecimal() for name in np.load(file)["class_names"])

    message = failure(run([*network_of_classes(7), "data.only_correct=true"]))
    assert "data.only_correct=false" in message

    message = failure(run([*network_of_classes(12), "target=each_label"]))
    assert "has 12 classes and the data set scenes 10" in message

    (outcome,) = run([*network_of_classes(10), "data.size=12"])
    assert "ok" in statuses_by_metric(rows([outcome]))["class_correlation"]
    assert outcome.lines == ()


def test_a_planted_network_is_measured_against_its_truth(run, rows):
    """Check the region network.

    HiResCAM is right. XGrad-CAM has the right totals at the wrong places. Saliency has no totals.
    """
    table = (
        rows(run(["model=planted_region", *PLANTED])).set_index(["metric", "method"]).sort_index()
    )
    assert set(table["image_id"]) == {f"evaluation-0-{number:06d}" for number in range(3)}
    assert set(table["data"]) == {"planted"}
    value = table["value"]
    assert value["truth_channel_error"][["hires_cam", "xgrad_cam"]].max() < 1e-5
    assert value["truth_correlation", "hires_cam"].min() > 1 - 1e-6
    assert value["truth_rank_agreement", "hires_cam"].min() == 1
    assert value["truth_mass_outside", "hires_cam"].max() < 1e-6
    assert value["truth_mass_outside", "xgrad_cam"].min() > 0.1
    status = table["status"]
    assert set(status["truth_channel_error", "saliency"]) == {"no_contributions"}
    assert set(status["truth_correlation", "saliency"]) == {"ok"}


def test_other_networks_outputs_and_classes_have_no_truth_or_their_own(run, rows):
    table = rows(run(["data.size=2", "method=[hires_cam]", TRUTH]))
    assert set(table["status"]) == {"no_truth"}

    planted = (
        "model=planted_and",
        "model.weights=default",
        "data.size=3",
        "method=[hires_cam]",
        TRUTH,
    )
    table = rows(run([*planted, "data.target=each_label"]))
    target_class = table["target_class"].astype(int)
    assert set(target_class) == {0, 1}
    errors = table[(target_class == 1) & (table["metric"] == "truth_channel_error")]
    assert errors["value"].max() < 1e-5  # the logit of class 1 is linear in cyan

    table = rows(run([*planted, "model.output=probability"]))
    probability_rows = table[table["model"] == "planted_and+probability"]
    assert set(probability_rows["status"]) == {"no_truth"}


def test_a_planted_network_takes_its_own_images_where_no_others_are_chosen(run):
    config = resolve_config(configuration(["model=planted_and", "data.size=7"]))
    assert config["data"]["kind"] == "planted"
    assert config["data"]["size"] == 7
    assert config["target"] == "label"
    for name in BUILDERS:
        file = conf_folder() / "data_model" / f"scenes_{name}.yaml"
        assert file.read_text() == "# @package _global_\ndefaults:\n  - planted_images\n"
    settings = [
        "model=planted_and",
        "data=folder",
        "data.root=/nowhere",
        "model.weights=default",
        "data.size=3",
    ]
    with pytest.raises(BenchError, match="There is no folder /nowhere"):
        run(settings)


def test_photographs_without_labels_are_explained_by_what_is_predicted(
    run, rows, job, tmp_path, results
):
    """Check also the names of their classes: the network's own, or those of `model.classes`."""
    photos = write_images(tmp_path / "photos", "a.jpg", "2020/b.jpg")
    (outcome,) = run([*photos, "pictures.gallery=null", "pictures.rows=2"])
    assert outcome.failure is None
    assert outcome.config["target"] == "predicted"
    assert rows([outcome])["image_id"].nunique() == 2
    assert "the images of 'folder' have no labels (a.jpg lies in no folder" in outcome.lines[0]
    assert outcome.facts.models["scenes_vgg"].classes[3] == "digit 3"
    assert outcome.facts.data["folder"].notes == [outcome.lines[0], "EXIF orientations are applied"]
    (gallery,) = results.glob("*/*/gallery/*.parquet")
    assert set(pd.read_parquet(gallery)["target_name"]) <= {f"digit {digit}" for digit in range(10)}

    message = failure(run([*photos, "target=label"]))
    assert "have no labels (a.jpg lies in no folder); set target=predicted, or" in message

    labelled_job = job(write_images(tmp_path / "more", "digit 3/a.jpg", "7/b.jpg"))
    assert labelled_job.target == "label"
    assert labelled_job.labels == {0: (7,), 1: (3,)}
    assert labelled_job.shares_classes is True

    (tmp_path / "names.txt").write_text("\n".join(f"number {digit}" for digit in range(10)))
    named_job = job([*photos, f"model.classes={tmp_path}/names.txt"])
    assert named_job.class_names[3] == "number 3"
    # Names of classes don't change values.
    assert Keys(named_job).common == Keys(job(photos)).common


def test_a_network_that_draws_runs_by_fixed_draws(run, rows, tmp_path):
    (tmp_path / "drawing.py").write_text(RANDOM)
    network = (
        "model=user",
        f"model.architecture={tmp_path}/drawing.py:build",
        "model.resize=32",
        "model.crop=32",
        "method=[grad_cam]",
        "metric=[sensitivity_error]",
    )
    assert "model.draw=0,1,2" in failure(run(network))
    table = rows(run([*network, "model.draw=range(0,3)"]))
    assert {*table["model"]} == {"user+draw0", "user+draw1", "user+draw2"}
    assert {*table["layer"]} == {"1"}
    assert {*table["status"]} == {"ok"}
    assert table.groupby("image_id", observed=True)["value"].nunique().min() == 3
