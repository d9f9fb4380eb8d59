"""Tests of copies that were fine-tuned on images without some of their pixels.

They check the images and losses of the training, and that the copies reach a given quality.
"""

import json

import pytest
import torch
import train_embedded
import train_masked as masked
from safetensors.torch import load_file

from axiom_bench.embedded import networks

pytestmark = pytest.mark.slow  # hundreds of images through both networks

MEASURED = json.loads(networks.weights_file("scenes_vgg").with_name("training.json").read_text())


def test_a_tenth_of_the_pixels_is_0_in_all_channels():
    torch.manual_seed(0)
    images = torch.ones(3, 3, 40, 25)
    left = masked.without_pixels(images, 0.1)
    assert left.sum((2, 3)).tolist() == [[900.0] * 3] * 3
    assert left[:, 0].equal(left[:, 1])
    assert left[:, 0].equal(left[:, 2])
    assert not left[0].equal(left[1])
    assert masked.without_pixels(images, 0).equal(images)


def test_the_loss_is_the_network_s_own_of_such_images():
    seen = []

    def loss(network, images, present):
        seen.append(images)
        return present.sum()

    value = masked.loss_without_pixels(loss, None, torch.ones(2, 3, 20, 20), torch.ones(2, 10))
    assert value == 20
    assert (seen[0] == 0).sum() == 2 * 3 * 40


@pytest.mark.parametrize("name", masked.LOSSES)
def test_copies_reach_the_bar(name):
    """Measure 300 scenes again. The standard error of an accuracy of 0.995 is 0.004."""
    reached = MEASURED[f"{name}_masked"]
    for part in ("validation", "test"):
        values = reached[part]
        assert values["accuracy"] >= values["network_accuracy"] - 0.01
        assert values["accuracy_without_pixels"] >= values["accuracy"] - 0.02
        assert values["accuracy_without_pixels"] > values["network_accuracy_without_pixels"]
    network = networks.BUILDERS[name]().eval()
    network.load_state_dict(load_file(networks.weights_files(name)["masked"]))
    drawn = train_embedded.draw_presence(masked.RECIPE, "evaluation", 300, 0)
    for measure, value in masked.accuracies(network, *drawn, "").items():
        assert value == pytest.approx(reached["test"][measure], abs=0.015)
    assert networks.weights_files(name)["masked"].stat().st_size <= 500_000
