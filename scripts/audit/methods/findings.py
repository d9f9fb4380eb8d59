"""All that is measured of each pair of methods."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import torch

import axiom_bench as ab

from ..libraries import silent_deletion
from ..markdown import AGREES
from ..networks import (
    PHOTOGRAPHS,
    REAL_ROOT,
    Network,
    check_tiny,
    embedded,
    tiny,
    tiny_pooled,
    trained,
    with_constant_maps,
    with_zero_head,
)
from .measures import (
    Differences,
    OnPhotographs,
    batch_dependence,
    degenerate,
    differences,
    forward_passes,
    left_behind,
    on_photographs,
    without_gradients,
)
from .pairs import MethodPair, pairs

COUNT = 50  # photographs
SIDE_OF_POOLED, SIDE_OF_MASKED = 96, 48  # pixels of the photographs for CAM, and for methods of a pass a channel
BATCH = 2  # photographs explained in a batch and one by one


@dataclass(frozen=True)
class MethodFinding:
    """What was measured of a pair. Pairs of strings: the library's map and ours, or as the page's table heads them."""

    pair: MethodPair
    network: str
    on_tiny: Differences
    photographs: OnPhotographs
    batch: float
    passes: float
    zero_maps: tuple[str, str]
    zero_score: tuple[str, str]
    constant_maps: tuple[str, str]
    left: tuple[str, str]
    without_gradients: tuple[str, str]

    @property
    def agrees(self) -> bool:
        """Whether the library returns what the formula gives, on the tiny network and on all photographs."""
        return max(self.on_tiny.returned, self.photographs.largest) <= AGREES


@dataclass(frozen=True)
class Networks:
    """The tiny and the trained networks; traces of the trained ones are made on first use, and shared by all pairs."""

    count: int = COUNT

    @cached_property
    def photographs(self) -> Network:
        """The user's network with its photographs, or an embedded one with scenes where REAL_ROOT is absent."""
        return trained(PHOTOGRAPHS if (REAL_ROOT / PHOTOGRAPHS).is_dir() else "scenes_vgg", self.count)

    @cached_property
    def explained(self) -> tuple[Network, ab.Trace]:
        """The photographs' own network, and its trace."""
        return _with_trace(self.photographs)

    @cached_property
    def pooled(self) -> tuple[Network, ab.Trace]:
        """A network of a pooled head, for CAM."""
        return _with_trace(embedded("scenes_resnet", "layer4", SIDE_OF_POOLED, self.photographs.images))

    @cached_property
    def masked(self) -> tuple[Network, ab.Trace]:
        """A network of 32 channels and small images, for methods of one or more passes a channel."""
        return _with_trace(embedded("scenes_resnet", "layer2", SIDE_OF_MASKED, self.photographs.images))

    def of(self, pair: MethodPair) -> tuple[Network, tuple[Network, ab.Trace]]:
        """The tiny and the trained network of a pair."""
        if pair.own.name == "cam":
            return tiny_of(pair), self.pooled
        return tiny_of(pair), self.masked if pair.passes_per_channel else self.explained


def tiny_of(pair: MethodPair) -> Network:
    """The tiny network of a pair."""
    return tiny_pooled() if pair.own.name == "cam" else tiny()


def _with_trace(network: Network) -> tuple[Network, ab.Trace]:
    exact = network.to(torch.float64)
    return exact, ab.trace(exact.model, exact.layer, exact.images, exact.targets)


def measured_methods(networks: Networks) -> list[MethodFinding]:
    """Measure every pair; one line is printed for each."""
    check_tiny(tiny())
    findings = []
    with silent_deletion():
        for pair in pairs():
            start = time.perf_counter()
            small, (large, trace) = networks.of(pair)
            findings.append(measured(pair, small, large, trace))
            print(f"{pair.name}: {time.perf_counter() - start:.1f} s", flush=True)
    return findings


def measured(pair: MethodPair, small: Network, large: Network, trace: ab.Trace) -> MethodFinding:
    """Measure a pair. trace: the large network's, of all its images."""
    return MethodFinding(
        pair=pair,
        network=large.title,
        on_tiny=differences(pair, small),
        photographs=on_photographs(pair, large, trace),
        batch=max(batch_dependence(pair, small), batch_dependence(pair, large.first(BATCH))),
        passes=forward_passes(pair, large.first(BATCH)),
        zero_maps=degenerate(pair, with_constant_maps(small, -1)),
        zero_score=degenerate(pair, with_zero_head(small)),
        constant_maps=degenerate(pair, with_constant_maps(small, 1)),
        left=left_behind(pair, small),
        without_gradients=without_gradients(pair, small),
    )
