"""The entries of conf/model/ and other names: each is complete, composes and loads."""

import os
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from axiom_bench.cutting.model_copy import layer_name
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.embedded import captioner, networks, patches, planted, shapes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import conf_folder
from axiom_bench.models import spec
from axiom_bench.models.load import load_model
from axiom_bench.models.sources import find_source
from axiom_bench.models.spec import ModelSpec, classifiers, model_config, model_names
from axiom_bench.run import notebook
from axiom_bench.run.composing.composition import OPTIONAL_SETTINGS, composed

FILES = sorted(path.stem for path in (conf_folder() / "model").glob("*.yaml"))
PAPER = {
    "alexnet": "features.12",
    "vgg16": "features.30",
    "vgg19": "features.36",
    "inception_v3": "Mixed_7c",
    "resnet101": "layer4",
}
LAYERS = {
    **PAPER,
    **networks.LAYERS,
    "scenes_vlm": "tower.features.11",
    "scenes_vlm_vit": "tower.blocks.1",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "squeezenet1_1": "features.12",
    "shufflenet_v2_x0_5": "conv5",
    "mobilenet_v2": "features.18",
    "swin_t": "norm",
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
}
TRAININGS = {
    f"{name}_{training}": name
    for name in (*networks.LAYERS, *captioner.BUILDERS)
    for training in networks.weights_files(name)
    if training.startswith("seed")
}
LAYERS |= {training: LAYERS[name] for training, name in TRAININGS.items()}
PLANTED = [
    *planted.BUILDERS,
    *planted.PLACED_BUILDERS,
    *(f"planted_{rule}_{kind}" for rule in ("additive", "and") for kind in shapes.KINDS),
]
LAYERS |= dict.fromkeys(PLANTED, "features")
SPEAKERS = (  # of texts about images
    "blip",
    "blip2",
    "internvl",
    "llava",
    "llava_next",
    "paligemma",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "smolvlm",
)
OF_LIBRARIES = {  # tested in test_checkpoints, test_two_stages and test_networks_of_*
    "huggingface",
    "clip",
    "dinov2",
    "detr",
    "segformer",
    *SPEAKERS,
    "yolo",  # in test_yolo
    "deeplabv3_resnet50",
    "lraspp_mobilenet_v3_large",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
}
OWN = {  # their code and weights are below real_root
    "own_model",
    "vgg16_mri",
    "inception_v3_five",
    "efficientnet_lite0",
}
REAL = Path(os.environ.get("AXIOM_BENCH_REAL", "../shared"))
ABSENT = pytest.mark.skipif(
    not (REAL / "weights").is_dir(), reason=f"there are no weights in {REAL / 'weights'}"
)


def compose_model(name: str, *overrides: str) -> DictConfig:
    """Return the model node as the command line composes it."""
    with composed([f"model={name}", f"real_root={REAL}", *overrides]) as composition:
        return composition.config.model


@pytest.mark.parametrize("name", FILES)
def test_an_entry_has_all_settings_its_own_over_those_that_it_builds_on(name):
    file = conf_folder() / "model" / f"{name}.yaml"
    own = yaml.safe_load(file.read_text())
    settings = model_config(name)
    names = [entry.name for entry in fields(ModelSpec)]
    assert [name for name in names if name in settings] == list(settings)
    assert {f"model.{name}" for name in names if name not in settings} <= {*OPTIONAL_SETTINGS}
    own.pop("defaults", None)
    assert own.items() <= settings.items()


TESTED = {*LAYERS, *OF_LIBRARIES, *OWN, "user", "timm"}  # in tests below or in other files


@pytest.mark.parametrize("name", [name for name in FILES if name not in TESTED])
def test_an_entry_that_no_other_test_knows_loads(name):
    loaded = load_model({**model_config(name), "weights": None})
    assert layer_name(loaded.module, loaded.layer) is not None


def test_every_other_entry_is_there():
    assert set(FILES) >= TESTED


