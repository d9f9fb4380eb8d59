"""The values of a release: each pair's maps on the audit's networks, as records and as a baseline of the gate."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench.evaluation import plugins
from axiom_bench.gate.baseline import Baseline
from axiom_bench.gate.text import COLUMNS
from axiom_bench.statistics.summary import summarise

from ..libraries import silent_deletion
from ..methods.findings import Networks, tiny_of
from ..methods.measures import expected_maps, relative_differences, returned_maps
from ..methods.pairs import MethodPair, pairs_of
from ..networks import Network
from .release import first_line

DIFFERENCE = "difference to the formula"
VALUES = (DIFFERENCE, "mean of the map", "map times a pattern")
TOLERANCE = "mean:0.00001"  # of values whose map has the largest value 1: what float32 may differ by
OK, NOT_FINITE, FAILED, ABSENT = "ok", "not_finite", "failed", "absent"  # statuses
NUMBERS = ("mean", "median")


@dataclass
class Measured:
    """records: a row for each network, image, method and value. maps: {network, method: (B, h, w)}. failures: {method:
    its first error's first line}, of methods that this release has."""

    records: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measured(library: str, photographs: int) -> Measured:
    """Every pair of a library, by its import name. photographs: how many a trained network explains; 0 for the tiny
    network alone."""
    found, networks = Measured(), Networks(photographs)
    with silent_deletion():
        for name in plugins.names(plugins.PEERS):
            if name.endswith(f"@{library}") and name.partition("@")[0] in ab.methods.names():
                _measure(name, networks, found)
    return found


def _measure(name: str, networks: Networks, found: Measured) -> None:
    """All settings of a file of conf/peers/ on its networks."""
    try:
        pairs = list(pairs_of(name))
    except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
        found.failures[name] = first_line(error)
        return
    for pair in pairs:
        for network, trace in _networks(pair, networks):
            found.records += [
                {"model": network.title, "layer": network.layer, "data": "images", "method": pair.title, **row}
                for row in _rows(pair, network, trace, found)
            ]


def _networks(pair: MethodPair, networks: Networks) -> Iterator[tuple[Network, ab.Trace]]:
    """The tiny network, and the trained one where there are photographs."""
    small = tiny_of(pair)
    yield small, ab.trace(small.model, small.layer, small.images, small.targets)
    if networks.count:
        yield networks.of(pair)[1]


def _rows(pair: MethodPair, network: Network, trace: ab.Trace, found: Measured) -> Iterator[dict[str, Any]]:
    """A row for each image and value."""
    status, values = "", None
    try:
        maps = returned_maps(pair, network)
        values = described(maps, expected_maps(pair, network, trace))
        found.maps[f"{network.title}, {pair.title}"] = maps.numpy().astype(np.float32)
    except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
        library = importlib.import_module(f"axiom_bench.methods.peers.{pair.library}").library
        status = FAILED if hasattr(library, pair.extractor) else ABSENT
        if status == FAILED:
            found.failures.setdefault(pair.title, first_line(error))
    for place, name in enumerate(VALUES):
        for image in range(len(network.images)):
            value = float("nan") if values is None else float(values[place, image])
            own = status or (OK if np.isfinite(value) else NOT_FINITE)
            yield {"image_id": str(image), "target_class": int(network.targets[image]), "predicted_class": -1,
                   "metric": name, "value": value, "status": own}  # fmt: skip


def described(maps: Tensor, expected: Tensor) -> Tensor:
    """VALUES of each map: (B, h, w) twice -> (values, B). The pattern is of normal numbers that are always the same."""
    pixels = maps.double().flatten(1)
    pattern = torch.randn(pixels.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times_pattern = (pixels * pattern).sum(1) / pixels.shape[1] ** 0.5
    return torch.stack([relative_differences(maps, expected).double(), pixels.mean(1), times_pattern])


def baseline_of(records: list[dict[str, Any]], library: str, version: str) -> Baseline:
    """The records as a baseline of the gate: a row for each network, method and value, over its images."""
    rows = summarise(pd.DataFrame(records)).assign(tolerance=TOLERANCE)[list(COLUMNS)]
    images = {str(record["image_id"]) for record in records}
    return Baseline({"library": library, "images": str(len(images))}, rows, f"{library} {version}")
