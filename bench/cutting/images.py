"""Images as a user gives them, and a network's first pass over one: read, or refused with the next step."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.numerics import SPACES
from axiom_bench.errors import BenchError, is_out_of_memory, type_name

COLOURS = (1, 3, 4)
AS_TRAINED = "normalised as in training"


def checked_images(images: Any, model: nn.Module) -> Tensor:
    """The images themselves, (B, C, *space) in floating point. Raises BenchError for anything else."""
    check_inputs(model)
    check_tensor(images)
    dimensions = dimensions_of(model)
    if images.ndim - 2 not in dimensions or not images.numel():
        shape, expected, change = tuple(images.shape), "(B, 3, H, W)", _to_four(images.shape)
        if dimensions[0] != 2:
            change = "[None]" if images.ndim == dimensions[0] + 1 else ""
            expected = f"(B, C, {SPACES[dimensions[0]]}), as the network's convolutions take,"
        advice = f"; give images{change}" if change else ""
        raise BenchError(f"Invalid images: expected {expected} with B >= 1, not the shape {shape}{advice}.")
    if not images.is_floating_point():
        scale = "" if images.dtype == torch.bool or images.is_complex() else " / 255"
        raise BenchError(
            f"The images are {images.dtype}; give images.float(){scale}, {AS_TRAINED}, or images.float() alone where "
            "the network itself does that."
        )
    return images


def dimensions_of(model: nn.Module) -> list[int]:
    """How many axes of space a network's inputs may have, the likeliest first: those of its convolutions, in their
    order, or any where it has none."""
    kernels = (part.kernel_size for part in model.modules() if isinstance(part, nn.modules.conv._ConvNd))
    return [*map(len, kernels)] or [2, 1, 3]


def check_tensor(images: Any) -> None:
    """Raises BenchError for images that aren't a tensor."""
    if not isinstance(images, Tensor):
        raise BenchError(
            f"Invalid images: expected a tensor (B, 3, H, W), not {type_name(images)}{_from_others(images)}."
        )


def check_inputs(model: nn.Module) -> None:
    """Raises BenchError for a network that takes more than images."""
    required = [
        name
        for name, entry in inspect.signature(model.forward).parameters.items()
        if entry.default is entry.empty and entry.kind not in (entry.VAR_POSITIONAL, entry.VAR_KEYWORD)
    ]
    if len(required) > 1:
        first, *others = required
        by_name = ", ".join(f"{name}={name}" for name in others)
        raise BenchError(
            f"{type(model).__name__}.forward takes {' and '.join(required)}, and images alone are varied here; bind "
            f"{' and '.join(others)} of one image, with `class Bound(torch.nn.Module): forward = lambda self, {first}: "
            f"self.net({first}, {by_name})` and `bound = Bound(); bound.net = net`, whose layers are named 'net....'."
        )


def _from_others(images: Any) -> str:
    """What makes a tensor (B, C, H', W') of something else, after a semicolon; "" where nothing does."""
    library = type(images).__module__.split(".")[0]
    if library == "numpy":
        scaled = f" / 255, {AS_TRAINED}" if images.dtype.kind in "iu" else ""
        return f"; convert it with torch.from_numpy(images){_to_four(images.shape)}{scaled}"
    if library == "PIL" or isinstance(images, str | PathLike):
        image = "images" if library == "PIL" else "PIL.Image.open(images).convert('RGB')"
        return f"; give torchvision.transforms.functional.to_tensor({image})[None], {AS_TRAINED}"
    if isinstance(images, Mapping):
        names = [name for name, value in images.items() if isinstance(value, Tensor) and value.ndim == 4]
        return f"; give its images alone, images[{names[0]!r}]" if names else ""
    if not isinstance(images, list | tuple) or not images:
        return ""
    if not isinstance(images[0], Tensor):
        of_each = _from_others(images[0]).removeprefix("; ").replace("[None]", "").replace("images", "image")
        return f"; give torch.stack of tensors, and for each image {of_each}" if of_each else ""
    rows = all(isinstance(image, Tensor) and image.ndim == 3 for image in images)
    return "; stack images of one size, torch.stack(images)" if rows else "; give its images alone, images[0]"


def _to_four(shape: Sequence[int]) -> str:
    """What is called on an array of images of this shape to make it (B, C, H', W')."""
    last = len(shape) in (3, 4) and shape[-1] in COLOURS and shape[-3] not in COLOURS
    crops = len(shape) == 5 and shape[2] in COLOURS
    new = {2: "[None, None]", 3: "[None]"}.get(len(shape), ".flatten(0, 1)" if crops else "")
    return (".movedim(-1, -3)" if last else "") + new


@contextmanager
def failures_of(network: nn.Module, image: Tensor) -> Iterator[None]:
    """Where what is raised in this block is what the network itself raises for the image, (1, C, H', W'), raises a
    BenchError that says why it can't run on it."""
    try:
        yield
    except Exception as error:  # a user's code may raise anything
        if isinstance(error, BenchError) or is_out_of_memory(error):
            raise
        try:
            with torch.no_grad():
                network(image.clone())
        except Exception as cause:
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            raise BenchError(_why(network, image, reason)) from cause
        raise


def _why(network: nn.Module, image: Tensor, reason: str) -> str:
    """Why a network can't run on an image, and what can be done."""
    name, channels = type(network).__name__, image.shape[1]
    kinds = {str(tensor.dtype) for tensor in network.parameters()}
    convolutions = (part for part in network.named_modules() if isinstance(part[1], nn.modules.conv._ConvNd))
    place, first = next(convolutions, ("", None))
    expected = channels if first is None else first.in_channels
    if "channels" in reason and expected != channels:
        advice = {
            (1, 3): "images.expand(-1, 3, -1, -1)", (4, 3): "images[:, :3]", (3, 1): "images.mean(1, keepdim=True)"
        }.get((channels, expected)) if image.ndim == 4 else None  # fmt: skip
        advice = advice or f"images (B, {expected}, {SPACES[image.ndim - 2]})"
        advice = f"images.movedim(-1, {1 - image.ndim})" if image.shape[-1] == expected else advice
        return (
            f"The first convolution of {name}, {place!r}, takes {expected} channels, and these images "
            f"{tuple(image.shape[1:])} have {channels}; give {advice}."
        )
    if len(kinds) > 1 or kinds & {"torch.float16", "torch.bfloat16"}:
        return f"{name} can't run in {' and '.join(sorted(kinds))} ({reason}); give network.float()."
    size = " x ".join(map(str, image.shape[1:]))
    return (
        f"{name} can't run on an image of {size} ({reason}); give images of the channels and "
        "the size that it was trained on, on the command line by model.resize and model.crop, or put it into a module "
        "whose forward hands it what it takes, as self.net(list(images))."
    )
