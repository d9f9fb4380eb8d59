"""Tests of the images and classes that `explain`, `evaluate`, `check` and `trace` take in Python.

They also check the warnings about images and maps.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.notes import ZeroMaps

METHODS = ["grad_cam"]
METRICS = ["sensitivity_error"]
SIDE = 96


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return ab.load_model("scenes_resnet")


@pytest.fixture(autouse=True)
def photo(tmp_path, monkeypatch) -> Image.Image:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (80, SIDE, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    image.save("photo.png")
    return image


def pixels(*shape: int) -> Tensor:
    """Return random pixels of 0 to 1, without a shape two images."""
    return torch.rand(shape or (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


class Classifier(nn.Module):
    """A network whose scores depend only on the means of its activations.

    All weights of its last layer have the given sign.
    """

    def __init__(self, outputs: int = 3, more: int = 0, sign: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6 + more, outputs)
        self.head.weight.data.abs_().mul_(sign)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


class WithAge(Classifier):
    def forward(self, image: Tensor, age: Tensor) -> Tensor:
        return self.head(torch.cat([self.features(image).mean((2, 3)), age], 1))


class Probability(Classifier):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).sigmoid()[:, 0]


ALL = ("explain", "check", "evaluate")
PHOTOGRAPHS = ("explain", "check")  # `evaluate` takes only batches of tensors
# The functions that take the images, the model (or None for `network`), images and targets.
CASES = {
    "a tensor": (ALL, None, pixels(), None),
    "a name, and a list of classes": (ALL, "scenes_resnet", pixels(), [1, 2]),
    "a tensor of classes": (ALL, None, pixels(), torch.tensor([1, 2])),
    "a tuple": (ALL, WithAge(3, 1), (pixels(), pixels(2, 1)), [0, 1]),
    "a dict": (ALL, WithAge(3, 1), {"image": pixels(), "age": pixels(2, 1)}, None),
    "one image, and a class's name": (PHOTOGRAPHS, None, pixels(3, SIDE, SIDE), "digit 3"),
    "one class for all": (PHOTOGRAPHS, None, pixels(), 3),
    "a path": (PHOTOGRAPHS, None, "photo.png", None),
    "a list of paths, and names of classes": (
        PHOTOGRAPHS,
        None,
        [Path("photo.png")] * 2,
        ["digit 3", "digit 1"],
    ),
    "an array of bytes": (PHOTOGRAPHS, None, np.zeros((80, SIDE, 3), np.uint8), [1]),
    "an array of floats": (PHOTOGRAPHS, None, pixels(80, SIDE, 3).numpy(), [1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_check_takes_what_explain_and_evaluate_take(network, name):
    functions, model, images, targets = CASES[name]
    model = model or network
    with warnings.catch_warnings(action="ignore"):
        maps = ab.explain(model, None, images, METHODS, targets)
        for layer in (None, maps.layer):
            answers = ab.check(model, layer, images, targets)
            questions = {answer.question for answer in answers}
            assert questions >= {"deterministic", "outputs", "layer", "input"}
            assert ("labels" in questions) == (targets is not None)
        if "evaluate" in functions:
            values = ab.evaluate(model, None, [(images, targets)], METHODS, METRICS)
            assert len(values) == len(maps["grad_cam"])


def test_check_preprocesses_a_photograph_as_explain_does(network, photo):
    for form in (photo, "photo.png"):
        answers = [answer for answer in ab.check(network, None, form) if answer.question == "input"]
        (answer,) = answers
        assert answer.level == "ok"
        assert "values from -1.9" in answer.sentence

    def halve(image: Image.Image) -> Tensor:
        return network.loaded.preprocessing(image) / 2

    answers = ab.check(network, None, photo, preprocessing=halve)
    assert any("values from -0.9" in answer.sentence for answer in answers)


# Functions that warn about pixels. The last two take longer, and call the same check.
WARNING: tuple[Callable[[nn.Module, Tensor], object], ...] = (
    lambda network, images: ab.trace(network, "layer4", images),
    lambda network, images: ab.cut(network, "layer4").trace(images),
    lambda network, images: ab.explain(network, None, images, METHODS),
    lambda network, images: ab.evaluate(network, None, [(images, None)] * 2, METHODS, METRICS),
)


def sentences_about_pixels(
    network: nn.Module, images: Tensor, num_functions: int = len(WARNING)
) -> list[list[str]]:
    """Return the warnings about pixels of each of the first functions of WARNING, and the notes of
    `check`.
    """
    sentences = []
    for function in WARNING[:num_functions]:
        with warnings.catch_warnings(record=True, action="always") as caught:
            function(network, images)
        messages = [str(warning.message) for warning in caught]
        sentences.append([message for message in messages if "pixels" in message])
    with warnings.catch_warnings(action="error"):
        answers = ab.check(network, None, images)
    answers = [answer for answer in answers if answer.question == "input"]
    sentences.append([answer.sentence for answer in answers if answer.level == "note"])
    return sentences


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "scale", "num_functions"),
    [
        (pixels(), "0 to 1 ", 4),
        (pixels() * 0.4, "0 to 1 ", 1),  # dark
        # darker than black and brighter than white, which a bicubic resize can produce
        (pixels() * 1.1 - 0.05, "0 to 1 ", 1),
        (pixels()[:, :1].expand(-1, 3, -1, -1), "0 to 1 ", 1),
        ((pixels() * 255).round(), "0 to 255 ", 1),
    ],
)
def test_pixels_without_the_known_normalisation_are_noted_once_and_the_advice_works(
    network, images, scale, num_functions
):
    white = 1 if scale == "0 to 1 " else 255
    expected = (images / white - 0.5) / 0.25
    for sentences in sentences_about_pixels(network, images, num_functions):
        (sentence,) = sentences
        assert f"as pixels of {scale}do" in sentence
        assert "normalised by its mean and standard deviation" in sentence
        advice = sentence.partition("; give ")[2].removesuffix(".")
        before = images.clone()
        normalised = eval(advice, {"model": network, "images": images})
        torch.testing.assert_close(normalised, expected)
        assert torch.equal(images, before)
    assert sentences_about_pixels(network, normalised, 1) == [[], []]


@pytest.mark.parametrize(
    ("settings", "images", "num_functions"),
    [
        ({}, (pixels() - 0.5) / 0.25, 4),
        ({}, ((140 + 40 * pixels()).round() / 255 - 0.5) / 0.25, 1),  # a pale picture
        ({}, torch.zeros(2, 3, SIDE, SIDE), 1),
        ({}, torch.full((2, 3, SIDE, SIDE), 0.7), 1),
        ({}, pixels() * 0.09, 1),  # a normalised picture of little contrast
        ({"mean": [0, 0, 0], "std": [1, 1, 1]}, pixels(), 1),
    ],
)
def test_normalised_images_are_not_noted(settings, images, num_functions):
    network = ab.load_model("scenes_resnet", **settings)
    sentences = sentences_about_pixels(network, images, num_functions)
    assert sentences == [[]] * (num_functions + 1)


@pytest.mark.slow
def test_a_network_of_bytes_takes_them_and_no_pixels_of_0_to_1():
    network = ab.load_model("scenes_resnet", mean=[0, 0, 0], std=[1 / 255] * 3)
    with warnings.catch_warnings(action="error"):
        ab.trace(network, "layer4", pixels() * 255)
        ab.explain(network, None, pixels() * 255, METHODS)
        with pytest.raises(UserWarning, match="as pixels of 0 to 1 do"):
            ab.trace(network, "layer4", pixels())


def test_pixels_of_a_network_whose_normalisation_nobody_knows_are_not_noted(network):
    with warnings.catch_warnings(action="error"):
        ab.explain(nn.Sequential(network), None, pixels(), METHODS)
        ab.trace(Classifier(), "features", pixels())
        ab.explain(network, None, Image.new("RGB", (SIDE, SIDE), (150, 160, 170)), METHODS)


@pytest.mark.parametrize("network", [Classifier(1, sign=-1.0), Probability(1, sign=-1.0)])
def test_maps_of_one_logit_that_are_zero_name_the_output_that_has_two_classes(network):
    with pytest.warns(ZeroMaps, match="output=both.*def both.*class 0") as caught:
        assert not ab.explain(network, None, pixels(), METHODS)["grad_cam"].any()

    messages = [str(warning.message) for warning in caught]
    message = next(message for message in messages if "def both" in message)
    source = message[message.index("def both") : message.index(", and explain")]
    names = {"torch": torch}
    exec(source, names)
    maps = ab.explain(network, None, pixels(), METHODS, targets=0, output=names["both"])
    assert maps["grad_cam"].flatten(1).any(1).all()
    with pytest.raises(ab.BenchError, match=r"Invalid target 1; .*def both"):
        ab.explain(network, None, pixels(), METHODS, targets=1)


NETWORK_OF_ONE_LOGIT = """
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def both(logits):
    return torch.stack([-logits, logits], 1).reshape(len(logits), 2, -1).mean(2)
