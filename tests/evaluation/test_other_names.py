"""Names of other libraries lead to an entry or to a reason, in messages and in lists."""

import re

import pytest

from axiom_bench import methods
from axiom_bench.cli.listing import listing
from axiom_bench.environment import letters
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.other_names import other_names, unknown_plugin
from axiom_bench.models.spec import model_names, other_model, other_models, unknown_model

KINDS = ("method", "metric")


def _entries(kind):
    if kind == "metric":
        return plugins.names("metric")
    return [*plugins.names("method"), *plugins.names("peers")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_name_has_one_answer(kind):
    entries = set(_entries(kind))
    for other in other_names(kind):
        assert bool(other.entries) != bool(other.reason), other.name
        assert set(other.entries) <= entries, other.name
        # a reason is a sentence
        assert not other.reason or (other.reason[0].isupper() and other.reason.endswith(".")), other


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_is_listed_twice_or_is_an_entry(kind):
    names = [letters(other.name) for other in other_names(kind)]
    assert len(names) == len(set(names))
    # `plugins.load` already reads a name that differs only in case and signs
    found = {name for name in (other.name for other in other_names(kind)) if _is_entry(kind, name)}
    assert not found


def _is_entry(kind, name):
    return plugins.matching(kind, name) in plugins.names(kind)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("method", "GradCAMPlusPlus", "There is no method 'GradCAMPlusPlus'; it is 'grad_cam_pp'"),
        ("method", "vanilla-gradient", "it is 'saliency' here."),
        ("method", "sobol", "The method 'sobol' isn't included. It estimates"),
        ("method", "DeepLift", "it is 'deep_lift@captum' here (in a run: \"peers="),
        ("method", "grad_cam@captum", "type peers=grad_cam@captum."),
        ("metric", "MaxSensitivity", "it is 'explanation_sensitivity' here."),
        ("metric", "max_sensitivity", "it is a value of 'explanation_sensitivity'."),
        ("metric", "ROAR", "isn't included. It needs the network trained again"),
        ("metric", "boxiou2", "did you mean 'box_iou'"),
        ("method", "MaxSensitivity", "is a metric. It is 'explanation_sensitivity' here."),
        ("method", "ROAR", "'ROAR' is a metric. It needs the network trained again"),
        ("metric", "xgrad_cam", "There is no metric 'xgrad_cam': 'xgrad_cam' is a method."),
    ],
)
def test_the_message_has_the_entry_or_the_reason(kind, name, message):
    assert message in str(unknown_plugin(kind, name, plugins.names(kind)))


def test_python_gives_the_same_message():
    with pytest.raises(BenchError, match="it is 'saliency' here"):
        methods.get("VanillaGradient")


def test_a_list_can_be_searched():
    lines = listing("methods", part="GradCAM++")
    assert any(line.split()[0] == "grad_cam_pp" for line in lines)
    assert not any(line.split()[:1] == ["cam"] for line in lines)
    assert listing("metrics", part="roar") == [
        f"  ROAR  not included: {other.reason}"
        for other in other_names("metric")
        if other.name == "ROAR"
    ]
    with pytest.raises(BenchError, match="axiom-bench list methods lists all"):
        listing("methods", part="nothing-like-it")


@pytest.mark.slow
def test_a_name_is_searched_in_all_kinds():
    lines = listing("roar")
    assert lines[0].startswith("  ROAR  not included")
    assert {"methods", "peers"} <= {*listing("gradcam++")}
    with pytest.raises(BenchError, match="Nothing has 'nothing-like-it'"):
        listing("nothing-like-it")
    with pytest.raises(BenchError, match=r"There is no kind of entries 'method'.*'methods'"):
        listing("method", part="roar")


def test_all_other_names_are_listed():
    lines = listing("other-names")
    names = sum(len(other_names(kind)) for kind in KINDS)
    assert len(lines) == names + len(other_models())


@pytest.mark.parametrize(
    "name", ["sam", "sam2", "SAM_vit_b", "yolov8n", "yolo11x-seg", "FastSAM-s"]
)
def test_a_model_of_another_project_has_one_sentence(name):
    message = str(unknown_model(name, model_names()))
    assert message.removeprefix(f"There is no model {name!r}. ") in other_models().values()


@pytest.mark.parametrize(
    ("name", "new_name"),
    [
        ("tf_efficientnet_b0_ns", "tf_efficientnet_b0.ns_jft_in1k"),
        ("vit_base_patch16_224_in21k", "vit_base_patch16_224.augreg_in21k"),
        ("tv_resnext50_32x4d", "resnext50_32x4d.tv_in1k"),
    ],
)
def test_an_earlier_name_of_timm_leads_to_todays(name, new_name):
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    assert str(unknown_model(name, model_names())) == (
        f"There is no model {name!r}. timm now calls it {new_name}; set model={new_name}."
    )


def test_openais_names_of_clip_lead_to_its_checkpoints():
    for size in ("16", "32"):
        checkpoint = f"model=clip model.checkpoint=openai/clip-vit-base-patch{size} "
        assert checkpoint in other_model(f"ViT-B/{size}")
        assert f"The classifier is model=vit_b_{size}." in other_model(f"ViT-B/{size}")
    assert "openai/clip-vit-large-patch14 " in other_model("ViT-L/14")
    assert "openai/clip-vit-large-patch14-336 " in other_model("ViT-L/14@336px")
    assert not other_model("vit_b_32")
    assert "model=dinov2" in other_model("dino_vits16")
    (problem,) = listing("models", part="ViT-B/32")[-1:]
    assert "clip" in problem


def test_a_model_of_another_project_is_listed():
    (line,) = listing("models", part="fastsam-s")
    assert line == f"  fastsam-s  {other_model('fastsam')}"


def test_sentences_on_models_are_whole_and_name_models_that_exist():
    for name, sentence in other_models().items():
        assert sentence[0].isupper(), name
        assert sentence.endswith("."), name
        for model in re.findall(r"model=(\w+)", sentence):
            assert model in model_names(), name
    assert "yolo" in other_model("yolov5su")
    assert not other_model("samvit_base_patch16")


def test_a_part_of_a_models_name_finds_networks_of_timm_and_target_layers():
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    lines = [line.split() for line in listing("models", part="vgg16")]
    layer_by_name = {words[0]: words[-1] for words in lines}
    assert layer_by_name["vgg16"] == "features.30."
    assert layer_by_name["ssd300_vgg16"] == "backbone.features.22."
    many = listing("models", part="resnet")
    assert any(line.split() == ["skresnet18", "timm."] for line in many)
    # names of models that aren't here follow
    assert any(line.strip().startswith("Type more of a name") for line in many)
