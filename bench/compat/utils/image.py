"""Two functions of pytorch_grad_cam.utils.image, which its README uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.overlay import Pixels, colour_map

HALVES = (0.5, 0.5, 0.5)


def preprocess_image(
    img: NDArray[Any], mean: Sequence[float] = HALVES, std: Sequence[float] = HALVES
) -> Tensor:
    """Return an image as a normalised batch of one.

    Args:
        img: The image, (H, W, 3), floats in [0, 1] or bytes.
        mean: The mean of each colour in [0, 1].
        std: The standard deviation of each colour.

    Returns:
        The images, (1, 3, H, W), float32.
    """
    values = torch.from_numpy(np.array(img)).permute(2, 0, 1)
    if values.dtype == torch.uint8:
        values = values / 255
    colours = [torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std)]
    return ((values.float() - colours[0]) / colours[1])[None]


def show_cam_on_image(
    img: NDArray[Any],
    mask: NDArray[Any],
    use_rgb: bool = False,
    colormap: str = "jet",
    image_weight: float = 0.5,
) -> Pixels:
    """Draw a map over an image.

    Args:
        img: The image, (H, W, 3), floats in [0, 1].
        mask: The map, (H, W), in [0, 1].
        use_rgb: False if the image's colours are blue, green and red, as OpenCV reads them.
        colormap: "jet", with OpenCV's colours, or another colour map of matplotlib.
            pytorch-grad-cam takes a number of OpenCV.
        image_weight: The weight of the image, from 0 to 1. The map has the rest.

    Returns:
        The picture, (H, W, 3), bytes, scaled so that its largest value is 255.

    Raises:
        BenchError: If the image isn't in [0, 1], or for another colour map or weight.
    """
    if not isinstance(colormap, str):
        raise BenchError(
            f"Invalid colormap={colormap}; give the name of a colour map of matplotlib, such as "
            'colormap="jet".'
        )
    if np.max(img) > 1:
        raise BenchError("The image has values above 1; divide bytes by 255: img / 255.")
    if not 0 <= image_weight <= 1:
        raise BenchError(f"Invalid image_weight={image_weight}; give a number from 0 to 1.")
    values = np.asarray(mask, dtype=np.float64)
    heat = _jet(values) if colormap == "jet" else colour_map(colormap)(values)[..., :3]
    if not use_rgb:
        heat = heat[..., ::-1]
    mixed = (1 - image_weight) * heat + image_weight * np.asarray(img, dtype=np.float64)
    largest = mixed.max() or 1.0  # a black image of weight 1 stays black
    return np.asarray(255 * mixed / largest, dtype=np.uint8)


def _jet(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return OpenCV's jet, (..., 3), whose steps between colours differ from matplotlib's."""
    channels = [np.clip(1.5 - np.abs(4 * values - peak), 0, 1) for peak in (3, 2, 1)]
    return np.stack(channels, axis=-1)
