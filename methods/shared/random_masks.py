"""Random masks of RISE and D-RISE: coarse grids of kept cells, enlarged and shifted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter


@dataclass(frozen=True, eq=False)
class RandomMasks:
    """The masks of one image. `random_masks[i:j]` makes some of them.

    All of them together may not fit into memory.

    Attributes:
        cells: Which cells are kept, bool (n, grid, ...), with an axis for each of the image's.
        shifts: The shift of each mask along each axis, (n, axes), in shares of a cell.
        image: The masked image, (C, *space).
    """

    cells: Tensor
    shifts: Tensor
    image: Tensor

    def __getitem__(self, copies: slice) -> Tensor:
        """Enlarge cells bilinearly and cut them to the image at the shifts: (n, *space).

        As in RISE, the enlarged mask is one cell larger than the image.
        """
        cells = self.cells[copies].to(self.image)
        grid = cells.shape[-1]
        size = self.image.shape[1:]
        cell_sides = torch.tensor([-(-side // grid) for side in size])
        corners = (self.shifts[copies] * cell_sides).long().tolist()
        enlarged = resized(cells, ((grid + 1) * cell_sides).tolist())
        masks = []
        for mask, corner in zip(enlarged, corners, strict=True):
            for axis, (start, side) in enumerate(zip(corner, size, strict=True)):
                mask = mask.narrow(axis, start, side)
            masks.append(mask)
        return torch.stack(masks)


def draw_masks(
    trace: Trace, row: int, masks: int, grid: int, kept: float, seed: int
) -> RandomMasks:
    """Draw the random masks of one image, which depend only on the image and `seed`.

    Args:
        trace: The traced batch.
        row: The image's row.
        masks: The number of masks.
        grid: The number of cells of a mask along each side.
        kept: The probability that a cell is kept.
        seed: The seed.

    Returns:
        The masks.
    """
    image = trace.images[row]
    axes = image.ndim - 1
    (generator,) = trace.generators(seed, slice(row, row + 1))
    draws = torch.rand(masks, *[grid] * axes, generator=generator, dtype=torch.float64)
    shifts = torch.rand(masks, axes, generator=generator, dtype=torch.float64)
    return RandomMasks(draws < kept, shifts, image)


def check_masks(masks: int, grid: int, kept: float) -> None:
    """Check the parameters of `draw_masks`.

    Args:
        masks: The number of masks.
        grid: The number of cells of a mask along each side.
        kept: The probability that a cell is kept.

    Raises:
        BenchError: If a number is outside its range.
    """
    if masks < 1 or grid < 1:
        raise InvalidParameter(
            f"Invalid masks={masks} and grid={grid}; give both as numbers from 1."
        )
    if not 0 < kept < 1:
        raise InvalidParameter(
            f"Invalid kept={kept}; give the probability that a cell is kept, between 0 and 1."
        )
