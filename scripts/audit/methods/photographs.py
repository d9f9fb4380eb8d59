"""How often photographs meet a case that isn't a difference of a pair: one function a case."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench as ab

from ..libraries import quiet
from ..networks import Network

POOLS = ((2, 2), (3, 2))  # kernel and stride
ADDS_UP = 1e-6  # of the scores' difference: float64 sums are exact to 1e-12


def eigen_sign(network: Network) -> str:
    """grad-cam's own projection of the layer, and of the layer with its channels in another order."""
    project = importlib.import_module("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection
    F = network.trace.activations
    order = torch.randperm(F.shape[1], generator=torch.Generator().manual_seed(0))
    maps, turned = project(F.numpy()), project(F[:, order].numpy())
    against = sum(float((a * b).sum()) < 0 for a, b in zip(maps, turned, strict=True))
    raw_map = ab.Explanation.of(network.trace, ab.methods.get("eigen_cam")(network.trace)).raw_map
    assert raw_map is not None
    opposite = sum(np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0 for a, b in zip(maps, raw_map.numpy(), strict=True))
    return (
        f"turned by another order of the channels on {against} of {len(maps)} photographs, and correlated negatively "
        f"with ours on {opposite}."
    )


def in_place(network: Network) -> str:
    """torchcam's Grad-CAM at the last convolution, whose ReLU works in place or doesn't."""
    library = importlib.import_module("torchcam.methods")
    layer = [name for name, module in network.model.named_modules() if isinstance(module, nn.Conv2d)][-1]
    maps = []
    for inplace in (False, True):
        model = copy.deepcopy(network.model)
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = inplace
        with quiet(), library.GradCAM(model, layer) as cam:
            maps.append(cam(network.targets.tolist(), model(network.images.clone()))[0])
    differences = (maps[0] - maps[1]).abs().flatten(1).amax(1)
    changed = int((differences > 0.01).sum())
    return (
        f"torchcam's Grad-CAM at {layer} changes by more than 0.01 on {changed} of {len(differences)} photographs, by "
        f"{differences.median().item():.2g} in the median."
    )


def deep_lift_pools(network: Network) -> str:
    """captum's DeepLift of the photographs through one max pooling and one linear layer, with and without a ReLU."""
    images, counts = network.images, []
    for first in (nn.Identity(), nn.ReLU()):
        for name, references in (("zeros", torch.zeros_like(images)), ("another photograph", images.roll(1, 0))):
            for kernel, stride in POOLS:
                lost = _not_adding_up([first, nn.MaxPool2d(kernel, stride), nn.Flatten()], images, references)
                behind = "behind a ReLU, " if isinstance(first, nn.ReLU) else ""
                counts.append(f"{lost} ({behind}{kernel} x {kernel}, stride {stride}, from {name})")
    return f"contributions don't add up on {', '.join(counts)} of {len(images)} photographs."


def _not_adding_up(layers: list[nn.Module], images: Tensor, references: Tensor) -> int:
    """On how many images captum's DeepLift through these layers and a linear one isn't the scores' difference."""
    deep_lift = importlib.import_module("captum.attr").DeepLift
    with quiet():
        model = nn.Sequential(*layers, nn.LazyLinear(1)).to(images)
        expected = (model(images) - model(references)).flatten()
        contributions = (
            deep_lift(model.eval()).attribute(images.clone(), references.clone(), target=0).flatten(1).sum(1)
        )
    return int(((contributions - expected).abs() > ADDS_UP * expected.abs()).sum())


MEASURES: dict[str, Callable[[Network], str]] = {
    "eigen_sign": eigen_sign,
    "in_place": in_place,
    "deep_lift_pools": deep_lift_pools,
}
