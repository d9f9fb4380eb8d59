"""captum's attributions of pixels: Kokhlikyan et al., Captum, 2020, arXiv:2009.07896.

Each image is explained by itself, and seeds the library's draws. So the values of an image don't
depend on its batch. captum's hooks see only modules: DeepLIFT, guided backpropagation and LRP don't
know operations that a network calls as functions, such as `relu` or the addition of a skip
connection.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.methods.peers.installation import missing

try:
    from captum import attr as library
    from captum.attr._utils.lrp_rules import EpsilonRule
except ImportError as error:
    raise missing("captum", error) from error

Options = Mapping[str, object]


def pixels(trace: Trace, extractor: str, options: Options | None = None, seed: int = 0) -> Map:
    """Attributions by captum, summed over colours, signed -> (B, H', W').

    The baseline is captum's: an image of zeros.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        extractor: The name of captum's class, such as "DeepLift". The absolute values of
            "GuidedBackprop" are summed.
        options: Keyword arguments of captum's `attribute`.
        seed: The seed of the library's draws, in addition to the image.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the library fails on the network.
    """
    attributions = _attributions(trace, extractor, options or {}, seed)
    if extractor == "GuidedBackprop":
        attributions = attributions.abs()
    return Map(attributions.sum(1))


def superpixels(
    trace: Trace, extractor: str, grid: int = 7, options: Options | None = None, seed: int = 0
) -> Map:
    """Attributions of the cells of a grid by captum -> (B, H', W').

    A cell that is left out is zero, the baseline.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        extractor: "Lime" or "KernelShap".
        grid: The number of cells along each side, at least 1.
        options: More keyword arguments of captum's `attribute`.
        seed: The seed of the library's draws, in addition to the image.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If grid < 1, or if the library fails on the network.
    """
    if grid < 1:
        raise InvalidParameter(
            f"Invalid grid={grid}; give the number of cells along a side, at least 1."
        )
    cells = torch.zeros(1, dtype=torch.long)
    for side in trace.images.shape[2:]:
        along = min(grid, side)
        positions = torch.arange(side) * along // side
        cells = cells[..., None] * along + positions
    masked = {"feature_mask": cells.to(trace.images.device)[None], **(options or {})}
    # a cell's value is the same for all colours
    return Map(_attributions(trace, extractor, masked, seed)[:, 0])


def noise_baselines(
    trace: Trace,
    extractor: str,
    baselines: int = 16,
    sigma: float = 1.0,
    options: Options | None = None,
    seed: int = 0,
) -> Map:
    """Attributions by captum, averaged over baselines of noise, summed over colours -> (B, H', W').

    The baselines are normal noise around zero, as in captum's documentation. They are drawn once
    for all images, from the seed.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        extractor: "GradientShap" or "DeepLiftShap".
        baselines: The number of baselines, at least 2.
        sigma: The standard deviation of the noise, in units of the network's input, at least 0.
        options: More keyword arguments of captum's `attribute`.
        seed: The seed of the baselines, and in addition to the image of the library's draws.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If baselines < 2, if sigma is negative, or if the library fails on the network.
    """
    if baselines < 2:
        raise InvalidParameter(
            f"Invalid baselines={baselines}; give the number of images, at least 2."
        )
    if not sigma >= 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the noise's standard deviation, 0 or more."
        )
    generator = torch.Generator().manual_seed(seed)
    shape = (baselines, *trace.images.shape[1:])
    noise = sigma * torch.randn(shape, generator=generator, dtype=torch.float64)
    drawn = {"baselines": noise.to(trace.images), **(options or {})}
    return pixels(trace, extractor, drawn, seed)


def occlusion(trace: Trace, window: float = 0.25, stride: float = 0.0625) -> Map:
    """Mean drop of the score by captum's windows of zeros over each pixel -> (B, H', W').

    A window covers all colours.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        window: The side of the window, as a share of the image's side below 1, or in pixels.
        stride: The step of the window, also a share or in pixels, at most the window's side.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If a number is out of range, or if the library fails on the network.
    """
    channels, *size = trace.images.shape[1:]
    windows = [_side_in_pixels("window", window, side) for side in size]
    strides = [_side_in_pixels("stride", stride, side) for side in size]
    if any(step > length for step, length in zip(strides, windows, strict=True)):
        raise InvalidParameter(
            f"Invalid stride={stride}; give at most the window's side, {min(windows)} pixels."
        )
    options = {
        "sliding_window_shapes": (channels, *windows),
        "strides": (channels, *strides),
    }
    # a window's drop is the same for all colours
    return Map(_attributions(trace, "Occlusion", options)[:, 0])


def _side_in_pixels(name: str, length: float, side: int) -> int:
    """Return a length in pixels that is a share of the image's side, if it is below 1."""
    if not 0 < length <= side:
        raise InvalidParameter(
            f"Invalid {name}={length}; give a share of the image's side, such as 0.2, or up to "
            f"{side} pixels."
        )
    return max(1, round(length * side)) if length < 1 else round(length)


def _attributions(trace: Trace, extractor: str, options: Options, seed: int = 0) -> Tensor:
    """Return the attributions of each image, explained by itself: (B, C, H', W')."""

    def attributions_of(row: int) -> Tensor:
        single = trace[row : row + 1]
        (generator,) = single.generators(seed)
        with sandbox(single, f"captum's {extractor}", generator.initial_seed()) as box:
            if extractor == "LRP":
                _set_rules(box.model)
            explainer = getattr(library, extractor)(box.model)
            attributions: Tensor = explainer.attribute(box.images, target=single.targets, **options)
        return attributions.detach()[0].to(trace.images)

    return trace.per_image(attributions_of)


def _set_rules(model: nn.Module) -> None:
    """Give the modules that only reshape a rule that keeps relevance; captum's LRP has none."""
    for module in model.modules():
        if type(module) in (nn.Flatten, nn.Identity):
            module.rule = EpsilonRule()
