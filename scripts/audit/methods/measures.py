"""What is measured of a pair of methods: values, batches, degenerate maps, what stays on the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab

from ..networks import Network, with_layer
from ..pages import AGREES
from .pairs import MethodPair
from .readings import READINGS

BATCH = 2  # photographs explained in a batch and one by one
EPSILONS = {"pytorch_grad_cam": 1e-7, "torchcam": 1e-8}  # added to the maximum by which a map is divided


@dataclass(frozen=True)
class Finding:
    """What was measured of a pair. Differences are relative, the largest of an image.

    raw: of the tiny network's raw maps, None where there are none. returned: of its maps as the library returns them.
    photographs: (B,) of the returned maps. left: their largest to our reading of the library's source, None where
    `readings.py` has none. batch: of a batch to its images one by one. passes: the library's forward passes of the
    network, an image. degenerate, left_behind: cells of the page's tables.
    """

    pair: MethodPair
    network: str
    raw: float | None
    returned: float
    photographs: Tensor
    left: float | None
    batch: float
    passes: float
    degenerate: tuple[str, ...]
    left_behind: tuple[str, str]

    @property
    def agrees(self) -> bool:
        """Whether the library returns what the formula gives, on the tiny network and on all photographs."""
        return max(self.returned, float(self.photographs.max())) <= AGREES

    @property
    def differing(self) -> int:
        """The photographs on which it doesn't."""
        return int((self.photographs > AGREES).sum())


def measured(pair: MethodPair, small: Network, large: Network) -> Finding:
    """Measure a pair on the tiny and on the trained network."""
    returned, few = returned_maps(pair, large), large.first(BATCH)
    return Finding(
        pair=pair,
        network=large.title,
        raw=raw_difference(pair, small),
        returned=float(relative_differences(returned_maps(pair, small), expected_maps(pair, small)).max()),
        photographs=relative_differences(returned, expected_maps(pair, large)),
        left=difference_left(pair, large, returned),
        batch=max(batch_dependence(pair, small), batch_dependence(pair, few)),
        passes=forward_passes(pair, few),
        degenerate=degenerate(pair, small),
        left_behind=left_behind(pair, small),
    )


def raw_difference(pair: MethodPair, network: Network) -> float | None:
    """Of the raw maps; None where the library offers none."""
    maps, expected = pair.peer_raw_maps(network.copied()), pair.own_maps(network)
    if maps is None:
        return None
    if pair.library == "torchcam" and pair.settings.rectified:
        expected = expected.relu()
    if pair.settings.unit == "H W":
        expected = expected * expected[0].numel()
    return float(relative_differences(maps, expected).max())


def returned_maps(pair: MethodPair, network: Network) -> Tensor:
    """The library's maps (B, h, w) as it returns them; captum's divided by their largest value."""
    maps = pair.peer_maps(network.copied())
    return _divided_by_largest(maps) if pair.library == "captum" else maps


def expected_maps(pair: MethodPair, network: Network) -> Tensor:
    """Ours (B, h, w) after the library's own steps."""
    return _with_steps_of(pair, pair.own_maps(network), network.size)


def difference_left(pair: MethodPair, network: Network, returned: Tensor) -> float | None:
    """Of the returned maps to our reading of the library's source; None where `readings.py` has none."""
    if not pair.settings.read or pair.name not in READINGS:
        return None
    maps = READINGS[pair.name](network.trace)
    reading = _with_steps_of(pair, maps, network.size, EPSILONS.get(pair.library, 0.0))
    return float(relative_differences(returned, reading).max())


def _with_steps_of(pair: MethodPair, raw_maps: Tensor, size: tuple[int, int], epsilon: float = 0.0) -> Tensor:
    """Raw maps after the library's own steps: ReLU, but for torchcam's CAM, and min-max scaling; grad-cam resizes, too.

    captum takes no such step; there the map is divided by its largest absolute value, as the captum map is.
    epsilon: added to the maximum by which a map is divided.
    """
    if pair.library == "captum":
        return _divided_by_largest(raw_maps)
    scaled = _min_max(raw_maps.relu() if pair.settings.rectified else raw_maps, epsilon)
    if pair.library == "torchcam":
        return scaled
    return _min_max(functional.interpolate(scaled[:, None], size, mode="bilinear", align_corners=False)[:, 0], epsilon)


def _min_max(maps: Tensor, epsilon: float) -> Tensor:
    """Each map (B, h, w) scaled to [0, 1]; a constant one is 0."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + epsilon) if epsilon else _divided_by_largest(maps)


def _divided_by_largest(maps: Tensor) -> Tensor:
    """Each map (B, h, w) divided by its largest absolute value, where that isn't 0."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / largest.where(largest > 0, torch.ones_like(largest))


def relative_differences(maps: Tensor, expected: Tensor) -> Tensor:
    """Each image's largest |maps - expected|, as a fraction of its largest |expected|: (B, h, w) -> (B,)."""
    expected = expected.detach()
    maps = maps.to(expected)
    largest, units = (maps - expected).abs().flatten(1).amax(1), expected.abs().flatten(1).amax(1)
    return largest / units.where(units > 0, torch.ones_like(units))


def batch_dependence(pair: MethodPair, network: Network) -> float:
    """The largest difference of the library's maps of a batch to those of its images one by one."""
    together = pair.peer_maps(network.copied())
    alone = [
        pair.peer_maps(replace(network.copied(), images=image, targets=target))
        for image, target in zip(network.images.split(1), network.targets.split(1), strict=True)
    ]
    return float(relative_differences(together, torch.cat(alone)).max())


def forward_passes(pair: MethodPair, network: Network) -> float:
    """The library's forward passes of the whole network, an image."""
    network, rows = network.copied(), list[int]()
    network.model.register_forward_hook(lambda module, inputs, logits: rows.append(len(logits)))
    pair.peer_maps(network)
    return sum(rows) / len(network.images)


def degenerate(pair: MethodPair, small: Network) -> tuple[str, ...]:
    """Of a layer of zeros, of scores and gradients of 0 and of a constant layer the library's maps and our heatmaps;
    then the library's of frozen parameters and under torch.no_grad()."""
    changed = (with_layer(small, 0, -1.0), with_layer(small, -1, 0.0), with_layer(small, 0, 1.0))
    cells = [text for network in changed for text in _both(pair, network)]
    frozen = small.copied()
    frozen.model.requires_grad_(False)
    cells.append(_described(lambda: pair.peer_maps(frozen)))
    with torch.no_grad():
        return (*cells, _described(lambda: pair.peer_maps(small.copied())))


def _both(pair: MethodPair, network: Network) -> tuple[str, str]:
    return (
        _described(lambda: pair.peer_maps(network.copied())),
        _described(lambda: ab.heatmap(pair.own_maps(network), network.size)),
    )


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

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.passes, self.limit = 0, limit

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
    last, changes = FailingPass(failing_pass), list[str]()
    model = nn.Sequential(*copy.deepcopy(list(network.model.children())), last).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = _state(model)
    try:
        pair.documented_call(replace(network, model=model))
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
