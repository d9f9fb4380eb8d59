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
        (["conv"], r"A layer is a dotted module name, as 'conv', not a list; cut one layer at a time"),
        (("conv", "fc"), r"not a tuple; cut one layer at a time"),
        (3, r"A layer is a dotted module name, .* not an int"),
        ("", r"There is no layer ''"),
    ],
)
def test_layer_of_wrong_type(model, layer, sentence):
    with pytest.raises(ab.BenchError, match=sentence) as error:
        ab.cut(model, layer)
    assert_short_message(error)


def test_error_for_a_module_as_layer_contains_its_name(model):
    with pytest.raises(ab.BenchError, match=r"not a Conv2d; this one's name is 'conv'") as error:
        ab.cut(model, model.conv)
    assert_short_message(error)
    with pytest.raises(ab.BenchError, match=r"not a Conv2d; this model doesn't hold it") as error:
        ab.cut(model, nn.Conv2d(3, 3, 1))
    assert_short_message(error)


@pytest.mark.parametrize("wrong", ["resnet18", InPlaceHead, lambda images: images], ids=["name", "class", "function"])
def test_model_of_wrong_type(wrong):
    with pytest.raises(ab.BenchError, match=r"A model is a torch\.nn\.Module, not") as error:
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
    with pytest.raises(ab.BenchError, match=rf"Images are a tensor \(B, 3, H, W\), not {name}") as error:
        ab.trace(model, "conv", wrap(images))
    assert_short_message(error)


def test_error_for_a_numpy_array_suggests_from_numpy(model, images):
    with pytest.raises(ab.BenchError, match=r"not a numpy\.ndarray; torch\.from_numpy makes one of it") as error:
        ab.trace(model, "conv", np.asarray(images))
    assert_short_message(error)


@pytest.mark.parametrize("targets", [["cat", "dog", "cow"], "cat", {"a": 1}, torch.tensor([0.5, 1.0, 2.0]), [True] * 3])
def test_targets_of_wrong_type(model, images, targets):
    with pytest.raises(ab.BenchError, match=r"Targets are one class index per image, .* integers") as error:
        ab.trace(model, "conv", images, targets)
    assert_short_message(error)


@pytest.mark.parametrize("targets", [[0, 3, 4], (0, 3, 4), np.array([0, 3, 4])])
def test_targets_may_be_a_sequence(model, images, targets):
    assert ab.trace(model, "conv", images, targets).targets.tolist() == [0, 3, 4]


def test_integer_index_of_a_trace_is_refused(model, images):
    trace = ab.trace(model, "conv", images)
    with pytest.raises(ab.BenchError, match=r"a slice of a trace, as trace\[0:1\] .* not trace\[0\]"):
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
