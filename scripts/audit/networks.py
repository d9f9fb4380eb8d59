"""The networks that the audit explains: tiny ones in small integers, and trained ones on their own images."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from omegaconf import OmegaConf
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.data.base import subset
from axiom_bench.data.loading import batches
from axiom_bench.data.registry import load_dataset
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.spec import model_config

REAL_ROOT = Path(os.environ.get("AXIOM_BENCH_REAL", Path(__file__).resolve().parents[3] / "shared"))
PHOTOGRAPHS = "own_model"  # the trained network that has photographs below REAL_ROOT
SCENES = 64  # drawn, of which the first audit chose its images
COUNT = 50  # photographs


@dataclass(frozen=True)
class Network:
    """A network in eval mode, its target layer, images (B, 3, H', W') and the classes to explain (B,)."""

    title: str
    model: nn.Module
    layer: str
    images: Tensor
    targets: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H', W')."""
        return self.images.shape[-2], self.images.shape[-1]

    @cached_property
    def trace(self) -> ab.Trace:
        """Of all images; made on first use."""
        return ab.trace(self.model, self.layer, self.images, self.targets)

    def in_float64(self) -> Network:
        """A copy of type float64."""
        return replace(self, model=copy.deepcopy(self.model).double(), images=self.images.double())

    def copied(self) -> Network:
        """The same with a copy of the model, on which a library may leave something."""
        return replace(self, model=copy.deepcopy(self.model))


def tiny() -> Network:
    """Two 2 x 2 maps and a ReLU head in small integers, float64: its values can be computed by hand."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2))
    values: list[list[object]] = [
        [[[[1]], [[0]], [[0]]], [[[0]], [[1]], [[0]]]],  # F_1 = relu(red + 1), F_2 = relu(green)
        [1, 0],
        [[1, 1, 1, 1, 0, 1, 0, 0], [1, -1, 0, 1, -1, 0, 2, 0], [-1, 0, -1, 0, 0, 0, 0, -1]],
        [0, -1, 1],
        [[2, -1, 5], [1, 2, 0]],
        [1, 0],
    ]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    first = [[[0, -1], [1, 0]], [[0, 3], [1, 0]], [[0, 0], [0, 0]]]  # F_1 = 1 0 / 2 1, F_2 = 0 3 / 1 0
    second = [[[1, 0], [2, -1]], [[2, 0], [0, 1]], [[1, 1], [0, 0]]]
    images = torch.tensor([first, second], dtype=torch.float64)
    return Network("tiny", model.double().eval(), "1", images, torch.tensor([0, 0]))


def check_tiny(network: Network) -> None:
    """Compare the first image's trace and weights with values computed by hand. Raises AssertionError.

    h = (7, 3, 0) and S = 2 * 7 - 3 + 1; g = 2 W_1 - W_2, since the third ReLU is off.
    """
    trace = network.trace[:1]
    assert trace.scores.tolist() == [12]
    assert trace.gradients.tolist() == [[[[1, 3], [2, 1]], [[1, 2], [-2, 0]]]]
    assert trace.ablation_drops.tolist() == [[12 - 11, 12 - 8]]
    by_hand = {"grad_cam": [7 / 4, 1 / 4], "xgrad_cam": [6 / 4, 4 / 4], "ablation_cam": [1 / 12, 4 / 12]}
    for name, weights in by_hand.items():
        expected = torch.tensor(weights, dtype=torch.float64)
        torch.testing.assert_close(ab.methods.get(name)(trace).flatten(), expected)


def tiny_pooled() -> Network:
    """The tiny network's layer before global average pooling and one linear layer, for CAM."""
    network, head = tiny(), nn.Linear(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1, 2], [-1, 1]]))
    convolution, relu, *_ = network.model.children()
    model = nn.Sequential(convolution, relu, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return replace(network, title="tiny, pooled", model=model.eval())


def with_layer(network: Network, place: int, bias: float) -> Network:
    """The tiny network with weights of 0 and this bias in one of its layers."""
    changed = network.copied()
    weight, biases = list(changed.model.children())[place].parameters()
    nn.init.zeros_(weight)
    nn.init.constant_(biases, bias)
    return changed


def loaded(name: str, count: int) -> tuple[LoadedModel, ab.Batch]:
    """A named network and a batch of its own images: photographs below REAL_ROOT, or scenes."""
    config: dict[str, Any] = {"real_root": str(REAL_ROOT), "model": model_config(name)}
    settings = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    assert isinstance(settings, dict)
    model, root = load_model(settings["model"]), str(REAL_ROOT / name / "images")
    photographs = {"kind": "imagenet", "root": root, "classes": settings["model"]["classes"]}
    images = load_dataset(photographs if name == PHOTOGRAPHS else {"kind": "scenes", "size": SCENES})
    rows = batches(images, subset(images, count, 0), model.preprocessing, "label", count, 0)
    return model, next(row for row in rows if isinstance(row, ab.Batch))


def trained(name: str, count: int) -> Network:
    """A trained network at its default layer with its own images, float32."""
    model, batch = loaded(name, count)
    assert batch.targets is not None
    return Network(f"{name} at {model.layer}", model.module, model.layer, batch.images, batch.targets)


@cache
def explained() -> Network:
    """The user's network with its photographs, or an embedded one with scenes where REAL_ROOT is absent; float64."""
    return trained(PHOTOGRAPHS if (REAL_ROOT / PHOTOGRAPHS).is_dir() else "scenes_vgg", COUNT).in_float64()


@cache
def embedded(layer: str, side: int) -> Network:
    """scenes_resnet at a layer, explaining what it predicts for the photographs resized to `side` pixels; float64."""
    model, images = trained("scenes_resnet", 1).model, explained().images.float()
    resized = functional.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    with torch.no_grad():
        targets = model(resized).argmax(1)
    return Network(f"scenes_resnet at {layer}, {side} x {side} pixels", model, layer, resized, targets).in_float64()