@pytest.mark.parametrize("name", ["scenes_vgg_seed1", "ssdlite320_mobilenet_v3_large"])
def test_python_builds_on_other_entries_as_hydra_does(name):
    assert OmegaConf.to_container(compose_model(name)) == model_config(name)


@pytest.mark.slow
def test_python_resolves_every_name_as_the_command_line_does(monkeypatch):
    """Check every entry with its own weights and with `default`, which are torchvision's.

    Without `weights` Python takes the entry's, including a seed's and those that are built in.
    """
    loaded = []
    monkeypatch.setattr(
        notebook.load, "load_model", lambda settings: loaded.append(ModelSpec.of(settings)) or 1 / 0
    )
    monkeypatch.setenv("AXIOM_BENCH_REAL", str(REAL))
    captions = ["a cat", "a dog"]
    clip_kwargs = {"checkpoint": "openai/clip-vit-base-patch32", "captions": captions}
    settings_by_name = {
        "user": {"architecture": "net.py:build", "weights": "own.pth"},
        "timm": {"architecture": "resnet26d"},
        "clip": {"kwargs": clip_kwargs},
        "huggingface": {"checkpoint": "microsoft/resnet-50"},
        "yolo": {"weights": "yolo11n.pt"},
    }
    for name in SPEAKERS:
        size = {"size": [448, 448]} if name.startswith("qwen") else {}
        settings_by_name[name] = {"kwargs": {"prompt": "What?", **size}}

    for name in [*FILES, "densenet121"]:
        settings = settings_by_name.get(name, {})
        overrides = [f"model.{key}={value}" for key, value in settings.items() if key != "kwargs"]
        if name == "clip":
            overrides.append("model.kwargs.captions=[a cat,a dog]")
        elif name in SPEAKERS:
            overrides.append("model.kwargs.prompt=What?")
        composed_model = compose_model(name, *overrides)
        for changes in ({}, {"weights": "default"}):
            changed_settings = settings | changes
            with pytest.raises(ZeroDivisionError):
                notebook.load_model(name, **changed_settings)
            composed_model.update(changes)
            assert loaded.pop() == ModelSpec.of(composed_model), name


def test_a_training_by_name_in_python_has_its_own_weights():
    for name in ("scenes_vgg_seed1", "signals_cnn_seed3"):
        assert notebook.load_model(name).loaded.weights == f"{name}.safetensors"
    network = notebook.load_model("scenes_vgg_seed1", "default")
    assert network.loaded.weights == "scenes_vgg.safetensors"


def test_refusals_in_python_say_arguments_and_settings_on_the_command_line(tmp_path):
    refused = [
        {"weights": tmp_path / "a.pth"},
        {"weights": None, "classes": 0},
        {"architecture": "x", "weights": None},
    ]
    for settings in refused:
        with pytest.raises(BenchError) as refusal:
            notebook.load_model("squeezenet1_1", **settings)
        assert "model." not in str(refusal.value)
        assert "null" not in str(refusal.value)
    message = r"set weights=FILE to the path of your file, .*weights=None for random"
    with pytest.raises(BenchError, match=message):
        notebook.load_model("squeezenet1_1", weights=str(tmp_path / "a.pth"))
    with pytest.raises(BenchError, match=r"weights='as_built'"):
        notebook.load_model("user", "default", architecture="torchvision.models:squeezenet1_1")


LARGE = ("inception_v3", "resnet50", "resnet101", "swin_t", "vgg16", "vgg19", "vit_b_16")


