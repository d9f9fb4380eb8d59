"""All that is measured of each pair of methods."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..libraries import silent_deletion
from ..markdown import AGREES
from ..networks import (
    PHOTOGRAPHS,
    REAL_ROOT,
    Network,
    check_tiny,
    tiny,
    tiny_pooled,
    trained,
    with_constant_maps,
    with_zero_head,
)
from .measures import (
    Differences,
    Times,
    batch_dependence,
    degenerate,
    differences,
    left_behind,
    times,
    without_gradients,
)
from .pairs import MethodPair, pairs

ROUNDS, ROUNDS_OF_MANY_PASSES = 5, 3  # of times
BATCH = 8


@dataclass(frozen=True)
class MethodFinding:
    """What was measured of a pair. Pairs of strings: the library's map and ours, or as the page's table heads them."""

    pair: MethodPair
    network: str
    on_tiny: Differences
    on_trained: Differences
    batch: float
    times: Times
    zero_maps: tuple[str, str]
    zero_score: tuple[str, str]
    constant_maps: tuple[str, str]
    left: tuple[str, str]
    without_gradients: tuple[str, str]

    @property
    def agrees(self) -> bool:
        """Whether the library returns what the formula gives, on both networks."""
        return max(self.on_tiny.returned, self.on_trained.returned) <= AGREES


def measured_methods() -> list[MethodFinding]:
    """Measure every pair; one line is printed for each."""
    check_tiny(tiny())
    networks = {"tiny": tiny(), "tiny, pooled": tiny_pooled(), "real": trained(_real_name(), BATCH)}
    networks |= {name: trained(name, BATCH) for name in ("scenes_vgg", "scenes_resnet")}
    findings = []
    with silent_deletion():
        for pair in pairs():
            start = time.perf_counter()
            findings.append(measured(pair, *networks_for(pair, networks)))
            print(f"{pair.name}: {time.perf_counter() - start:.1f} s", flush=True)
    return findings


def _real_name() -> str:
    """The network of photographs, or an embedded one where REAL_ROOT is absent."""
    return PHOTOGRAPHS if (REAL_ROOT / PHOTOGRAPHS).is_dir() else "scenes_vgg"


def networks_for(pair: MethodPair, networks: Mapping[str, Network]) -> tuple[Network, Network]:
    """The tiny and the trained network: CAM needs a pooled head, and two passes a channel take the embedded one."""
    if pair.own.name == "cam":
        return networks["tiny, pooled"], networks["scenes_resnet"]
    return networks["tiny"], networks["scenes_vgg" if pair.passes_per_channel > 1 else "real"]


def measured(pair: MethodPair, small: Network, large: Network) -> MethodFinding:
    """Measure a pair. Methods of many passes take one image of the large network, and their batch the small one."""
    many = pair.passes_per_channel > 0
    exact = large.to(torch.float64).first(1 if many else 2)
    return MethodFinding(
        pair=pair,
        network=large.title,
        on_tiny=differences(pair, small),
        on_trained=differences(pair, exact),
        batch=max(batch_dependence(pair, small), 0 if many else batch_dependence(pair, exact)),
        times=times(pair, large.first(1 if many else BATCH), ROUNDS_OF_MANY_PASSES if many else ROUNDS),
        zero_maps=degenerate(pair, with_constant_maps(small, -1)),
        zero_score=degenerate(pair, with_zero_head(small)),
        constant_maps=degenerate(pair, with_constant_maps(small, 1)),
        left=left_behind(pair, small),
        without_gradients=without_gradients(pair, small),
    )
