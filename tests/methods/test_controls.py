"""Controls that wrap a method: against loops over numbers, and what they read."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from axiom_bench import methods
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.hires_cam import hires_cam
from axiom_bench.methods.negated import negated
from axiom_bench.methods.other_image import other_image
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.shuffled_channels import shuffled_channels
from axiom_bench.methods.xgrad_cam import xgrad_cam
from axiom_bench.testing import CASES, Case

TRACE = CASES["dense"].trace()


def test_negated_weights_and_maps():
    assert torch.equal(negated(TRACE), -xgrad_cam(TRACE))
    assert torch.equal(negated(TRACE, wrapped=hires_cam), -hires_cam(TRACE))
    answer = negated(TRACE, wrapped=saliency)
    assert isinstance(answer, Map)
    assert torch.equal(answer.raw, -saliency(TRACE).raw)


@pytest.mark.parametrize("wrapped", [xgrad_cam, hires_cam])
def test_shuffled_channels_is_a_drawn_order(wrapped):
    """One weight a channel, and one for each position; the order by hashlib and torch alone."""
    weights, actual = wrapped(TRACE), shuffled_channels(TRACE, wrapped=wrapped, seed=5)
    for i, image in enumerate(TRACE.images):
        seed = int(hashlib.sha256(b"5 " + image.float().numpy().tobytes()).hexdigest()[:16], 16)
        order = torch.randperm(4, generator=torch.Generator().manual_seed(seed)).tolist()
        assert sorted(order) == [0, 1, 2, 3]
        for channel, source in enumerate(order):
            assert torch.equal(actual[i, channel], weights[i, source])


def test_shuffled_channels_differs_by_image_and_seed():
    """With 400 channels two equal orders would be a mistake. Weights that count the channels show the order itself."""
    trace = Case(channels=400, size=(2, 2), rows=3).trace()

    def numbers(trace: Trace) -> torch.Tensor:
        return torch.arange(400.0)[None, :, None, None].expand(len(trace), -1, -1, -1)

    orders = torch.cat([shuffled_channels(trace, numbers, seed) for seed in (0, 1)]).flatten(1)
    assert all(sorted(order.tolist()) == list(range(400)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 6


def test_shuffled_channels_refuses_a_map():
    with pytest.raises(BenchError, match=r"without channel weights; wrap one such as xgrad_cam"):
        shuffled_channels(TRACE, wrapped=saliency)


@pytest.mark.parametrize("control", [negated, shuffled_channels])
def test_names_are_refused(control):
    with pytest.raises(BenchError, match=r"Invalid wrapped='xgrad_cam'; give a callable"):
        control(TRACE, wrapped="xgrad_cam")


@pytest.mark.parametrize("name", ["negated", "other_image", "shuffled_channels"])
def test_controls_are_marked_as_such(name):
    assert methods.get(name).spec.control


def test_other_image_is_the_map_of_another_image():
    """Of the class that the plain network predicts there."""
    model, others = CASES["dense"].model(), CASES["dense"].other_images()
    other = TRACE.again(images=others, targets=model(others).argmax(1))
    assert torch.equal(other_image(TRACE).raw, (xgrad_cam(other) * other.activations).sum(1))
    assert torch.equal(other_image(TRACE, wrapped=saliency).raw, saliency(other).raw)
    with pytest.raises(BenchError, match="explains another image of the data set, and there is none"):
        other_image(replace(TRACE, other_images=None))