@pytest.mark.parametrize("name", LARGE)
def test_large_named_model_has_its_layer_on_the_meta_device(name):
    settings = model_config(name)
    with torch.device("meta"):
        module = find_source(ModelSpec.of({**settings, "weights": None})).build()
    assert settings["layer"] in (LAYERS[name], "default")
    assert module.get_submodule(LAYERS[name])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in LAYERS],
)
def test_named_model_loads_with_random_weights(name):
    loaded = load_model({**model_config(name), "weights": None})
    assert loaded.name == name
    assert loaded.layer == LAYERS[name]
    classes_by_family = {
        "scenes": 10,
        "planted": 2,
        "signals": 5,
        "volumes": 5,
        "synthetic": 6,
        "qr": 2,
    }
    classes = classes_by_family.get(name.split("_")[0], 1000)
    if name.startswith("scenes_segmenter"):
        classes += 1  # the ground
    if name == "planted_words":
        classes = len(planted.PlantedWords.vocabulary)
    if TRAININGS.get(name, name) in captioner.BUILDERS:
        classes = len(captioner.Captioner.vocabulary)
    assert loaded.number_of_classes == classes


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet", "synthetic_shapes_cnn", "qr_cnn"])
def test_embedded_model_loads_with_committed_weights(name):
    loaded = load_model(model_config(name))
    kind = networks.KINDS[name]
    assert loaded.layer == LAYERS[name]
    assert loaded.weights == f"{name}.safetensors"
    assert loaded.classes == kind.classes
    assert loaded.preprocessing.crop == kind.space[0]
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_networks_of_signals_and_volumes_say_what_they_take(kind):
    loaded = load_model(model_config(f"{kind}_cnn"))
    expected = shapes.KINDS[kind]
    assert loaded.classes == expected.classes
    assert loaded.preprocessing.shape == (1, *expected.space)
    assert loaded.preprocessing.mean == (0.5,)
    planted_model = load_model(model_config(f"planted_and_{kind}"))
    assert planted_model.preprocessing.shape == (3, *expected.space)


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_is_its_network_with_other_weights(training):
    """Check that the weights, stored in float16, are used in float32.

    Only the weights of seed 0 have a fine-tuned copy.
    """
    name = TRAININGS[training]
    settings = model_config(name)
    expected = settings | {"name": training, "weights": training.removeprefix(f"{name}_")}
    if "finetuned" in settings:
        expected["finetuned"] = None
    assert model_config(training) == expected

    first = load_model(model_config(name))
    loaded = load_model(model_config(training))
    assert loaded.weights == f"{training}.safetensors"
    assert loaded.layer == first.layer
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
    assert loaded.weights_sha256 != first.weights_sha256


def test_a_training_that_is_not_there_is_told_with_those_that_are():
    message = r"no set of weights 'seed1000' of scenes_vgg; did you mean .*'seed1'"
    with pytest.raises(BenchError, match=message):
        load_model({**model_config("scenes_vgg"), "weights": "seed1000"})


def test_the_network_that_was_chosen_to_break_the_axioms_says_so():
    assert "chosen so that" in load_model(model_config("scenes_vgg")).note
    for other in (model_config("scenes_resnet"), {**model_config("scenes_vgg"), "weights": None}):
        assert load_model(other).note == ""


@pytest.mark.parametrize("name", PLANTED)
def test_planted_model_loads_with_the_weights_that_it_is_built_with(name):
    loaded = load_model(model_config(name))
    again = load_model(model_config(name))
    assert loaded.layer == "features"
    assert loaded.weights == "by construction"
    says_words = name == "planted_words"
    assert loaded.classes == (planted.PlantedWords.vocabulary if says_words else patches.CLASSES)
    assert loaded.weights_sha256 == again.weights_sha256
    assert loaded.random_weights is False
    with pytest.raises(BenchError, match=r"no set of weights .* of planted"):
        load_model({**model_config(name), "weights": "IMAGENET1K_V1"})


