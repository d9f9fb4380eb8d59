"""Error messages for a wrong model, layer, images or targets; reprs; images of any number of
channels.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.evaluation.plugins import with_params
from tests.cutting.conftest import Network, in_place_head
from tests.methods import plain
from tests.metrics import build


@pytest.fixture
def model() -> nn.Module:
    return in_place_head().double()


def flattened() -> nn.Module:
    """Returns neither logits nor maps."""
    return Network(lambda net, x: net.conv(x).flatten(2), conv=nn.Conv2d(3, 4, 3)).double()


NAME = r"Invalid layer: expected a dotted module name"
IMAGES = r"Invalid images: expected a tensor \(B, 3, H, W\), not "
TARGETS = r"Invalid targets: expected one class index per image, .* integers"
# (what a user calls with the model and the images, the sentence that it gets)
MISTAKES: list[tuple[Callable[[nn.Module, Tensor], object], str]] = [
    (
        lambda model, _: ab.cut(model, ["conv"]),
        rf"{NAME} such as 'conv', not a list; cut one layer at a time",
    ),
    (lambda model, _: ab.cut(model, ("conv", "fc")), r"not a tuple; cut one layer at a time"),
    (lambda model, _: ab.cut(model, 3), rf"{NAME} .* not an int"),
    (lambda model, _: ab.cut(model, ""), r"There is no layer ''"),
    (lambda model, _: ab.cut(model, "covn"), r"There is no layer 'covn'; did you mean 'conv'\?"),
    (lambda model, _: ab.cut(model, model.conv), r"not a Conv2d; its name is 'conv'"),
    (
        lambda model, _: ab.cut(model, nn.Conv2d(3, 3, 1)),
        r"not a Conv2d; it isn't part of this model",
    ),
    (
        lambda model, images: ab.trace(model, "fc", images),
        r"The layer 'fc' gives shape \(1, 5\), not maps",
    ),
    (lambda model, images: ab.trace(model, "unused", images), r"never calls the layer 'unused'"),
    (lambda *_: ab.cut("resnet18", "conv"), r"Invalid model: expected a torch\.nn\.Module, not"),
    (lambda *_: ab.cut(nn.Conv2d, "conv"), r"Invalid model: expected a torch\.nn\.Module, not"),
    (
        lambda *_: ab.cut(lambda images: images, "conv"),
        r"Invalid model: expected a torch\.nn\.Module, not",
    ),
    (lambda model, _: ab.cut(model, "conv", precision="fp16"), r"There is no precision 'fp16'"),
    (lambda model, images: ab.trace(model, "conv", (images,)), IMAGES + "a tuple"),
    (lambda model, images: ab.trace(model, "conv", [images[0]]), IMAGES + "a list"),
    (lambda model, images: ab.trace(model, "conv", {"images": images}), IMAGES + "a dict"),
    (lambda model, _: ab.trace(model, "conv", None), IMAGES + "None"),
    (
        lambda model, images: ab.trace(model, "conv", images[0]),
        r"Invalid images: expected \(B, 3, H, W\)",
    ),
    (
        lambda model, images: ab.trace(model, "conv", images.numpy()),
        r"a numpy\.ndarray; .* with torch\.from_numpy",
    ),
    *(
        (lambda model, images, wrong=wrong: ab.trace(model, "conv", images, wrong), TARGETS)
        for wrong in (
            ["cat", "dog", "cow"],
            "cat",
            {"a": 1},
            torch.tensor([0.5, 1.0, 2.0]),
            [True] * 3,
        )
    ),
    (
        lambda model, images: ab.trace(model, "conv", images, 1),
        r"not the shape \(\); give \[1\] \* 3",
    ),
    (
        lambda model, images: ab.trace(model, "conv", images, torch.eye(5).long()[:3]),
        r"give targets\.argmax\(1\)",
    ),
    (
        lambda model, images: ab.trace(model, "conv", images, [0, 1]),
        r"\(3,\) integers, not .* shape \(2,\)",
    ),
    (
        lambda _, images: ab.trace(flattened(), "conv", images),
        r"Network returns shape \(1, 4, 16\) for one image, not",
    ),
    (
        lambda model, images: ab.trace(model, "conv", images)[0],
        r"Invalid index 0 of a trace; .* such as trace\[0:1\]",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), MISTAKES)
def test_a_mistake_is_one_short_sentence(model, images, call, sentence):
    model.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(ab.BenchError, match=sentence) as error:
        call(model, images)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_targets_may_be_a_sequence(model, images):
    for targets in ([0, 3, 4], (0, 3, 4), np.array([0, 3, 4])):
        assert ab.trace(model, "conv", images, targets).targets.tolist() == [0, 3, 4]


def test_repr_is_one_line_of_shapes(model, images):
    cut_model = ab.cut(model, "conv", output="margin")
    trace = cut_model.trace(images)
    method = ab.methods.get("grad_cam")
    explanation = ab.Explanation.of(trace, method(trace), method=method)
    batch = ab.Batch(images, ("a", "b", "c"), trace.targets)
    expected = {
        (
            "Trace(images (3, 3, 6, 6), activations (3, 4, 6, 6), logits (3, 5), layer 'conv', "
            "float64, cpu)"
        ): trace,
        "CutModel(Network at 'conv', output 'margin', precision 'fp32', cpu)": cut_model,
        "Explanation(contributions (3, 4, 6, 6), raw_map (3, 6, 6), heatmap (3, 6, 6), images (3, "
        "3, 6, 6), "
        "method 'grad_cam')": explanation,
        "Batch(images (3, 3, 6, 6), float64, cpu, 0 annotations)": batch,
    }
    for text, value in expected.items():
        assert repr(value) == text
    assert repr(replace(trace, num_padding=1)).endswith("cpu, num_padding 1)")


@pytest.mark.parametrize(
    "channels", [5, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))]
)
def test_images_of_any_number_of_channels(channels):
    """Every method and metric takes them."""
    torch.manual_seed(0)
    body = [
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
    ]
    network = (
        nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double().eval()
    )
    images = torch.randn(
        2, channels, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    names = [name for name in methods.names() if methods.get(name).spec.library is None]
    batches = [ab.Batch(images, ("a", "b"), torch.tensor([0, 3]), other_images=images.flip(0))]
    two = ["sensitivity_error_raw", build.with_fewer("deletion_auc")]
    table = ab.evaluate(network, "3", batches, map(plain.with_fewer, names), two)
    assert set(table["method"]) == set(names)
    assert "not_applicable" not in set(table["status"])
    every_metric = ab.evaluate(
        network, "3", batches, ["xgrad_cam"], map(build.with_fewer, metrics.names())
    )
    measured = every_metric[every_metric["status"] == "ok"]
    assert {"deletion_auc", "infidelity", "road_morf", "sensitivity_n"} <= set(measured["metric"])
    noisy = with_params("method", "ss_cam", {"noise": "input"})
    assert noisy(ab.trace(network, "3", images)).shape == (2, 6, 1, 1)


def first_part() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).double()


CLIPS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], tuple[int, ...], str]] = {
    "frames first": (
        lambda net, x: net.part(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1),
        (2, 4, 3, 6, 6),
        "images[:, 0]",
    ),
    "channels first": (
        lambda net, x: net.part(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).amax(1),
        (2, 3, 4, 6, 6),
        "images[:, :, 0]",
    ),
    "a loop": (
        lambda net, x: torch.stack([net.part(frame) for frame in x.unbind(2)]).mean(0),
        (2, 3, 5, 6, 6),
        "images[:, :, 0]",
    ),
    "crops first": (
        lambda net, x: sum(net.part(crop) for crop in x),
        (5, 2, 3, 6, 6),
        "images[:, 0]",
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clips_and_crops_are_explained_one_at_a_time(name):
    forward, shape, expression = CLIPS[name]
    network = Network(forward, part=first_part())
    images = torch.rand(shape, dtype=torch.float64)
    with pytest.raises(ab.BenchError) as error:
        ab.trace(network, "part.0", images)
    assert f"explain one frame or crop of each, {expression}, by the part" in str(error.value)
    assert str(error.value).endswith("network.get_submodule('part').")
    one = images[:, 0] if expression == "images[:, 0]" else images[:, :, 0]
    assert ab.trace(network.get_submodule("part"), "0", one).activations.shape[1] == 4


@pytest.mark.parametrize(
    ("shape", "call"),
    [((2, 4, 3, 6, 6), ".flatten(0, 1)"), ((2, 3, 4, 6, 6), ".transpose(1, 2).flatten(0, 1)")],
)
def test_clips_for_a_network_of_images_become_images(shape, call):
    images = torch.rand(shape, dtype=torch.float64)
    with pytest.raises(ab.BenchError) as error:
        ab.trace(first_part(), "0", images)
    assert str(error.value).endswith(f"give images{call}.")
    flat = (
        images.flatten(0, 1) if call == ".flatten(0, 1)" else images.transpose(1, 2).flatten(0, 1)
    )
    assert len(ab.trace(first_part(), "0", flat)) == 8
