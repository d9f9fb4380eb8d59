"""Tests that the embedded detector and segmenter are small, can be traced by torch.fx, and are as
good as training.json says.
"""

import json

import pytest
import torch
import train_dense
from torch import nn

from axiom_bench.embedded import networks

NAMES = sorted(train_dense.RECIPES)
FILES = {name: list(networks.weights_files(name).values()) for name in NAMES}
MEASURED = json.loads(networks.weights_file("scenes_vgg").with_name("training.json").read_text())


def test_the_detector_gives_boxes_around_its_positions():
    network = networks.load("scenes_detector")
    boxes, logits = network(torch.randn(2, 3, 96, 96))
    assert (boxes.shape, logits.shape) == ((2, 180, 4), (2, 180, 10))
    centres_of_positions = []
    for step in (8, 16):
        centres = [step * (place + 0.5) for place in range(96 // step)]
        centres_of_positions += [(x, y) for y in centres for x in centres]
    centres = torch.tensor(centres_of_positions)
    assert (boxes[..., :2] < centres).all()
    assert (centres < boxes[..., 2:]).all()


def test_the_segmenter_gives_maps_of_the_digits_and_the_ground():
    assert networks.load("scenes_segmenter")(torch.randn(2, 3, 96, 96)).shape == (2, 11, 96, 96)


@pytest.mark.parametrize("name", NAMES)
def test_fx_follows_the_network_to_maps_of_its_last_relu(name):
    network = networks.load(name)
    images = torch.randn(2, 3, 96, 96)
    shapes = []
    traced = torch.fx.symbolic_trace(network)
    layer = network.get_submodule(networks.LAYERS[name])
    layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    for first, second in zip(network(images), traced(images), strict=True):
        assert torch.equal(first, second)
    assert [shape[2:] for shape in shapes[:1]] == [(12, 12)]
    assert isinstance(layer, nn.ReLU)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NAMES)
def test_five_trainings_are_small_and_reach_the_bar(name):
    title, bar = {"scenes_detector": ("mAP", 0.85), "scenes_segmenter": ("mIoU", 0.75)}[name]
    seeds = [f"{name}_seed{seed}" for seed in range(1, 5)]
    assert [file.stem for file in FILES[name]] == [name, *seeds]
    for file in FILES[name]:
        assert file.stat().st_size <= 500_000
        assert min(MEASURED[file.stem][part][title] for part in ("validation", "test")) >= bar
    sizes_by_network = [sum(file.stat().st_size for file in FILES[name]) for name in NAMES]
    assert sum(sizes_by_network) <= 3_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_json_is_measured_again(name):
    """Measure the first 200 of the 2,000 scenes again.

    With 200 scenes the standard error of either measure is below 0.01.
    """
    recipe = train_dense.RECIPES[name]
    measured = recipe.measure(networks.load(name), *recipe.draw("evaluation", 200, 0))
    assert measured == pytest.approx(MEASURED[name]["test"][recipe.title], abs=0.03)


def test_average_precision_and_suppression_by_hand():
    """Two objects are found at ranks 1 and 3.

    Half of the recall has a precision of 1, and half has 2 / 3.
    """
    found = [(0.7, True), (0.9, True), (0.8, False)]
    assert train_dense.average_precision(found, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert train_dense.average_precision(found, 4) == pytest.approx((1 + 2 / 3) / 4)
    # The pairs have an IoU of 9 / 11, 1 / 4 and 1 / 3.
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [6, 0, 16, 10]])
    assert train_dense.suppressed(boxes, torch.tensor([0.2, 0.9, 0.5])) == [1, 2]