@pytest.mark.slow
def test_torchvision_names_compose_and_templates_require_architecture_and_weights():
    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(model_names())
    assert load_model(compose_model("squeezenet1_0", "model.weights=null")).layer == "features.12"
    # A file of conf/model/ wins over torchvision's name.
    assert compose_model("resnet101").weights == "IMAGENET1K_V1"
    description = "torchvision, 132.9 million parameters, weights IMAGENET1K_V1."
    assert classifiers()["vgg11_bn"] == description
    with pytest.raises(BenchError, match="no model 'vgg11bn'; did you mean 'vgg11_bn'"):
        model_config("vgg11bn")
    with pytest.raises(BenchError, match=r"architecture, weights must be given"):
        load_model(compose_model("user"))
    assert compose_model("timm", "model.architecture=resnet26d").name == "resnet26d"


@pytest.mark.slow
def test_a_name_of_timm_is_a_network_as_torchvisions_are():
    pytest.importorskip("timm")
    for name in ("test_vit", "test_vit.r160_in1k"):
        assert OmegaConf.to_container(compose_model(name)) == model_config(name)
        loaded = load_model(compose_model(name, "model.weights=null"))
        assert loaded.name == name
        assert loaded.layer == "blocks.5.norm1"
        assert loaded.reshape == "tokens"
        assert loaded.preprocessing.crop == 160
        assert loaded.number_of_classes == 1000
    assert model_config("vgg11")["source"] == "torchvision"
    assert model_config("resnet26d")["source"] == "timm"
    assert "test_vit" not in model_names()


@pytest.mark.slow
def test_a_name_near_one_of_timm_is_suggested():
    pytest.importorskip("timm")
    with pytest.raises(BenchError, match=r"no model 'tset_vit'; did you mean .*'test_vit'"):
        compose_model("tset_vit")
    message = r"no model 'zzzzqq'; there are \d+: alexnet, .*densenet121"
    with pytest.raises(BenchError, match=message) as refusal:
        notebook.load_model("zzzzqq")
    assert len(str(refusal.value)) < 300


def test_without_timm_an_unknown_name_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(spec, "timm_networks", frozenset)
    message = r"no model 'test_vit'.* timm needs timm: pip install '\.\[timm\]' in"
    for load in (compose_model, notebook.load_model):
        with pytest.raises(BenchError, match=message):
            load("test_vit")


def test_a_vision_transformer_of_torchvision_is_built_for_the_images_of_its_weights():
    settings = {"name": "vit_b_16", "source": "torchvision", "architecture": "vit_b_16"}
    for weights, side in (("IMAGENET1K_SWAG_E2E_V1", 384), ("default", 224), (None, 224)):
        source = find_source(ModelSpec.of({**settings, "weights": weights}))
        with torch.device("meta"):
            assert source.build().image_size == source.preprocessing.crop == side


@pytest.mark.slow
@pytest.mark.real
@ABSENT
def test_own_model_composes_and_loads():
    loaded = load_model(compose_model("own_model"))
    assert loaded.layer == "features.12"
    assert loaded.number_of_classes == 10
    assert loaded.classes[-1] == "n03888257"
    assert loaded.preprocessing.resize == (144, 144)
    assert loaded.preprocessing.crop == 128
    assert load_model(compose_model("own_model", "model.layer=last_relu")).layer == "features.11"


@pytest.mark.slow
@pytest.mark.real
@ABSENT
@pytest.mark.parametrize(
    ("name", "layer", "classes", "size", "values"),
    [
        ("vgg16_mri", "features.30", 4, (240, 240), (0, 1)),
        ("inception_v3_five", "mixed10", 5, (299, 299), (0, 1)),
        ("efficientnet_lite0", "_bn1", 1000, (224, 224), (-127 / 128, 1)),
    ],
)
def test_networks_of_other_sources_have_their_layer_and_preprocessing(
    name, layer, classes, size, values
):
    loaded = load_model(compose_model(name))
    assert loaded.layer == layer
    assert loaded.number_of_classes == classes
    assert loaded.preprocessing.size == size
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
    scaled = loaded.preprocessing.normalised(black_and_white)
    assert scaled[:, 0].tolist() == [pytest.approx(values, abs=1e-7)] * 3
