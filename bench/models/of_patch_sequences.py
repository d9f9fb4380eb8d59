"""Vision-language networks that take an image as a sequence of patches, such as Qwen2-VL.

Their vision tower has no dimension for images, and joins neighbouring patches at its end. So the
layer is what the tower gives the decoder, whose tokens have a grid.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from axiom_bench.data.preprocessing import RGB
from axiom_bench.errors import BenchError
from axiom_bench.models.of_vision_language import GRID, PIXELS, VisionLanguage, processed

SIZE = (448, 448)  # the height and width of images in pixels if the user gives none
FEATURES = "mm_encoder_outputs"  # the argument of what the tower has computed
SETTINGS = ("patch_size", "spatial_merge_size", "temporal_patch_size")  # of a vision tower
DEEP = "deepstack_features"  # what Qwen3-VL's decoder reads of inner blocks, on no map of the layer


class _Tower(nn.Module):
    """A vision tower of patches, whose results have a dimension for images.

    Args:
        visual: The tower of transformers.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor, grid: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the tokens of images (B, N, K), and those of inner blocks, of the same shape."""
        features = self.visual(pixels, grid_thw=grid)
        by_image = (len(grid), -1)
        deep = [part.unflatten(0, by_image) for part in getattr(features, DEEP, None) or []]
        return features.pooler_output.unflatten(0, by_image), deep


class PatchSequences(VisionLanguage):
    """A network of transformers that takes an image as a sequence of patches.

    It maps images (B, 3, H', W') of one size and texts (B, L) to the logits (B, L, V) of each
    position.

    Args:
        network: The network, such as a Qwen2VLForConditionalGeneration.
        processor: Its processor.
        prompt: The question or instruction, in the processor's template.
        size: H', W'.

    Raises:
        BenchError: If the processor resizes images of this size, or makes other patches than
            `patches`, or if the network takes no features of its tower.
    """

    def __init__(self, network: Any, processor: Any, prompt: str, size: tuple[int, int]) -> None:
        name = type(network).__name__
        inner = getattr(network, "model", network)
        check_takes_features(network)
        vision = network.config.vision_config
        patch, merge, frames_of_patch = (getattr(vision, setting, 0) for setting in SETTINGS)
        if not (patch and merge and frames_of_patch and hasattr(inner, "visual")):
            raise _unsupported(name)
        picture = np.random.default_rng(0).integers(0, 256, (*size, RGB), dtype=np.uint8)
        inputs = processed(network, processor, prompt, Image.fromarray(picture))
        frames, rows, columns = inputs[GRID][0].tolist()
        made = (rows * patch, columns * patch)
        if made != size or frames != 1:
            raise BenchError(
                f"The processor of {name} resizes images of {size[0]}x{size[1]} pixels to "
                f"{made[0]}x{made[1]}; set model.kwargs.size to these two sides "
                "(WordScores(size=...))."
            )
        super().__init__(network, processor, prompt, inputs)
        self.patch: int = patch
        self.merge: int = merge
        self.frames: int = frames_of_patch
        self.size = size
        self.tower = _Tower(inner.visual)
        self.grid = nn.Identity()
        self.default_layer = "grid"
        pixels = normalised(picture, processor.image_processor)
        if not torch.allclose(self.patches(pixels), inputs[PIXELS], atol=1e-4):
            raise _unsupported(name)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Compute the logits (B, L, V) of each token of a text, given the tokens before it."""
        inputs = self._inputs(images, text)
        tokens, deep = self.tower(inputs.pop(PIXELS), inputs[GRID])
        # The decoder itself joins the tokens of several images.
        features = {"pooler_output": tuple(self.grid(tokens)), DEEP: [tuple(part) for part in deep]}
        given = {FEATURES: {"image": SimpleNamespace(**features)}}
        return self._text_logits({**inputs, **given}, text.shape[1])

    def patches(self, images: Tensor) -> Tensor:
        """Return the patches of images, (B rows columns, 3 frames patch patch).

        The patches that the tower joins follow one another. A frame is the same image again.
        """
        parts = images.unflatten(3, (-1, self.merge, self.patch))
        parts = parts.unflatten(2, (-1, self.merge, self.patch))
        ordered = parts.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(0, 4)
        frames = ordered[:, :, None].expand(-1, -1, self.frames, -1, -1)
        patches: Tensor = frames.flatten(1)
        return patches

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the network's input for images. Raises BenchError for another size."""
        check_size(images, self.size)
        return self.patches(images)


def normalised(picture: NDArray[np.uint8], image_processor: Any) -> Tensor:
    """Return a picture (H', W', 3) as images (1, 3, H', W'), by the mean and std of a processor."""
    mean = torch.tensor(image_processor.image_mean)[:, None, None]
    std = torch.tensor(image_processor.image_std)[:, None, None]
    return ((torch.from_numpy(picture).movedim(2, 0) / 255 - mean) / std)[None]


def check_size(images: Tensor, size: tuple[int, int]) -> None:
    """Raise BenchError if images (B, 3, H', W') have another size than the prompt is for."""
    height, width = images.shape[2:]
    if (height, width) != size:
        raise BenchError(
            f"The images have {height}x{width} pixels, and the prompt is for {size[0]}x{size[1]}; "
            "set model.kwargs.size to the images' size (WordScores(size=...))."
        )


def check_takes_features(network: Any) -> None:
    """Raise BenchError if a network of transformers doesn't take what its tower has computed."""
    inner = getattr(network, "model", network)
    if FEATURES not in inspect.signature(inner.forward).parameters:
        raise BenchError(
            f"{type(network).__name__} of this version of transformers takes no {FEATURES}; type "
            "`pip install 'transformers>=5.23'`."
        )


def _unsupported(name: str) -> BenchError:
    """Return the error for a network whose patches aren't those of Qwen2-VL."""
    return BenchError(
        f"The processor of {name} makes other patches than that of Qwen2-VL; words are explained "
        "for networks such as LLaVA, PaliGemma, InternVL, SmolVLM and Qwen2-VL."
    )
