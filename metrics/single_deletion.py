"""Single deletion: Hesse et al., Benchmarking the Attribution Quality of Vision Models, NeurIPS
2024, arXiv:2407.11910.

The score of the paper's in-domain protocol (IDSDS) on the network as it is, without fine-tuning on
deleted patches. And non-sensitivity, of the same passes: Nguyen and Martinez, On Quantitative
Aspects of Model Interpretability, 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.similarity import spearman, where_defined


@takes_fields
def single_deletion(
    explanation: Explanation,
    grid: int = 4,
    perturbation: Perturbation = Perturbation(output="logit"),
) -> MetricGenerator[Tensor]:
    """Spearman's correlation of the map's sums in a grid of cells and the score's drops without
    each -> (B,).

    In [-1, 1], higher is better. grid: cells a side; each is deleted alone, so that all methods
    share the grid^2 passes of an image. The map is the signed raw map resized to the image; the
    drop is S - S without the cell. fill and blur: see `shared.perturbation.Filling`; output: see
    `confidence` there. NaN where the map is constant, or all cells have the same sum or the same
    drop. Raises BenchError as `cell_numbers`.
    """
    sums, drops = yield from _of_cells(explanation, grid, perturbation)
    return where_defined(spearman(sums, drops), explanation.required_raw_map, drops)


@takes_fields
def non_sensitivity(
    explanation: Explanation,
    grid: int = 4,
    tolerance: float = 0.05,
    perturbation: Perturbation = Perturbation(output="logit"),
) -> MetricGenerator[Tensor]:
    """The share of cells that either the map or the model leaves at zero, but not both -> (B,) in
    [0, 1], 0 is best.

    Zero is up to `tolerance` of the largest magnitude of an image's cells: of the map's sums, and
    of the score's drops without each cell. Cells, map and passes are those of `single_deletion`.
    Raises BenchError for a tolerance not in [0, 1), and as `cell_numbers`.
    """
    if not 0 <= tolerance < 1:
        raise BenchError(
            "non_sensitivity needs a tolerance of 0 or more and below 1, not "
            f"tolerance={tolerance}."
        )
    sums, drops = yield from _of_cells(explanation, grid, perturbation)
    map_is_zero, drop_is_zero = (
        values.abs() <= tolerance * values.abs().amax(1, keepdim=True) for values in (sums, drops)
    )
    return (
        (map_is_zero != drop_is_zero)
        .double()
        .mean(1)
        .masked_fill(~drops.isfinite().all(1), torch.nan)
    )


def _of_cells(
    explanation: Explanation, grid: int, perturbation: Perturbation
) -> MetricGenerator[tuple[Tensor, Tensor]]:
    """The map's sums in each cell, and the drops without it: (B, grid^2) twice."""
    numbers = cell_numbers(explanation, grid)
    cells = torch.arange(grid**2, device=numbers.device)

    def deleted(rows: slice, copies: slice) -> Tensor:
        return torch.stack([numbers == cell for cell in cells[copies]])[None]

    key = ("single deletion", grid)
    scores = yield perturbation.request(explanation, key, grid**2, deleted, of_image=True)
    drops = perturbation.image_confidence(explanation) - scores
    return cell_sums(enlarged(explanation), numbers, grid**2), drops
