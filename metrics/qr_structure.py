"""The map on the parts of a QR code: Chakraborty et al., CAMBench-QR, 2025, arXiv:2509.16745."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from axiom_bench.cutting.interventions import FINDER_PATTERNS, TIMING_PATTERNS, Parts
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import parts_of
from axiom_bench.metrics.shared.rounding import millionths

QUANTILES = np.linspace(0, 0.99, 31)  # of the thresholds, as in the authors' code
Pixels = NDArray[np.bool_]


def qr_structure(explanation: Explanation) -> dict[str, Tensor]:
    """Compute where the map lies on a QR code: on its patterns, or outside of its modules.

    finder_mass and timing_mass are sum of h on the patterns / sum of h (the paper's FMR and TMR).
    background_leakage is the same share outside of all modules (BL), which the quiet zone is, too.
    The three coverages are the regions' mean shares of the pixels from a threshold on, over 31
    thresholds: the quantiles 0, 0.033, ... 0.99 of h. distance_to_structure is the mean distance to
    the next pixel of a finder or timing pattern, weighted by h, as a share of the diagonal (DtS).

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and a trace with interventions.

    Returns:
        The seven values, each (B,) in [0, 1].

    Raises:
        BenchError: If the explanation has no interventions.
    """
    maps = explanation.required_heatmap.double().cpu().numpy()
    rows = zip(maps, millionths(explanation), parts_of(explanation), strict=True)
    values = [_values(heat, levels, parts) for heat, levels, parts in rows]
    return {name: _column(values, name) for name in values[0]}


def _column(rows: Sequence[Mapping[str, float]], name: str) -> Tensor:
    return torch.tensor([row[name] for row in rows], dtype=torch.float64)


def _values(heat: NDArray[np.float64], levels: NDArray[np.int32], parts: Parts) -> dict[str, float]:
    """Return one image's values from its heatmap, and the same in millionths of its maximum."""
    finder = _region(parts, heat.shape, FINDER_PATTERNS)
    timing = _region(parts, heat.shape, TIMING_PATTERNS)
    names_of_modules = [part.name for part in parts if part.label is not None]
    outside = ~_region(parts, heat.shape, *names_of_modules)
    distances = distance_transform_edt(~(finder | timing))
    with np.errstate(invalid="ignore"):  # a zero map has no value
        shares = heat / heat.sum()
    return {
        "finder_mass": float(shares[finder].sum()),
        "timing_mass": float(shares[timing].sum()),
        "background_leakage": float(shares[outside].sum()),
        "finder_coverage": _coverage(levels, finder),
        "timing_coverage": _coverage(levels, timing),
        "background_coverage": _coverage(levels, outside),
        "distance_to_structure": float((shares * distances).sum() / np.hypot(*heat.shape)),
    }


def _region(parts: Parts, size: tuple[int, ...], *names: str) -> Pixels:
    """Return the pixels of the parts with these names."""
    pixels = np.zeros(size, dtype=bool)
    for part in parts:
        if part.name in names:
            pixels |= part.region.cpu().numpy()
    return pixels


def _coverage(levels: NDArray[np.int32], region: Pixels) -> float:
    """Return the mean over thresholds of the region's share of the pixels from each one on."""
    thresholds = np.quantile(levels, QUANTILES)
    return float(np.mean([region[levels >= threshold].mean() for threshold in thresholds]))
