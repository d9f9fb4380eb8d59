"""Error messages for a wrong model, layer, images or targets; reprs; images of any number of
channels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

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


def assert_refused(sentence: str, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(ab.BenchError, match=sentence) as error:
        call(*arguments)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


NAME = r"Invalid layer: expected a dotted module name"


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (["conv"], rf"{NAME} such as 'conv', not a list; cut one layer at a time"),
        (("conv", "fc"), r"not a tuple; cut one layer at a time"),
        (3, rf"{NAME} .* not an int"),
        ("", r"There is no layer ''"),
        ("covn", r"There is no layer 'covn'; did you mean 'conv'\?"),
        (nn.Conv2d(3, 3, 1), r"not a Conv2d; it isn't part of this model"),
    ],
)
def test_an_invalid_layer_is_one_short_sentence(model, layer, sentence):
    assert_refused(sentence, ab.cut, model, layer)


def test_a_layer_itself_is_refused_with_its_name(model):
    assert_refused(r"not a Conv2d; its name is 'conv'", ab.cut, model, model.conv)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("fc", r"The layer 'fc' gives shape \(1, 5\), not maps"),
        ("unused", r"never calls the layer 'unused'"),
    ],
)
def test_a_layer_without_maps_is_one_short_sentence(model, images, layer, sentence):
    model.unused = nn.Conv2d(3, 3, 1)
    assert_refused(sentence, ab.trace, model, layer, images)


@pytest.mark.parametrize("wrong", ["resnet18", nn.Conv2d, lambda images: images])
def test_an_invalid_model_is_one_short_sentence(wrong):
    assert_refused(r"Invalid model: expected a torch\.nn\.Module, not", ab.cut, wrong, "conv")


def test_an_unknown_precision_is_one_short_sentence(model):
    cut = partial(ab.cut, precision="fp16")
    assert_refused(r"There is no precision 'fp16'", cut, model, "conv")


IMAGES = r"Invalid images: expected a tensor \(B, 3, H, W\), not "


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda images: (images,), IMAGES + "a tuple"),
        (lambda images: [images[0]], IMAGES + "a list"),
        (lambda images: {"images": images}, IMAGES + "a dict"),
        (lambda images: None, IMAGES + "None"),
        (lambda images: images[0], r"Invalid images: expected \(B, 3, H, W\)"),
        (lambda images: images.numpy(), r"a numpy\.ndarray; .* with torch\.from_numpy"),
    ],
)
def test_invalid_images_are_one_short_sentence(model, images, change, sentence):
    assert_refused(sentence, ab.trace, model, "conv", change(images))


TARGETS = r"Invalid targets: expected one class index per image, .* integers"


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (["cat", "dog", "cow"], TARGETS),
        ("cat", TARGETS),
        ({"a": 1}, TARGETS),
        (torch.tensor([0.5, 1.0, 2.0]), TARGETS),
        ([True] * 3, TARGETS),
        (1, r"not the shape \(\); give \[1\] \* 3"),
        (torch.eye(5).long()[:3], r"give targets\.argmax\(1\)"),
        ([0, 1], r"\(3,\) integers, not .* shape \(2,\)"),
    ],
)
def test_invalid_targets_are_one_short_sentence(model, images, targets, sentence):
    assert_refused(sentence, ab.trace, model, "conv", images, targets)


def test_a_network_without_logits_is_one_short_sentence(images):
    sentence = r"Network returns shape \(1, 4, 16\) for one image, not"
    assert_refused(sentence, ab.trace, flattened(), "conv", images)


def test_an_index_of_a_trace_is_one_short_sentence(model, images):
    trace = ab.trace(model, "conv", images)
    assert_refused(r"Invalid index 0 of a trace; .* such as trace\[0:1\]", trace.__getitem__, 0)


def test_targets_may_be_a_sequence(model, images):
    for targets in ([0, 3, 4], (0, 3, 4), np.array([0, 3, 4])):
        assert ab.trace(model, "conv", images, targets).targets.tolist() == [0, 3, 4]


def test_repr_is_one_line_of_shapes(model, images):
    cut_model = ab.cut(model, "conv", output="margin")
    trace = cut_model.trace(images)
    method = ab.methods.get("grad_cam")
    explanation = ab.Explanation.of(trace, method(trace), method=method)
    batch = ab.Batch(images, ("a", "b", "c"), trace.targets)
    assert repr(trace) == (
        "Trace(images (3, 3, 6, 6), activations (3, 4, 6, 6), logits (3, 5), layer 'conv', "
        "float64, cpu)"
    )
    assert repr(replace(trace, num_padding=1)).endswith("cpu, num_padding 1)")
    assert repr(cut_model) == "CutModel(Network at 'conv', output 'margin', precision 'fp32', cpu)"
    assert repr(explanation) == (
        "Explanation(contributions (3, 4, 6, 6), raw_map (3, 6, 6), heatmap (3, 6, 6), "
        "images (3, 3, 6, 6), method 'grad_cam')"
    )
    assert repr(batch) == "Batch(images (3, 3, 6, 6), float64, cpu, 0 annotations)"


@pytest.mark.parametrize(
    "channels",
    [5, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)],
)
def test_images_of_any_number_of_channels(channels):
    """Every method and metric accepts such images."""
    torch.manual_seed(0)
    first = [nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]
    network = nn.Sequential(*first, *second, *classifier)
    network.double().eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, channels, 16, 16, generator=generator, dtype=torch.float64)
    names = [name for name in methods.names() if methods.get(name).spec.library is None]
    batches = [ab.Batch(images, ("a", "b"), torch.tensor([0, 3]), other_images=images.flip(0))]
    two_metrics = ["sensitivity_error_raw", build.with_fewer("deletion_auc")]
    table = ab.evaluate(network, "3", batches, map(plain.with_fewer, names), two_metrics)
    assert set(table["method"]) == set(names)
    assert "not_applicable" not in set(table["status"])
    all_metrics = map(build.with_fewer, metrics.names())
    table = ab.evaluate(network, "3", batches, ["xgrad_cam"], all_metrics)
    measured = table[table["status"] == "ok"]
    assert {"deletion_auc", "infidelity", "road_morf", "sensitivity_n"} <= set(measured["metric"])
    noisy = with_params("method", "ss_cam", {"noise": "input"})
    assert noisy(ab.trace(network, "3", images)).shape == (2, 6, 1, 1)


def first_part() -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 5)).double()


def frames_first(net, x):
    return net.part(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


def channels_first(net, x):
    frames = x.transpose(1, 2).flatten(0, 1)
    return net.part(frames).unflatten(0, (len(x), -1)).amax(1)


def frame_by_frame(net, x):
    return torch.stack([net.part(frame) for frame in x.unbind(2)]).mean(0)


def crops_first(net, x):
    return sum(net.part(crop) for crop in x)


@pytest.mark.parametrize(
    ("forward", "shape", "expression"),
    [
        (frames_first, (2, 4, 3, 6, 6), "images[:, 0]"),
        (channels_first, (2, 3, 4, 6, 6), "images[:, :, 0]"),
        (frame_by_frame, (2, 3, 5, 6, 6), "images[:, :, 0]"),
        (crops_first, (5, 2, 3, 6, 6), "images[:, 0]"),
    ],
)
def test_clips_and_crops_are_explained_one_at_a_time(forward, shape, expression):
    network = Network(forward, part=first_part())
    images = torch.rand(shape, dtype=torch.float64)
    with pytest.raises(ab.BenchError) as error:
        ab.trace(network, "part.0", images)
    assert f"explain one frame or crop of each, {expression}, by the part" in str(error.value)
    assert str(error.value).endswith("network.get_submodule('part').")
    one = images[:, 0] if expression == "images[:, 0]" else images[:, :, 0]
    assert ab.trace(network.get_submodule("part"), "0", one).activations.shape[1] == 4


def test_clips_for_a_network_of_images_become_images():
    clips = torch.rand(2, 4, 3, 6, 6, dtype=torch.float64)
    with pytest.raises(ab.BenchError, match=r"give images\.flatten\(0, 1\)\.$"):
        ab.trace(first_part(), "0", clips)
    assert len(ab.trace(first_part(), "0", clips.flatten(0, 1))) == 8


def test_clips_of_channels_first_become_images():
    clips = torch.rand(2, 3, 4, 6, 6, dtype=torch.float64)
    with pytest.raises(ab.BenchError, match=r"give images\.transpose\(1, 2\)\.flatten\(0, 1\)\.$"):
        ab.trace(first_part(), "0", clips)
    assert len(ab.trace(first_part(), "0", clips.transpose(1, 2).flatten(0, 1))) == 8


@pytest.mark.parametrize("name", ["text", "input_ids"])
def test_a_network_that_takes_texts_is_refused_with_the_setting_of_captions(name):
    """CLIP's networks compare images with texts."""
    net = flattened()
    source = f"def forward(images, {name}=None):\n    return {name}.shape"
    functions: dict[str, object] = {}
    exec(source, functions)
    net.forward = functions["forward"]
    with pytest.raises(
        ab.BenchError, match=r"takes texts with its images.*model\.kwargs\.captions"
    ):
        ab.explain(net, None, torch.rand(1, 3, 16, 16), ["grad_cam"])