"""


def test_names_of_two_classes_of_one_logit_are_answered_with_the_output_that_has_them():
    Path("net.py").write_text(NETWORK_OF_ONE_LOGIT)
    settings = {
        "architecture": "net.py:build",
        "weights": "as_built",
        "resize": [32, 32],
        "layer": "0",
    }

    sentence = r"names 2 classes, and .* 1 logit. To explain both .*def both"
    with pytest.raises(ab.BenchError, match=sentence):
        ab.load_model("user", **settings, classes=["cat", "dog"])

    network = ab.load_model("user", **settings)
    sentence = r"no class 'dog' .*its one class is 0. To explain both"
    with pytest.raises(ab.BenchError, match=sentence):
        ab.explain(network, "0", pixels(), METHODS, targets="dog")

    network = ab.load_model("user", **settings, classes=["cat", "dog"], output="net.py:both")
    assert ab.explain(network, "0", pixels(), METHODS, targets="dog").classes == ("cat", "dog")


def test_all_maps_zero_is_a_warning_in_python():
    sentence = "All maps at the layer 'features.1' are zero; choose another layer "
    with pytest.warns(UserWarning, match=sentence):
        ab.explain(Classifier(2, sign=-1.0), None, pixels(), METHODS)


def explain(network: nn.Module) -> None:
    ab.explain(network, None, pixels(), METHODS)


def evaluate(network: nn.Module) -> None:
    ab.evaluate(network, None, [(pixels(), None)], METHODS, METRICS)


@pytest.mark.parametrize("function", [explain, evaluate])
def test_a_last_layer_of_zeros_is_named(function):
    """Check a last layer of zeros, which torchvision's vision transformers have at first."""
    network = Classifier()
    nn.init.zeros_(network.head.weight)
    with pytest.warns(UserWarning, match="all weights of 'head' are zero, .*weights='default'"):
        function(network)
