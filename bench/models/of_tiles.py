"""Vision-language networks that cut an image into tiles, such as LLaVA-NeXT and InternVL.

Their vision tower reads each tile, and a small version of the whole image, as an image of its own.
So the layer is what the tower gives the decoder: the tokens of all tiles, as one map.
"""

from __future__ import annotations

from math import isqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image
from torch import Tensor, nn

from axiom_bench.data.preprocessing import RGB
from axiom_bench.errors import BenchError
from axiom_bench.models.of_patch_sequences import (
    FEATURES,
    check_size,
    check_takes_features,
    normalised,
)
from axiom_bench.models.of_vision_language import PIXELS, VisionLanguage, processed

IMAGE_SIZES = "image_sizes"  # an input of networks such as LLaVA-NeXT
# The processor rounds the small image's pixels to whole numbers. Normalised pixels differ by less.
SMALL_DIFFERENCE = 0.02
LEVELS = (64, 192)  # of a picture whose small version has no pixel below 0 or above 255


def tiled_size(image_processor: Any, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the height and width of images that a processor cuts into tiles; None if it doesn't.

    Args:
        image_processor: The processor of images of transformers.
        size: What the user gives. None: two by two tiles for LLaVA-NeXT, no tiles for InternVL.
    """
    if hasattr(image_processor, "image_grid_pinpoints"):
        tile = image_processor.crop_size or image_processor.size  # LLaVA-OneVision crops nothing
        return size or (2 * tile["height"], 2 * tile["height"])
    return size if hasattr(image_processor, "crop_to_patches") else None


class _Tower(nn.Module):
    """Compute what the decoder is given of an image, as one module.

    Args:
        inner: The network of transformers without its last layer.
        num_tiles: The number of an image's tiles, with the small version.
    """

    def __init__(self, inner: Any, num_tiles: int) -> None:
        super().__init__()
        self.inner = inner
        self.num_tiles = num_tiles

    def forward(self, pixels: Tensor, **sizes: Tensor) -> Tensor:
        """Return the tokens of images, (B, N, K)."""
        tokens = self.inner.get_image_features(pixel_values=pixels, **sizes).pooler_output
        if not isinstance(tokens, Tensor):  # a tensor for each image
            return torch.stack([*tokens])
        by_image: Tensor = tokens.unflatten(0, (-1, self.num_tiles)).flatten(1, 2)
        return by_image


class Tiles(VisionLanguage):
    """A network of transformers that reads tiles of an image, and then a small version of it.

    It maps images (B, 3, H', W') of one size and texts (B, L) to the logits (B, L, V) of each
    position. InternVL is such a network.

    Args:
        network: The network.
        processor: Its processor.
        prompt: The question or instruction, in the processor's template.
        size: H', W', the sides of an image that the processor doesn't resize.

    Raises:
        BenchError: If the processor cuts images of this size into other tiles, or if the network
            takes no features of its tower.
    """

    small_is_first = False

    def __init__(self, network: Any, processor: Any, prompt: str, size: tuple[int, int]) -> None:
        name = type(network).__name__
        check_takes_features(network)
        picture = np.random.default_rng(0).integers(*LEVELS, (*size, RGB), dtype=np.uint8)
        inputs = processed(network, processor, prompt, Image.fromarray(picture), has_tiles=True)
        super().__init__(network, processor, prompt, inputs)
        given = inputs[PIXELS].flatten(0, -4)
        self.side: int = given.shape[-1]
        self.size = size
        self.counts = (size[0] // self.side, size[1] // self.side)
        self.tower = _Tower(network.model, len(given))
        self.grid = nn.Identity()
        self.default_layer = "grid"
        pixels = normalised(picture, processor.image_processor)
        is_divided = size == tuple(count * self.side for count in self.counts)
        made = self._tiles(pixels)[0] if is_divided else given[:0]
        is_same = made.shape == given.shape and bool((made - given).abs().max() <= SMALL_DIFFERENCE)
        self.tokens_of_side = self._tokens_of_side()
        if not is_same or self._num_tokens() != len(self.image_tokens):
            raise BenchError(
                f"The processor of {name} cuts images of {size[0]}x{size[1]} pixels into "
                f"{len(given) - 1} tiles of {self.side}x{self.side} after it has resized them; set "
                f"model.kwargs.size to multiples of {self.side} that it leaves as they are "
                "(WordScores(size=...))."
            )
        order = self._order()
        self.register_buffer("order", order, persistent=False)
        self.image_tokens = tuple(torch.tensor(self.image_tokens)[order].tolist())

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of each token of a text, given the tokens before it."""
        inputs: dict[str, Any] = self._inputs(images, text)
        sizes = {name: value for name, value in inputs.items() if name == IMAGE_SIZES}
        tokens = self.tower(inputs.pop(PIXELS), **sizes)
        order = self.get_buffer("order")
        rows = self.counts[0] * self.tokens_of_side
        maps = self.grid(tokens[:, order].mT.unflatten(2, (rows, -1)))
        tokens = tokens.index_copy(1, order, maps.flatten(2).mT)
        given = {FEATURES: {"image": SimpleNamespace(pooler_output=self._features(tokens))}}
        return self._text_logits({**inputs, **given}, text.shape[1])

    def _tokens_of_side(self) -> int:
        """Return the number of tokens along a side of a tile."""
        return isqrt(len(self.image_tokens) // self.tower.num_tiles)

    def _num_tokens(self) -> int:
        """Return the number of an image's tokens."""
        rows, columns = self.counts
        return (rows * columns + 1) * self.tokens_of_side**2

    def _features(self, tokens: Tensor) -> object:
        """Return the tokens (B, N, K) in the form that the network's forward takes."""
        return tokens.flatten(0, 1)

    def _order(self) -> Tensor:
        """Return the places of the map's positions, row by row, among an image's tokens."""
        side = self.tokens_of_side
        rows, columns = self.counts
        places = torch.arange(rows * columns * side**2).view(rows, columns, side, side)
        return places.transpose(1, 2).flatten()

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the network's input for images. Raises BenchError for another size."""
        check_size(images, self.size)
        return self._tiles(images).flatten(0, 1)

    def _tiles(self, images: Tensor) -> Tensor:
        """Return the tiles and the small version of images, (B, n, 3, S, S)."""
        side = self.side
        parts = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        tiles = parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        small = functional.interpolate(
            images, (side, side), mode="bicubic", align_corners=False, antialias=True
        )[:, None]
        return torch.cat([small, tiles] if self.small_is_first else [tiles, small], 1)


class PackedTiles(Tiles):
    """A network such as LLaVA-NeXT: the small version comes first, and a token of its own ends
    each row of the tiles' tokens.
    """

    small_is_first = True

    def _tokens_of_side(self) -> int:
        """Return the number of tokens along a side of a tile."""
        patch: int = self.module.config.vision_config.patch_size
        return self.side // patch

    def _num_tokens(self) -> int:
        """Return the number of an image's tokens."""
        rows, columns = (count * self.tokens_of_side for count in self.counts)
        return self.tokens_of_side**2 + rows * (columns + 1)

    def _features(self, tokens: Tensor) -> object:
        """Return the tokens (B, N, K) in the form that the network's forward takes."""
        return tuple(tokens)

    def _order(self) -> Tensor:
        """Return the places of the map's positions, row by row, among an image's tokens."""
        side = self.tokens_of_side
        rows, columns = (count * side for count in self.counts)
        starts = side**2 + torch.arange(rows) * (columns + 1)
        return (starts[:, None] + torch.arange(columns)).flatten()

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the network's input for images. Raises BenchError for another size."""
        tiles: Tensor = super()._pixels(images).unflatten(0, (-1, self.tower.num_tiles))
        return tiles
