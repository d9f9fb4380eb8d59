"""The maps of both: the library called as its documentation says, on a plain network, and this project's method."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

import axiom_bench as ab

from ..libraries import quiet
from ..networks import Network
from .pairs import MethodPair


def peer_maps(pair: MethodPair, network: Network, **changed: Any) -> Tensor:
    """The library's maps (B, h, w), as it returns them. changed: further arguments of the adapter's `extract`."""
    extract = importlib.import_module(f"axiom_bench.methods.peers.{pair.library}").extract
    layers = [network.model.get_submodule(network.layer)]
    with quiet():
        maps = extract(network.model, layers, network.images.clone(), network.targets, **pair.peer_params, **changed)
    return torch.as_tensor(maps).detach()


def peer_raw_maps(pair: MethodPair, network: Network) -> Tensor | None:
    """The library's maps before scaling and resizing; None where it offers none, or in no unit of ours."""
    if not pair.settings.unit:
        return None
    if pair.library == "captum":
        return peer_maps(pair, network)
    if pair.library == "torchcam":
        return peer_maps(pair, network, normalized=False)
    return _grad_cam_raw_maps(pair, network)


def _grad_cam_raw_maps(pair: MethodPair, network: Network) -> Tensor | None:
    """What grad-cam's `get_cam_image` returns; None for its two classes that don't use it."""
    library = importlib.import_module("pytorch_grad_cam")
    extractor = getattr(library, pair.extractor)
    if extractor in (library.FullGrad, library.FinerCAM):
        return None
    maps: list[Any] = []

    class Recording(extractor):  # type: ignore[valid-type, misc]  # a class known by its name only
        def get_cam_image(self, *args: Any) -> Any:
            maps.append(super().get_cam_image(*args))
            return maps[-1]

    with quiet():
        cam = Recording(network.model, [network.model.get_submodule(network.layer)], **pair.options)
        cam(network.images.clone(), _grad_cam_targets(network))
    return torch.as_tensor(maps[0]).detach()


def documented_call(pair: MethodPair, network: Network) -> None:
    """The call of the library's documentation, with `with` where it has one."""
    if pair.library != "pytorch_grad_cam":
        peer_maps(pair, network)
        return
    extractor = getattr(importlib.import_module("pytorch_grad_cam"), pair.extractor)
    layers = [network.model.get_submodule(network.layer)]
    with quiet(), extractor(network.model, layers, **pair.options) as cam:
        cam(network.images.clone(), _grad_cam_targets(network))


def _grad_cam_targets(network: Network) -> list[Any]:
    model_targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    return [model_targets.ClassifierOutputTarget(target) for target in network.targets.tolist()]


def own_raw_maps(pair: MethodPair, network: Network) -> Tensor:
    """This project's signed maps (B, h, w), from a fresh cut."""
    return raw_maps_of(pair, ab.trace(network.model, network.layer, network.images, network.targets))


def raw_maps_of(pair: MethodPair, trace: ab.Trace) -> Tensor:
    """This project's signed maps (B, h, w) of a trace."""
    raw_map = ab.Explanation.of(trace, pair.own(trace)).raw_map
    assert raw_map is not None
    return raw_map


EPSILONS = {"pytorch_grad_cam": 1e-7, "torchcam": 1e-8}  # added to the maximum by which a map is divided


def with_steps_of(pair: MethodPair, raw_maps: Tensor, size: tuple[int, int], epsilon: float = 0.0) -> Tensor:
    """Raw maps after the library's own steps: ReLU, but for torchcam's CAM, and min-max scaling; grad-cam resizes, too.

    captum takes no such step; there the map is divided by its largest absolute value, as the captum map is.
    epsilon: added to the maximum by which a map is divided.
    """
    if pair.library == "captum":
        return divided_by_largest(raw_maps)
    scaled = _min_max(raw_maps.relu() if pair.settings.rectified else raw_maps, epsilon)
    if pair.library == "torchcam":
        return scaled
    return _min_max(functional.interpolate(scaled[:, None], size, mode="bilinear", align_corners=False)[:, 0], epsilon)


def _min_max(maps: Tensor, epsilon: float) -> Tensor:
    """Each map (B, h, w) scaled to [0, 1]; a constant one is 0."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + epsilon) if epsilon else divided_by_largest(maps)


def divided_by_largest(maps: Tensor) -> Tensor:
    """Each map (B, h, w) divided by its largest absolute value, where that isn't 0."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / largest.where(largest > 0, torch.ones_like(largest))
