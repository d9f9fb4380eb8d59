"""Single deletion: Hesse et al., Benchmarking the Attribution Quality of Vision Models, NeurIPS 2024, arXiv:2407.11910.

The score of the paper's in-domain protocol (IDSDS) on the network as it is, without fine-tuning on deleted patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from axiom_bench.metrics.shared.perturbation import Fill, confidence_in, filling, scoring
from axiom_bench.metrics.shared.similarity import spearman, where_defined


def single_deletion(
    explanation: Explanation, grid: int = 4, fill: Fill = "zero", blur: float = 0.05, output: str = "logit"
) -> MetricGenerator[Tensor]:
    """Spearman's correlation of the map's sums in a grid of cells and the score's drops without each -> (B,).

    In [-1, 1], higher is better. grid: cells a side; each is deleted alone, so that all methods share the grid^2
    passes of an image. The map is the signed raw map resized to the image; the drop is S - S without the cell. fill
    and blur: see `shared.perturbation.filling`; output: see `confidence` there. NaN where the map is constant, or
    all cells have the same sum or the same drop. Raises BenchError as `cell_numbers`.
    """
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    numbers = cell_numbers(explanation, grid)
    cells = torch.arange(grid**2, device=numbers.device)
    filled = filling(images, fill, blur).expand_as(images)

    def perturbed(rows: slice, copies: slice) -> Tensor:
        deleted = torch.stack([numbers == cell for cell in cells[copies]])  # (copies, H', W')
        return torch.where(deleted[:, None], filled[rows, None], images[rows, None])

    key = ("single deletion", grid, str(fill), blur, output)
    scores = yield PerturbedImages(key, grid**2, perturbed, scoring(trace, output), of_image=True)
    drops = confidence_in(trace, trace.logits, trace.targets, output)[:, None] - scores
    sums = cell_sums(enlarged(explanation), numbers, grid**2)
    return where_defined(spearman(sums[:, None], drops[:, None]), given(explanation.raw_map, "raw_map"), drops)
