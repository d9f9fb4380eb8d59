"""What `ab.check` finds about a network and its images: one line for each question."""

import re

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.examination.examine import examine


class Normalised(nn.Module):
    """By mean and deviation, as a network that takes images as they are."""

    def __init__(self, network: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images / self.scale - 0.45) / 0.22)


def network(*end: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    body = (
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return nn.Sequential(*body, nn.Linear(8, 4), *end)


def images(size: int = 32) -> Tensor:
    """In 0 to 1."""
    return torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))


def found(
    model: nn.Module, inputs: Tensor, layer: str = "2", targets: Tensor | None = None
) -> dict[str, str]:
    """{question: level} of all that isn't ok."""
    answers = ab.check(model, layer, inputs, targets)
    assert all("\n" not in str(answer) for answer in answers)
    return {answer.question: answer.level for answer in answers if answer.level != "ok"}


def test_each_answer_is_one_line() -> None:
    lines = [str(answer) for answer in ab.check(network(), "2", (images() - 0.45) / 0.22)]
    assert [line.partition(",")[0] for line in lines] == [
        "deterministic: ok", "batch: ok", "outputs: ok", "finite: ok", "layer: ok", "drops: ok", "input: ok",
    ]  # fmt: skip
    assert "8 maps of 7 x 7" in lines[4]
    assert re.fullmatch(
        r"drops: ok, torch.fx follows the model: .* cost less than 0\.1 forward passes", lines[5]
    )
    assert "3 x 32 x 32 reach 0 with values from -2.05 to 2.5" in lines[6]


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
    assert found(model, inputs, layer) == {"input": "note"}


def test_a_network_that_normalises_by_itself_takes_images_as_they_are() -> None:
    assert not found(Normalised(network()), images(), "network.2")
    assert not found(Normalised(network(), 255.0), images() * 255, "network.2")


def test_a_map_of_one_position_is_constant_and_an_earlier_layer_is_named() -> None:
    assert found(network(), images(), "4") == {"layer": "note"}
    with pytest.warns(UserWarning, match=r"maps of 1 x 1 for images of 32 x 32, .*; choose '3'"):
        maps = ab.explain(network(), "4", images(), ["hires_cam"])["hires_cam"]
    assert maps.flatten(1).std(1).max() < 1e-6
    assert not found(network(), images(), "3")


def test_images_without_finite_scores_are_counted() -> None:
    assert (
        found(network(), torch.cat([images(), torch.full((1, 3, 32, 32), torch.nan)]))["finite"]
        == "note"
    )


def test_what_a_network_returns_and_what_changes_it() -> None:
    assert found(network(nn.Softmax(1)), images()) == {"outputs": "note"}
    assert found(network(nn.BatchNorm1d(4, track_running_stats=False)), images()) == {
        "deterministic": "stop"
    }


BYTES, NORMAL = (255.0, 0.0), (1 / 0.226, -0.449 / 0.226)  # the mean of ImageNet's three


@pytest.mark.parametrize(
    ("trained", "given", "meaning"),
    [
        (NORMAL, (1.0, 0.0), "normalised by ImageNet's mean and standard deviation"),
        (NORMAL, BYTES, "divided by 255 and normalised by ImageNet's mean and standard deviation"),
        (NORMAL, (NORMAL[0] ** 2, NORMAL[1] * (NORMAL[0] + 1)), "denormalised"),
        ((1.0, 0.0), BYTES, "divided by 255"),
        (BYTES, NORMAL, "denormalised and multiplied by 255"),
    ],
)
def test_another_range_of_pixels_that_fits_labels_better_is_a_stop(trained, given, meaning):
    """Of a network that names images by how grey they are."""
    labels, greys, conv = torch.arange(40) % 8, torch.arange(8) / 8 + 1 / 16, nn.Conv2d(3, 8, 1)
    conv.weight.data.copy_(
        ((greys * trained[0] + trained[1]) * 2 / 3)[:, None, None, None].expand(-1, 3, 1, 1)
    )
    conv.bias.data.copy_(-((greys * trained[0] + trained[1]) ** 2))
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels = greys[labels][:, None, None, None] + (images(8)[:1] - 0.5) / 40
    (found,) = (
        each
        for each in ab.check(model, "0", pixels * given[0] + given[1], labels)
        if each.level == "stop"
    )
    assert f"40 of 40 images fit if values are {meaning}, and " in found.sentence
    known = ((-given[1] / given[0],) * 3, (1 / given[0],) * 3)
    answers = examine(
        lambda: ab.trace(model, "0", pixels * given[0] + given[1], labels),
        True,
        normalisation=known,
    )
    mean = (
        "[0.485,0.456,0.406] model.std=[0.229,0.224,0.225]"
        if trained == NORMAL
        else "[0,0,0] model.std="
    )
    assert any(f"; set model.mean={mean}" in each.sentence for each in answers)
    for rows, (scale, shift) in ((40, trained), (4, given)):  # what fits, and too few to tell
        answers = ab.check(model, "0", (pixels * scale + shift)[:rows], labels[:rows])
        assert not any(each.level == "stop" for each in answers)


def test_labelled_signals_are_asked_for_no_range_of_pixels() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 5)
    )
    answers = ab.check(model, "1", torch.randn(20, 3, 30), torch.arange(20) % 5)
    assert [each.question for each in answers][-2:] == ["input", "labels"]
