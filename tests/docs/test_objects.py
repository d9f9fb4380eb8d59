"""Tests that the examples of docs/objects.md run, and that its costs of drops can be measured."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import axiom_bench as ab
from axiom_bench.embedded import networks

PAGE = (Path(__file__).resolve().parents[2] / "docs/objects.md").read_text(encoding="utf-8")


def test_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "docs/objects.md", "exec"), names)
    assert len(names["heatmaps"]) == 2


def measured_drops(
    network: ab.BoxScores,
    layer: str,
    images: torch.Tensor,
    step: int = 1,
) -> tuple[int, float, float]:
    """Measure the drops of the most probable object of the first image.

    The page's table has `network = ab.load_model("fcos_resnet50_fpn", weights=None,
    resize=[128, 128])`, its layer `network.loaded.layer` and step 128, after
    `torch.nn.init.kaiming_uniform_` of each parameter of several axes.

    Returns:
        The number of channels; the largest error of each `step`-th channel's drop against passes in
        float64, as a share of the largest drop; the cost of all drops in passes of the image.
    """
    found = network.found(images, 0.0)[0][0]
    place = found.place[None]
    exact_network = copy.deepcopy(network).double()
    trace = ab.trace(network, layer, (images, place), [found.label])
    with FlopCounterMode(display=False) as drops_counter:
        drops = trace.ablation_drops[0]
    with FlopCounterMode(display=False) as pass_counter, torch.no_grad():
        network(images, place)

    def exact_score(channel: int | None) -> torch.Tensor:
        """Return the score with one channel set to zero, or with none."""

        def set_to_zero(_module: Any, _inputs: Any, maps: torch.Tensor) -> torch.Tensor:
            kept = torch.arange(maps.shape[1]) != (-1 if channel is None else channel)
            return maps * kept[:, None, None]

        target_layer = exact_network.module.get_submodule(layer)
        handle = target_layer.register_forward_hook(set_to_zero)
        with torch.no_grad():
            score = exact_network(images.double(), place.double())[0, found.label]
        handle.remove()
        return score

    score = exact_score(None)
    channels = range(0, len(drops), step)
    exact_drops = torch.stack([score - exact_score(channel) for channel in channels])
    error = (exact_drops - drops[::step]).abs().max() / drops.abs().max()
    cost = drops_counter.get_total_flops() / pass_counter.get_total_flops()
    return len(drops), float(error), cost


def test_drops_of_a_box_are_exact_and_cost_less_than_two_passes() -> None:
    detector = ab.BoxScores(networks.load("scenes_detector"))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 4 - 2
    channels, error, cost = measured_drops(detector, "features.13", images[:1])
    assert channels == 48
    assert error < 1e-5  # float32
    assert cost == pytest.approx(1.6, abs=0.05)
