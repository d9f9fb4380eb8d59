"""What is measured of a pair of methods: values, batches, degenerate maps, what stays on the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import axiom_bench as ab

from ..markdown import AGREES
from ..networks import Network
from .calls import (
    EPSILONS,
    divided_by_largest,
    documented_call,
    own_raw_maps,
    peer_maps,
    peer_raw_maps,
    raw_maps_of,
    with_steps_of,
)
from .pairs import MethodPair
from .readings import READINGS


@dataclass(frozen=True)
class Differences:
    """Largest relative differences of the library's maps to ours: raw (None: not available) and as returned."""

    raw: float | None
    returned: float


def differences(pair: MethodPair, network: Network) -> Differences:
    """Compare the raw maps, and the maps that the library returns."""
    own, peer_raw = own_raw_maps(pair, network), peer_raw_maps(pair, network.copied())
    expected = own.relu() if pair.library == "torchcam" and pair.settings.rectified else own
    if pair.settings.unit == "H W":
        expected = expected * expected[0].numel()
    returned = returned_maps(pair, network)
    return Differences(
        None if peer_raw is None else largest_difference(peer_raw, expected),
        largest_difference(returned, with_steps_of(pair, own, _size(network))),
    )


def returned_maps(pair: MethodPair, network: Network) -> Tensor:
    """The library's maps (B, h, w) as it returns them; captum's divided by their largest value."""
    maps = peer_maps(pair, network.copied())
    return divided_by_largest(maps) if pair.library == "captum" else maps


def expected_maps(pair: MethodPair, network: Network, trace: ab.Trace) -> Tensor:
    """Ours (B, h, w) after the library's own steps. trace: the network's, of all its images."""
    return with_steps_of(pair, raw_maps_of(pair, trace), _size(network))


@dataclass(frozen=True)
class OnPhotographs:
    """Differences of the library's returned maps on photographs, as fractions of a map's largest value.

    count: photographs; differing: those above AGREES; median, largest: of the photographs' largest differences to ours;
    left: the largest to our reading of the library's source, None where `readings.py` has none.
    """

    count: int
    differing: int
    median: float
    largest: float
    left: float | None


def on_photographs(pair: MethodPair, network: Network, trace: ab.Trace) -> OnPhotographs:
    """Compare the maps that the library returns. trace: the network's, of all its images."""
    returned, size = returned_maps(pair, network), _size(network)
    each = relative_differences(returned, expected_maps(pair, network, trace))
    left = None
    if pair.settings.read and pair.name in READINGS:
        reading = with_steps_of(pair, READINGS[pair.name](trace), size, EPSILONS.get(pair.library, 0.0))
        left = largest_difference(returned, reading)
    return OnPhotographs(len(each), int((each > AGREES).sum()), float(each.median()), float(each.max()), left)


def largest_difference(maps: Tensor, expected: Tensor) -> float:
    """The largest |maps - expected| of an image, as a fraction of its largest |expected|; of the worst image."""
    return float(relative_differences(maps, expected).max())


def relative_differences(maps: Tensor, expected: Tensor) -> Tensor:
    """Each image's largest |maps - expected|, as a fraction of its largest |expected|: (B, h, w) -> (B,)."""
    expected = expected.detach()
    maps = maps.to(expected)
    largest, units = (maps - expected).abs().flatten(1).amax(1), expected.abs().flatten(1).amax(1)
    return largest / units.where(units > 0, torch.ones_like(units))


def batch_dependence(pair: MethodPair, network: Network) -> float:
    """The largest difference of the library's maps of a batch to those of its images one by one."""
    together = peer_maps(pair, network.copied())
    alone = [
        peer_maps(pair, replace(network.copied(), images=image, targets=target))
        for image, target in zip(network.images.split(1), network.targets.split(1), strict=True)
    ]
    return largest_difference(together, torch.cat(alone))


def degenerate(pair: MethodPair, network: Network) -> tuple[str, str]:
    """A description of the library's maps, and of this project's heatmaps."""
    size = _size(network)
    return (
        _described(lambda: peer_maps(pair, network.copied())),
        _described(lambda: ab.heatmap(own_raw_maps(pair, network), size)),
    )


def without_gradients(pair: MethodPair, network: Network) -> tuple[str, str]:
    """A description of the library's maps where the parameters are frozen, and under torch.no_grad()."""
    frozen = network.copied()
    frozen.model.requires_grad_(False)
    with_frozen = _described(lambda: peer_maps(pair, frozen))
    with torch.no_grad():
        under_no_grad = _described(lambda: peer_maps(pair, network.copied()))
    return with_frozen, under_no_grad


def _described(call: Callable[[], Tensor]) -> str:
    """The range of the maps, zeros, NaN, or the name of the error raised."""
    try:
        maps = call()
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return type(error).__name__
    if not maps.isfinite().all():
        return "NaN"
    if not maps.any():
        return "zeros"
    if maps.min() == maps.max():
        return f"{maps.max().item():.2g} everywhere"
    return f"{maps.min().item():.2g} to {maps.max().item():.2g}"


class FailingPass(nn.Module):
    """Counts the passes, returns its input, and raises at pass number `limit`."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.limit = 0, -1

    def forward(self, logits: Tensor) -> Tensor:
        self.passes += 1
        if self.passes == self.limit:
            raise RuntimeError("the last pass fails")
        return logits


def left_behind(pair: MethodPair, network: Network) -> tuple[str, str]:
    """What has changed on a model in training mode: after a call, and after an error in the call's last pass."""
    changes, passes = _changes(pair, network, failing_pass=-1)
    return changes, _changes(pair, network, failing_pass=passes)[0]


def _changes(pair: MethodPair, network: Network, failing_pass: int) -> tuple[str, int]:
    """(what the documented call changes, its forward passes). failing_pass: its number, from 1 on; -1 for none."""
    last = FailingPass()
    model = nn.Sequential(*copy.deepcopy(list(network.model.children())), last).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    last.limit, before, changes = failing_pass, _state(model), []
    try:
        documented_call(pair, replace(network, model=model))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        changes = [] if failing_pass > 0 else [f"raises {type(error).__name__}"]
    after = _state(model)
    changes += [name for name in before if before[name] != after[name]]
    return ", ".join(changes) or "nothing", last.passes


def _state(model: nn.Module) -> dict[str, Any]:
    modules, parameters = list(model.modules()), list(model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": [id(module) for module in modules],
        "hooks": sum(len(getattr(module, kind)) for module in modules for kind in hooks),
        "mode": model.training,
        "gradients": [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
    }


def forward_passes(pair: MethodPair, network: Network) -> float:
    """The library's forward passes of the whole network, an image."""
    network, rows = network.copied(), list[int]()
    network.model.register_forward_hook(lambda module, inputs, logits: rows.append(len(logits)))
    peer_maps(pair, network)
    return sum(rows) / len(network.images)


def _size(network: Network) -> tuple[int, int]:
    return network.images.shape[-2], network.images.shape[-1]
