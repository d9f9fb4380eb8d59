"""axiom_bench.models.load: four sources, their weights and preprocessing, and error messages."""

import hashlib
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from axiom_bench.data.layouts.classes import network_class_names
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.spec import model_config
from axiom_bench.models.user_code import import_function
from axiom_bench.models.weights import state_sha256
from tests.models.builders import filled

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
OWN = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Shape:
    width: int = 4

def build(width: int = 4, classes: int = 3) -> nn.Module:
    shape = Shape(width)
    return nn.Sequential(
        nn.Conv2d(3, shape.width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(shape.width, classes),
    )

def trained() -> nn.Module:
    network = build()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    return network

def beside() -> tuple[nn.Module, str]:
    return nn.DataParallel(trained()), "a transform"

def needs(n):
    return build(classes=n)

def script():
    return __import__("torch").jit.script(build())

def nothing() -> int:
    return 3

def raises() -> nn.Module:
    raise RuntimeError("not today")
"""


TIMM = {"name": "t", "source": "timm", "architecture": "mobilenetv3_small_050", "weights": None}


def squeezenet(**settings: Any) -> LoadedModel:
    defaults = {"name": "squeezenet1_1", "source": "torchvision", "weights": None}
    return load_model({**defaults, **settings})


@pytest.fixture
def own_network(tmp_path):
    """The settings of a user's network, which is a function in a file."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "relative.py").write_text("from .mine import build\n")
    (tmp_path / "raises.py").write_text("def build():\n    return 1\n1 / 0\n")
    return {
        "name": "mine",
        "source": "user",
        "architecture": f"{tmp_path / 'mine.py'}:build",
        "weights": None,
    }


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """The folder of torch's downloads, which is empty and can't be filled without a connection."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.slow
def test_random_weights_depend_on_the_seed_only():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = squeezenet()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = squeezenet()
    other = squeezenet(seed=1)

    assert first.weights_sha256 == again.weights_sha256 == state_sha256(again.module.state_dict())
    assert other.weights_sha256 != first.weights_sha256
    assert first.weights == "random, seed 0"
    assert other.weights == "random, seed 1"
    assert first.layer == "features.12"
    assert first.number_of_classes == 1000
    assert not any(module.training for module in first.module.modules())


def test_configuration_overrides_the_preprocessing_of_the_weights():
    assert squeezenet().preprocessing == Preprocessing(256, 224, MEAN, STD, "bilinear")
    changed = squeezenet(
        resize=[128, 96],
        crop=96,
        interpolation="bicubic",
        mean=[0.5, 0.5, 0.5],
    )
    assert changed.preprocessing == Preprocessing((128, 96), 96, (0.5, 0.5, 0.5), STD, "bicubic")
    # Hydra's node, whose interpolations refer to settings outside it.
    model_settings = {"name": "s", "source": "torchvision", "weights": None}
    root = OmegaConf.create({"size": 64, "model": model_settings})
    root.model.merge_with({"architecture": "squeezenet1_1", "crop": "${size}"})
    assert load_model(root.model).preprocessing.crop == 64


@pytest.mark.slow
def test_preprocessing_of_published_weights_and_of_files(no_network, tmp_path):
    """Check the sizes of MobileNetV2's weights.

    The second weights want 232 pixels and the first ones 256, which is the standard for a file
    from elsewhere.
    """
    state = torchvision.models.mobilenet_v2().state_dict()
    file = tmp_path / "mobilenet_v2.pth"
    torch.save(state, file)
    no_network.mkdir(parents=True)
    for member in torchvision.models.MobileNet_V2_Weights:
        shutil.copy(file, no_network / Path(member.url).name)
    cfg = {"name": "v2", "source": "torchvision", "architecture": "mobilenet_v2", "crop": 64}
    expected = {
        "MobileNet_V2_Weights.IMAGENET1K_V2": ({}, 232),
        "MobileNet_V2_Weights.IMAGENET1K_V1": ({"weights": "IMAGENET1K_V1"}, 256),
        "mobilenet_v2.pth": ({"weights_folder": str(tmp_path)}, 256),
    }
    for weights, (settings, resize) in expected.items():
        loaded = load_model({**cfg, **settings})
        assert loaded.weights == weights
        assert loaded.preprocessing.resize == resize
        assert loaded.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert state_sha256(loaded.module.state_dict()) == state_sha256(state)
    assert load_model({**cfg, "weights": str(file)}).preprocessing.resize == 256


def test_a_folder_of_published_weights_hides_no_embedded_ones(tmp_path):
    loaded = load_model({**model_config("scenes_vgg_seed1"), "weights_folder": str(tmp_path)})
    assert loaded.weights == "scenes_vgg_seed1.safetensors"


def test_failed_download_error_message(no_network):
    message = (
        r"squeezenet1_1 can't be downloaded .*no route.*weights_folder to .* or model\.weights=null"
    )
    with pytest.raises(BenchError, match=message):
        squeezenet(weights="default")


@pytest.mark.slow
def test_timm_loads_in_a_process_that_has_not_imported_torchvision():
    """Check that timm can import torchvision next to a CPU-only torch.

    torchvision's compiled operators may fail to load there.
    """
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    code = f"from axiom_bench.models.load import load_model; print(load_model({TIMM}).layer)"
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stdout == "blocks\n", process.stderr


@pytest.mark.slow
def test_timms_failed_download_says_what_to_do(monkeypatch):
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    create = timm.create_model

    def offline(name: str, pretrained: bool, **kwargs: Any) -> Any:
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    message = r"50 can't be downloaded .*no route.*weights_folder to .* or model\.weights="
    with pytest.raises(BenchError, match=message):
        load_model({**TIMM, "weights": "default"})


@pytest.mark.slow
def test_inception_rescales_its_input():
    """Check that `transform_input` is on, which a local copy of torchvision's file needs too.

    torchvision switches it on only for weights that it loads itself.
    """
    loaded = load_model({"name": "inception_v3", "source": "torchvision", "weights": None})
    assert loaded.module.transform_input
    assert "AuxLogits.fc.weight" in loaded.module.state_dict()
    assert loaded.layer == "Mixed_7c"
    assert loaded.preprocessing.resize == 342
    assert loaded.preprocessing.crop == 299


def test_user_network_from_a_file_and_from_a_module(own_network, tmp_path, monkeypatch):
    wide_network = {**own_network, "kwargs": {"width": 6}}
    loaded = load_model({**wide_network, "classes": ["a", "b", "c"], "resize": 20})
    assert loaded.layer == "1"
    assert loaded.number_of_classes == 3
    assert loaded.classes == ("a", "b", "c")
    assert loaded.preprocessing == Preprocessing(20, None, MEAN, STD)

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for architecture in ("mine:build", "mine.build"):
        by_module = load_model({**wide_network, "architecture": architecture})
        assert by_module.weights_sha256 == loaded.weights_sha256

    file = tmp_path / "best.ckpt"  # a less common suffix
    torch.save(loaded.module.state_dict(), file)
    from_file = load_model({**wide_network, "weights": str(file)})
    assert from_file.weights == "best.ckpt"
    assert state_sha256(from_file.module.state_dict()) == loaded.weights_sha256


@pytest.mark.slow
def test_timm(monkeypatch):
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    loaded = load_model(TIMM)
    assert loaded.preprocessing == Preprocessing(256, 224, MEAN, STD, "bicubic")
    assert loaded.layer == "blocks"
    assert loaded.number_of_classes == 1000
    with pytest.raises(
        BenchError, match=r"no tag 'a1_in1k' of the weights of .*; did you mean 'bt_in1k'"
    ):
        load_model({**TIMM, "architecture": "resnet26d.a1_in1k"})
    with pytest.raises(BenchError, match=r"no timm model 'resnett26d'; did you mean 'resnet26d'"):
        load_model({**TIMM, "architecture": "resnett26d"})
    transformer = load_model({**TIMM, "architecture": "vit_tiny_patch16_224"})
    assert transformer.layer == "blocks.11.norm1"
    assert transformer.reshape == "tokens"
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BenchError, match=r"pip install '\.\[timm\]' in axiom-bench's checkout"):
        load_model(TIMM)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "squeezenet1_2"},
            r"no torchvision classifier 'squeezenet1_2'; did you mean 'squeezenet1_1'",
        ),
        ({"source": "torchvison"}, "no model source 'torchvison'; did you mean 'torchvision'"),
        ({"weight": "x.pth"}, "no model setting 'weight'; did you mean 'weights'"),
        ({"weights": "IMAGENET1K_V9"}, "did you mean 'IMAGENET1K_V1'"),
        ({"weights": "absent.pth"}, r"absent\.pth is not a file; set model\.weights=FILE"),
        (
            {"weights": "default", "weights_folder": "absent"},
            r"absent/squeezenet1_1\.safetensors is not a file",
        ),
        ({"weights": "???"}, r'weights must be given; set "model\.weights=FILE"$'),
        (
            {"kwargs": {"captions": "???"}},
            r"must be given; set \"model\.kwargs\.captions=\[a cat,a dog\]\"$",
        ),
        ({"weights": "${absent}"}, "settings can't be read"),
        ({"source": None}, r"no source; set model\.source"),
        ({"crop": "large"}, "crop must be a side in pixels, 1 to 10000 or null, not 'large'"),
        ({"resize": [1, 2, 3]}, "resize must be pixels"),
        (
            {"mean": [0.5, 0.5]},
            "mean must be three numbers, .* or one for a network of grey images",
        ),
        (
            {"mean": [0.5]},
            "1 mean and 3 standard deviations; give three of each .* or ab.evaluate",
        ),
        ({"interpolation": "cubic"}, "no interpolation 'cubic'"),
        (
            {"classes": ["tench"], "kwargs": {"num_classes": 3}},
            "names 1 class, and squeezenet1_1 has 3 logits",
        ),
        ({"kwargs": {"depth": 3}}, "can't be built with model.kwargs"),
        ({"layer": "features.13"}, "no layer 'features.13'; did you mean .*'features.12'"),
        ({"crop": 8}, "can't run on one RGB image of 8x8 pixels"),
        ({"source": "embedded", "architecture": "scenes_vg"}, "no embedded model 'scenes_vg'"),
    ],
)
def test_error_messages(settings, message):
    with pytest.raises(BenchError, match=message):
        squeezenet(**settings)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("{folder}/mine.py:biuld", "no function 'biuld' in .*; did you mean 'build'"),
        ("{folder}/other.py:build", "can't be imported"),
        ("no_such_module:build", "can't be imported"),
        ("build", "names no function"),
        ("{folder}/raises.py:build", "can't be imported .ZeroDivisionError"),
        ("{folder}/mine.py:raises", "can't be built with model.kwargs={}: RuntimeError: not today"),
        ("{folder}/mine.py", "names no function"),
        ("{folder}/mine.py:needs", r"argument: 'n'; set model\.kwargs\.n=VALUE"),
        ("{folder}/mine.py:script", "A TorchScript model can't be cut"),
        (
            "{folder}/relative.py:build",
            r"as a part of its package, model\.architecture=.*\.relative:build, from",
        ),
        ("{folder}/mine.py:nothing", "must return an nn.Module, not an int"),
    ],
)
def test_user_network_error_messages(own_network, tmp_path, architecture, message):
    with pytest.raises(BenchError, match=message):
        load_model({**own_network, "architecture": architecture.format(folder=tmp_path)})
    names = [name for name in sys.modules if name.startswith("axiom_bench_user_")]
    assert not [name for name in names if "raises" in name]
    with pytest.raises(BenchError, match=r"no weights called 'default'; set model\.weights"):
        load_model({**own_network, "weights": "default"})


def test_a_network_in_half_precision_one_in_place_of_a_function_and_modules_beside_the_file(
    own_network, tmp_path
):
    (tmp_path / "beside_mine.py").write_text("from mine import build\n")
    (tmp_path / "other.py").write_text(
        "from beside_mine import build\nhalf = lambda: build().half()\nnet = build()\n"
    )
    network = load_model(own_network).module
    for name in ("half", "net"):
        architecture = f"{tmp_path / 'other.py'}:{name}"
        module = load_model({**own_network, "architecture": architecture}).module
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert module.state_dict().keys() == network.state_dict().keys()


def test_files_of_the_same_name_are_different_modules(tmp_path):
    builds = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(f"def build():\n    return {folder!r}\n")
        builds.append(import_function(f"{tmp_path}/{folder}/net.py:build"))
    assert [build() for build in builds] == ["first", "second"]
    assert [sys.modules[build.__module__].build for build in builds] == builds


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "googlenet"]
)
def test_a_fine_tuned_network_is_built_with_the_classes_of_its_file(tmp_path, name):
    """Check files without auxiliary heads too.

    torchvision's googlenet drops its auxiliary heads after loading its weights.
    """
    tuned = filled(name, num_classes=5)
    state = tuned.state_dict()
    kept_names = [key for key in state if not key.startswith("aux")]
    kept_state = {key: state[key] for key in kept_names}
    torch.save({"model": kept_state}, tmp_path / "mine.pth")
    settings = {
        "name": name,
        "source": "torchvision",
        "weights": str(tmp_path / "mine.pth"),
        "crop": 64,
    }

    loaded = load_model(settings | {"classes": 5})

    assert loaded.number_of_classes == 5
    assert loaded.random_weights is False
    assert "num_classes=5, as mine.pth has it" in loaded.lines[0]
    note = loaded.lines[-1]
    assert (
        "you haven't set mean and std, so images are normalised by those of torchvision's" in note
    )
    mean = list(loaded.preprocessing.mean)
    assert f"set model.mean={mean} model.std=".replace(", ", ",") in note
    given = settings | {"mean": [0.5] * 3, "std": [0.5] * 3, "classes": 5}
    assert not any("normalised" in line for line in load_model(given).lines)
    loaded_state = loaded.module.state_dict()
    assert all(torch.equal(loaded_state[key], tensor) for key, tensor in kept_state.items())
    with pytest.raises(BenchError, match=f"model.classes names 4 classes, and {name} has 5 logits"):
        load_model(settings | {"classes": ["a", "b", "c", "d"]})


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"draw": 1}, {"std": [0.25] * 3}])
def test_a_user_s_network_of_timm_keeps_its_own_mean_and_std(tmp_path, settings):
    (tmp_path / "net.py").write_text(
        "import timm\ndef build():\n    return timm.create_model('vit_tiny_patch16_224')\n"
    )
    architecture = f"{tmp_path}/net.py:build"
    loaded = load_model(
        {"name": "mine", "source": "user", "architecture": architecture, "weights": "as_built"}
        | {"resize": [224, 224], **settings}
    )
    assert loaded.preprocessing.mean == (0.5,) * 3
    assert loaded.preprocessing.std == tuple(settings.get("std", (0.5,) * 3))
    (note,) = [line for line in loaded.lines if "normalised" in line]
    assert "are normalised by those in its pretrained_cfg; set model.mean=[0.5,0.5,0.5]" in note


def test_a_last_layer_of_another_form_is_the_user_s_own_network(tmp_path):
    tuned = torchvision.models.squeezenet1_1()
    tuned.classifier[1] = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Conv2d(512, 5, 1))
    torch.save(tuned.state_dict(), tmp_path / "mine.pth")
    message = (
        r"classifier\.1\.weight is missing, unexpected: classifier\.1\.1\.weight.* set model=user "
        r"model\.arch"
    )
    with pytest.raises(BenchError, match=message):
        squeezenet(weights=str(tmp_path / "mine.pth"))


def test_random_weights_have_as_many_classes_as_are_configured():
    assert squeezenet(classes=3).number_of_classes == 3
    assert squeezenet(classes=["a", "b"]).classes == ("a", "b")


@pytest.mark.parametrize("weights", [None, "as_built"])
@pytest.mark.parametrize(
    ("function", "is_random"), [("build", True), ("trained", False), ("beside", False)]
)
def test_weights_that_a_function_has_loaded_are_not_random(
    own_network, weights, function, is_random
):
    architecture = own_network["architecture"].replace(":build", f":{function}")
    settings = {"architecture": architecture, "weights": weights, "mean": MEAN, "std": STD}
    loaded = load_model(own_network | settings)
    assert loaded.random_weights == (is_random and weights is None)
    assert loaded.weights == ("random, seed 0" if loaded.random_weights else "as built")
    assert loaded.weights_sha256 == state_sha256(loaded.module.state_dict())
    lines = [] if is_random else [line for line in loaded.lines if "as_built" in line]
    assert [*loaded.lines] == lines


HEAD = """
from types import SimpleNamespace
from torch import nn

def build(names):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    network[0].config = SimpleNamespace(id2label=names)
    return network
"""


@pytest.mark.parametrize(
    ("names", "file", "expected"),
    [
        # transformers' form
        ({0: "cat", 1: "dog", 2: "cow"}, None, ("cat", "dog", "cow")),
        # transformers writes these for classes without names
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, None, None),
        # names of another head
        ({0: "cat", 1: "dog"}, None, None),
        (
            {0: "cat", 1: "dog", 2: "cow"},
            "golden retriever\n\n  crane bird \nn01443537 goldfish, Carassius auratus\n",
            ("golden retriever", "crane bird", "goldfish, Carassius auratus"),
        ),
    ],
)
def test_names_of_a_user_s_classes(tmp_path, names, file, expected):
    """Check that `model.classes` may be a file, and that it wins over the network's own names."""
    (tmp_path / "net.py").write_text(HEAD)
    names_file = tmp_path / "names.txt"
    config = {
        "name": "n",
        "source": "user",
        "architecture": f"{tmp_path / 'net.py'}:build",
        "weights": None,
        "kwargs": {"names": names},
    }
    if file:
        names_file.write_text(file)
        config["classes"] = str(names_file)

    assert load_model(config).classes == expected
    with pytest.raises(BenchError, match=r"model\.classes: there is no file 'nowhere\.txt'"):
        load_model(config | {"classes": "nowhere.txt"})
    names_file.write_text("one\ntwo\n")
    with pytest.raises(BenchError, match=r"model\.classes names 2 classes, and n has 3 logits"):
        load_model(config | {"classes": str(names_file)})
    config |= {"classes": str(names_file)}
    assert load_model(config | {"background": 0}).classes == ("background", "one", "two")
    assert load_model(config | {"background": -1}).classes == ("one", "two", "background")


NAMED = {  # the suffix of a file and its content
    "list": (".json", '["cat", "dog", "cow"]'),
    "by index": (".json", '{"2": "cow", "0": "cat", "1": "dog"}'),
    "by name": (".json", '{"dog": 1, "cow": 2, "cat": 0}'),
    "Keras's": (".json", '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "cow"]}'),
    "a column": (".csv", "name\ncat\ndog\ncow\n"),
    "a table": (".csv", "id,name,count\n1,dog,5\n0,cat,7\n2,cow,9\n"),
    "without a heading": (".csv", "cat,0\ndog,1\ncow,2\n"),
}


@pytest.mark.parametrize("form", NAMED)
def test_classes_named_as_people_name_them(tmp_path, form):
    suffix, text = NAMED[form]
    file = tmp_path / f"names{suffix}"
    file.write_text(text)
    assert network_class_names(str(file)) == ("cat", "dog", "cow")
    file.write_text(text.replace("2", "3"))
    if "2" in text:
        with pytest.raises(BenchError, match="must number its classes from 0 on"):
            network_class_names(str(file))


@pytest.mark.slow
def test_names_of_the_weights_classes():
    """Check that the names are used only if the network has as many logits.

    timm's ImageNet names are WordNet's.
    """
    assert squeezenet().classes[1] == "goldfish"
    assert squeezenet(kwargs={"num_classes": 7}).classes is None
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    assert load_model(TIMM).classes[1] == "goldfish, Carassius auratus"
    assert load_model(TIMM | {"kwargs": {"num_classes": 7}}).classes is None
