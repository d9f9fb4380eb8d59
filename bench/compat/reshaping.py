"""Invert pytorch-grad-cam's `reshape_transform`, which turns tokens into maps only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from axiom_bench.cutting.tokens import Size
from axiom_bench.errors import BenchError

Transform = Callable[[Tensor], Tensor]


class InvertedTransform:
    """A `Reshape` made of a function from a layer's output to maps (B, K, H, W).

    The function moves values and computes none. The positions of the output's indices in its maps
    therefore say which value goes where. The rest is the whole output.
    """

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
        """Return the maps and the output itself."""
        maps = self.transform(output)
        values = output.flatten(1)
        index = self._index(output).flatten()
        is_move = len(index) == maps[0].numel() and int(index.max()) < values.shape[1]
        if not is_move or not torch.allclose(
            values[:, index], maps.flatten(1), rtol=0, atol=0, equal_nan=True
        ):
            raise BenchError(
                "The reshape_transform computes new values; give one that only moves values, such "
                "as reshape and permute."
            )
        return maps.contiguous(), output

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Return the output with these maps."""
        assert rest is not None  # `to_maps` returns it
        values = rest.flatten(1).index_copy(1, self._index(rest).flatten(), maps.flatten(1))
        return values.view(rest.shape)

    def _index(self, output: Tensor) -> Tensor:
        """Return the place in one image's output of each value of its maps, (1, K, H, W)."""
        count = output[0].numel()
        indices = torch.arange(count, dtype=torch.float64, device=output.device)
        return self.transform(indices.view(1, *output.shape[1:])).long()
