"""RISE: Petsiuk et al., BMVC 2018, arXiv:1806.07421.

RISE: Randomized Input Sampling for Explanation of Black-box Models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import (
    maps_of_images,
    minmax,
    pass_slices,
    score_index,
    scores_of_copies,
)
from axiom_bench.methods.shared.random_masks import check_masks, draw_masks


def rise(
    trace: Trace,
    masks: int = 4000,
    grid: int = 7,
    kept: float = 0.5,
    score: str = "probability",
    seed: int = 0,
) -> Map:
    """Sum of f(X M_i) M_i / (N p) over N random masks, min-max scaled -> (B, H', W').

    X is the image as the network takes it, so a masked pixel has the mean colour. A mask M_i has
    grid x grid cells, each kept with probability p. It is enlarged bilinearly and shifted by less
    than a cell. A pixel's sum estimates the mean score of the masked images that keep this pixel.
    Such means differ by little, so the map is scaled from its minimum to its maximum, as that of
    `d_rise` and the paper's figures.

    The defaults are the paper's for VGG-16; it has masks=8000 for ResNet-50. The authors' code has
    grid=8, and its example for ResNet-50 has masks=6000 and kept=0.1. Masks are seeded by the
    image and `seed`, and all classes of an image share them. Costs `masks` forward passes.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').
        masks: The number of random masks N, at least 1.
        grid: The number of cells of a mask along each side, at least 1.
        kept: The probability p that a cell is kept, between 0 and 1.
        score: f: "probability" or "logit".
        seed: The seed of the masks.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the score is unknown, or if a number is outside its range.
    """
    check_masks(masks, grid, kept)
    index = score_index(trace, score)

    @torch.inference_mode(False)
    @torch.no_grad()
    def image_maps(rows: list[int]) -> Tensor:
        image = trace.images[rows[0]]
        random_masks = draw_masks(trace, rows[0], masks, grid, kept, seed)
        total = image.new_zeros(len(rows), image[0].numel())
        for copies in pass_slices(trace, masks):
            mask_values = random_masks[copies]
            scores = scores_of_copies(trace, rows, image * mask_values[:, None])[..., index]
            # One product per row: in a product of matrices the rows may differ in their last bits.
            total += torch.stack([row_scores @ mask_values.flatten(1) for row_scores in scores])
        maps: Tensor = total.unflatten(1, image.shape[1:]) / (masks * kept)
        return maps

    return Map(minmax(maps_of_images(trace, image_maps)))
