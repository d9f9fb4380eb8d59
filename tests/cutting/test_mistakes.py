"""Error messages for a wrong model, layer, images or targets; reprs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import axiom_bench as ab
from tests.cutting.conftest import InPlaceHead


@pytest.fixture
def model() -> nn.Module:
    return InPlaceHead().double()


def assert_short_message(error: pytest.ExceptionInfo[ab.BenchError]) -> None:
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (["conv"], r"Invalid layer: expected a dotted module name such as 'conv', not a list; cut one layer at a time"),
        (("conv", "fc"), r"not a tuple; cut one layer at a time"),
        (3, r"Invalid layer: expected a dotted module name .* not an int"),
        ("", r"There is no layer ''"),
    ],
)
def test_layer_of_wrong_type(model, layer, sentence):
    with pytest.raises(ab.BenchError, match=sentence) as error:
        ab.cut(model, layer)
    assert_short_message(error)


def test_error_for_a_module_as_layer_contains_its_name(model):
    with pytest.raises(ab.BenchError, match=r"not a Conv2d; its name is 'conv'") as error:
        ab.cut(model, model.conv)
    assert_short_message(error)
    with pytest.raises(ab.BenchError, match=r"not a Conv2d; it isn't part of this model") as error:
        ab.cut(model, nn.Conv2d(3, 3, 1))
    assert_short_message(error)


@pytest.mark.parametrize("wrong", ["resnet18", InPlaceHead, lambda images: images], ids=["name", "class", "function"])
def test_model_of_wrong_type(wrong):
    with pytest.raises(ab.BenchError, match=r"Invalid model: expected a torch\.nn\.Module, not") as error:
        ab.cut(wrong, "conv")
    assert_short_message(error)


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda images: (images,), "a tuple"),
        (lambda images: [images[0]], "a list"),
        (lambda images: {"images": images}, "a dict"),
        (lambda images: None, "None"),
    ],
)
def test_images_of_wrong_type(model, images, wrap, name):
    with pytest.raises(ab.BenchError, match=rf"Invalid images: expected a tensor \(B, 3, H, W\), not {name}") as error:
        ab.trace(model, "conv", wrap(images))
    assert_short_message(error)


def test_error_for_a_numpy_array_suggests_from_numpy(model, images):
    with pytest.raises(ab.BenchError, match=r"not a numpy\.ndarray; convert it with torch\.from_numpy") as error:
        ab.trace(model, "conv", np.asarray(images))
    assert_short_message(error)


@pytest.mark.parametrize("targets", [["cat", "dog", "cow"], "cat", {"a": 1}, torch.tensor([0.5, 1.0, 2.0]), [True] * 3])
def test_targets_of_wrong_type(model, images, targets):
    with pytest.raises(
        ab.BenchError, match=r"Invalid targets: expected one class index per image, .* integers"
    ) as error:
        ab.trace(model, "conv", images, targets)
    assert_short_message(error)


@pytest.mark.parametrize("targets", [[0, 3, 4], (0, 3, 4), np.array([0, 3, 4])])
def test_targets_may_be_a_sequence(model, images, targets):
    assert ab.trace(model, "conv", images, targets).targets.tolist() == [0, 3, 4]


def test_integer_index_of_a_trace_is_refused(model, images):
    trace = ab.trace(model, "conv", images)
    with pytest.raises(ab.BenchError, match=r"Invalid index 0 of a trace; give a slice, such as trace\[0:1\]"):
        trace[0]


def test_repr_is_one_line_of_shapes(model, images):
    cut_model = ab.cut(model, "conv", output="margin")
    trace = cut_model.trace(images)
    method = ab.methods.get("grad_cam")
    explanation = ab.Explanation.of(trace, method(trace), method=method)
    batch = ab.Batch(images, ("a", "b", "c"), trace.targets)
    expected = {
        "Trace(images (3, 3, 6, 6), activations (3, 4, 6, 6), logits (3, 5), layer 'conv', float64, cpu)": trace,
        "CutModel(InPlaceHead at 'conv', output 'margin', precision 'fp32', cpu)": cut_model,
        "Explanation(contributions (3, 4, 6, 6), raw_map (3, 6, 6), heatmap (3, 6, 6), images (3, 3, 6, 6), "
        "method 'grad_cam')": explanation,
        "Batch(images (3, 3, 6, 6), float64, cpu, 0 annotations)": batch,
    }
    for text, value in expected.items():
        assert repr(value) == text
    assert repr(replace(trace, num_padding=1)).endswith("cpu, num_padding 1)")
