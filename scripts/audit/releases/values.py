"""The values of a release: each pair's maps on the audit's networks, as records and as a baseline of the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from axiom_bench.gate.baseline import COLUMNS, Baseline
from axiom_bench.statistics.summary import summarise

from ..libraries import silent_deletion
from ..methods.measures import expected_maps, relative_differences, returned_maps
from ..methods.pairs import MethodPair, names, pairs_of
from ..networks import Network, Networks
from .release import first_line

DIFFERENCE = "difference to the formula"
VALUES = (DIFFERENCE, "mean of the map", "map times a pattern")
TOLERANCE = "mean:0.00001"  # of values whose map has the largest value 1: what float32 may differ by
OK, NOT_FINITE, FAILED, ABSENT = "ok", "not_finite", "failed", "absent"  # statuses


@dataclass
class Measured:
    """records: a row for each network, image, method and value. maps: {network, method: (B, h, w)}. failures: {method:
    its first error's first line}, of methods that this release has."""

    records: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measured(library: str, photographs: int) -> Measured:
    """Every pair of a library, by its import name. photographs: how many a trained network explains; 0 for the tiny
    network alone."""
    found, networks = Measured(), Networks(photographs)
    with silent_deletion():
        for name in names(library):
            try:
                pairs = list(pairs_of(name))
            except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
                found.failures[name] = first_line(error)
                continue
            for pair in pairs:
                _measure(pair, pair.tiny(), found)
                if photographs:
                    _measure(pair, pair.trained(networks), found)
    return found


def _measure(pair: MethodPair, network: Network, found: Measured) -> None:
    """A record for each image and value."""
    status, values = "", np.full((len(VALUES), len(network.images)), np.nan)
    try:
        maps = returned_maps(pair, network)
        values = described(maps, expected_maps(pair, network)).numpy()
        found.maps[f"{network.title}, {pair.title}"] = maps.numpy().astype(np.float32)
    except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
        library = import_module(f"axiom_bench.methods.peers.{pair.library}").library
        status = FAILED if hasattr(library, pair.extractor) else ABSENT
        if status == FAILED:
            found.failures.setdefault(pair.title, first_line(error))
    about = {"model": network.title, "layer": network.layer, "data": "images", "method": pair.title}
    found.records += [
        {**about, "image_id": str(image), "target_class": int(network.targets[image]), "predicted_class": -1,
         "metric": name, "value": float(value), "status": status or (OK if np.isfinite(value) else NOT_FINITE)}
        for name, row in zip(VALUES, values, strict=True) for image, value in enumerate(row)
    ]  # fmt: skip


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
