"""Single deletion: Hesse et al., NeurIPS 2024, arXiv:2407.11910.

The paper is "Benchmarking the Attribution Quality of Vision Models". The score is that of the
paper's in-domain protocol (IDSDS) on the network as it is, without fine-tuning on deleted patches.
Non-sensitivity has the same passes: Nguyen and Martinez, On Quantitative Aspects of Model
Interpretability, 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.similarity import mask_undefined, spearman


@takes_fields
def single_deletion(
    explanation: Explanation,
    grid: int = 4,
    perturbation: Perturbation = Perturbation(output="logit"),
) -> MetricGenerator[Tensor]:
    """Correlate the map's sums in a grid of cells with the score's drops without each cell.

    The value is Spearman's correlation. Each cell is deleted by itself, so that all methods share
    the grid^2 passes of an image. The map is the signed raw map resized to the image. The drop is S
    - S without the cell.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        grid: The number of cells per side.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        The correlations, (B,) in [-1, 1]; higher is better. They are NaN if the map is constant, or
        all cells have the same sum or the same drop.

    Raises:
        BenchError: If the images can't have this grid; see `shared.cells.cell_numbers`.
    """
    sums, drops = yield from _of_cells(explanation, grid, perturbation)
    return mask_undefined(spearman(sums, drops), explanation.required_raw_map, drops)


@takes_fields
def non_sensitivity(
    explanation: Explanation,
    grid: int = 4,
    tolerance: float = 0.05,
    perturbation: Perturbation = Perturbation(output="logit"),
) -> MetricGenerator[Tensor]:
    """Compute the share of cells that either the map or the model leaves at zero, but not both.

    Zero is up to `tolerance` of the largest magnitude of an image's cells. This holds for the map's
    sums, and for the score's drops without each cell. Cells, map and passes are those of
    `single_deletion`.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        grid: The number of cells per side.
        tolerance: The largest magnitude that counts as zero, as a share of the largest; from 0 to
            below 1.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        The shares, (B,) in [0, 1]; 0 is best.

    Raises:
        BenchError: If the tolerance isn't in [0, 1), or the images can't have this grid.
    """
    if not 0 <= tolerance < 1:
        raise BenchError(
            "non_sensitivity needs a tolerance of 0 or more and below 1, not "
            f"tolerance={tolerance}."
        )
    sums, drops = yield from _of_cells(explanation, grid, perturbation)
    map_is_zero = sums.abs() <= tolerance * sums.abs().amax(1, keepdim=True)
    drop_is_zero = drops.abs() <= tolerance * drops.abs().amax(1, keepdim=True)
    # A comparison with NaN is False, and would count as a drop that isn't zero.
    share = (map_is_zero != drop_is_zero).double().mean(1)
    return share.masked_fill(~drops.isfinite().all(1), torch.nan)


def _of_cells(
    explanation: Explanation, grid: int, perturbation: Perturbation
) -> MetricGenerator[tuple[Tensor, Tensor]]:
    """Ask for the map's sums in each cell, and the drops without the cell: (B, grid^2) twice."""
    numbers = cell_numbers(explanation, grid)
    cells = torch.arange(grid**2, device=numbers.device)

    def deleted(rows: slice, copies: slice) -> Tensor:
        return torch.stack([numbers == cell for cell in cells[copies]])[None]

    key = ("single deletion", grid)
    scores = yield perturbation.request(explanation, key, grid**2, deleted, of_image=True)
    drops = perturbation.image_confidence(explanation) - scores
    return cell_sums(enlarged(explanation), numbers, grid**2), drops
