"""The findings of `ab.check` about a network and its images: one line per question."""

import re

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.examination.examine import examine


class Normalised(nn.Module):
    """A network that normalises its images by itself and then runs `network`."""

    def __init__(self, network: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images / self.scale - 0.45) / 0.22)


def network(*end: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
        *end,
    )


def images(size: int = 32) -> Tensor:
    """Return images with values from 0 to 1."""
    return torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))


def levels_not_ok(
    model: nn.Module,
    inputs: Tensor,
    layer: str = "2",
    targets: Tensor | None = None,
) -> dict[str, str]:
    """Return the level of every question whose level isn't ok, and check that lines are single."""
    answers = ab.check(model, layer, inputs, targets)
    assert all("\n" not in str(answer) for answer in answers)
    return {answer.question: answer.level for answer in answers if answer.level != "ok"}


def test_each_answer_is_one_line() -> None:
    lines = [str(answer) for answer in ab.check(network(), "2", (images() - 0.45) / 0.22)]
    assert [line.partition(",")[0] for line in lines] == [
        "deterministic: ok",
        "batch: ok",
        "outputs: ok",
        "finite: ok",
        "layer: ok",
        "drops: ok",
        "same maps: ok",
        "input: ok",
    ]
    assert "8 maps of 7 x 7" in lines[4]
    drops = r"drops: ok, torch.fx follows the model: .* cost less than 0\.1 forward passes"
    assert re.fullmatch(drops, lines[5])
    assert "3 x 32 x 32 reach 0 with values from -2.05 to 2.5" in lines[7]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (network(), images() * 255),
        (network(), (images() * 255 - 0.45) / 0.22),
        (network(), images() / 255),
        (network(), (images() - 114.0) / 58.0),
        (Normalised(network()), (images() - 0.45) / 0.22),
        (Normalised(network()), images() * 255),
        (Normalised(network(), 255.0), images()),
    ],
)
def test_values_that_look_normalised_otherwise_are_noted(model: nn.Module, inputs: Tensor) -> None:
    layer = "network.2" if isinstance(model, Normalised) else "2"
    assert levels_not_ok(model, inputs, layer) == {"input": "note"}


def test_a_network_that_normalises_by_itself_takes_images_as_they_are() -> None:
    assert not levels_not_ok(Normalised(network()), images(), "network.2")
    assert not levels_not_ok(Normalised(network(), 255.0), images() * 255, "network.2")


def test_a_map_of_one_position_is_constant_and_an_earlier_layer_is_named() -> None:
    assert levels_not_ok(network(), images(), "4") == {"layer": "note"}
    with pytest.warns(UserWarning, match=r"maps of 1 x 1 for images of 32 x 32, .*; choose '3'"):
        maps = ab.explain(network(), "4", images(), ["hires_cam"])["hires_cam"]
    assert maps.flatten(1).std(1).max() < 1e-6
    assert not levels_not_ok(network(), images(), "3")


def test_images_without_finite_scores_are_counted() -> None:
    nan_image = torch.full((1, 3, 32, 32), torch.nan)
    levels = levels_not_ok(network(), torch.cat([images(), nan_image]))
    assert levels["finite"] == "note"


def test_what_a_network_returns_and_what_changes_it() -> None:
    assert levels_not_ok(network(nn.Softmax(1)), images()) == {"outputs": "note"}
    by_batch = network(nn.BatchNorm1d(4, track_running_stats=False))
    assert levels_not_ok(by_batch, images()) == {"deterministic": "stop"}


# A scale and a shift of pixel values from 0 to 1.
UNCHANGED = (1.0, 0.0)
BYTES = (255.0, 0.0)
NORMAL = (1 / 0.226, -0.449 / 0.226)  # the mean of ImageNet's three means and deviations
TWICE_NORMAL = (NORMAL[0] ** 2, NORMAL[1] * (NORMAL[0] + 1))


def network_of_greys(greys: Tensor) -> nn.Sequential:
    """Return a network whose highest logit is that of the grey nearest to the image's mean."""
    conv = nn.Conv2d(3, len(greys), 1)
    weights = greys * 2 / 3
    conv.weight.data.copy_(weights[:, None, None, None].expand(-1, 3, 1, 1))
    conv.bias.data.copy_(-(greys**2))
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("trained", "given", "meaning"),
    [
        (NORMAL, UNCHANGED, "normalised by ImageNet's mean and standard deviation"),
        (NORMAL, BYTES, "divided by 255 and normalised by ImageNet's mean and standard deviation"),
        (NORMAL, TWICE_NORMAL, "denormalised"),
        (UNCHANGED, BYTES, "divided by 255"),
        (BYTES, NORMAL, "denormalised and multiplied by 255"),
    ],
)
def test_another_range_of_pixels_that_fits_labels_better_is_a_stop(trained, given, meaning):
    """Check a network that recognises images by how grey they are.

    It was trained with pixels of the range `trained` and is given pixels of the range `given`.
    """
    trained_scale, trained_shift = trained
    given_scale, given_shift = given
    labels = torch.arange(40) % 8
    greys = torch.arange(8) / 8 + 1 / 16
    model = network_of_greys(greys * trained_scale + trained_shift)
    noise = (images(8)[:1] - 0.5) / 40
    pixels = greys[labels][:, None, None, None] + noise
    given_pixels = pixels * given_scale + given_shift

    answers = ab.check(model, "0", given_pixels, labels)

    (stop,) = [answer for answer in answers if answer.level == "stop"]
    assert f"40 of 40 images fit if values are {meaning}, and " in stop.sentence

    known_mean = (-given_shift / given_scale,) * 3
    known_std = (1 / given_scale,) * 3
    answers = examine(
        lambda: ab.trace(model, "0", given_pixels, labels),
        True,
        normalisation=(known_mean, known_std),
    )
    mean = "[0,0,0] model.std="
    if trained == NORMAL:
        mean = "[0.485,0.456,0.406] model.std=[0.229,0.224,0.225]"
    assert any(f"; set model.mean={mean}" in answer.sentence for answer in answers)

    right_pixels = pixels * trained_scale + trained_shift
    assert not any(answer.level == "stop" for answer in ab.check(model, "0", right_pixels, labels))
    # Four images are too few to tell.
    answers = ab.check(model, "0", given_pixels[:4], labels[:4])
    assert not any(answer.level == "stop" for answer in answers)


def test_labelled_signals_are_asked_for_no_range_of_pixels() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    answers = ab.check(model, "1", torch.randn(20, 3, 30), torch.arange(20) % 5)
    assert [answer.question for answer in answers][-2:] == ["input", "labels"]
