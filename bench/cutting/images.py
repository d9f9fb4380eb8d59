"""Check images and classes as a user gives them, and a network's first pass over one image.

Inputs that can't be used are refused with an error that says what to do next.

Every trace begins with these checks. Otherwise a wrong shape or type would show as an error deep
inside the network, or as a wrong heatmap.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.model_copy import last_scoring_part, private_state, recorded
from axiom_bench.cutting.numerics import SPACES
from axiom_bench.cutting.passes import HALF
from axiom_bench.errors import BenchError, is_out_of_memory, plural, type_name, unknown_name

# a network's inputs other than the explained images, (B, ...) each
OtherInputs = tuple[Tensor, ...]
# mean and std of the channels, for pixels in 0 to 1
Normalisation = tuple[Sequence[float], Sequence[float]]
Nested = TypeVar("Nested")  # tensors, or nested containers of them
Convolution = nn.modules.conv._ConvNd
COLOURS = (1, 3, 4)
AS_TRAINED = "normalised as in training"
TWO_CLASSES = (
    "To explain both classes of one logit, set model.output=FILE.py:both (in Python output=both), "
    "where both is def both(logits): return torch.stack([-logits, logits], 1)"
    ".reshape(len(logits), 2, -1).mean(2)"
)
# parameters of forward that are texts
TEXTS = {"input_ids", "text", "texts"}
# pixels of 0 to 255 with a lower highest value can't be distinguished from normalised ones
DARKEST = 20.0
# share of the range of pixels that a bicubic resize may leave beyond black and white
OVERSHOOT = 0.1
ROUNDED = 0.01  # the tolerance for whole bytes, more than the error of float32
# share of the range of pixels: a normalised picture of this spread has fewer than six grey levels
LEAST_SPREAD = 0.1


@dataclass
class SeveralInputs:
    """The forward pass of a copy of a network with several inputs.

    It takes only the explained images, and the others from `bound`. So every pass is like that of a
    network of images.
    """

    forward: Callable[..., object]  # the network's own forward
    # the places or names of its inputs, in the order in which they were given
    keys: tuple[int | str, ...]
    explained: int | str  # the key of the images
    as_dict: bool  # True if the network takes its inputs as one dict
    other_inputs: OtherInputs = ()  # the other inputs of the pass that runs

    def __call__(self, images: Tensor) -> object:
        # torch.fx's other inputs are a proxy too, and no number of images is known
        is_traced = isinstance(images, fx.Proxy)
        others = self.other_inputs if is_traced else self.repeat_inputs(len(images))
        places = iter(range(len(self.keys)))
        values = {
            key: images if key == self.explained else others[next(places)] for key in self.keys
        }
        if self.as_dict:
            return self.forward(values)
        if 0 in values:
            return self.forward(*values.values())
        return self.forward(**{str(name): value for name, value in values.items()})

    def repeat_inputs(self, count: int) -> OtherInputs:
        """Return copies of the other inputs for `count` images. Those of one image are repeated.

        Raises BenchError if they belong to another number of images.
        """
        if len(self.other_inputs) != len(self.keys) - 1 or not all(
            len(values) in (1, count) for values in self.other_inputs
        ):
            raise BenchError(
                f"The network takes {', '.join(map(repr, self.keys))}, but its other inputs are "
                f"missing or don't fit {plural(count, 'image')}; give all inputs to trace, and to "
                "trace.forward the rows that its images are of."
            )
        return tuple(
            values.expand(count, *values.shape[1:]).clone() for values in self.other_inputs
        )

    def give(self, model: nn.Module, others: OtherInputs = ()) -> None:
        """Turn a copy of the network into one that takes images only. It uses `other_inputs` until
        other inputs are bound.
        """
        vars(model)["forward"] = replace(self, forward=model.forward, other_inputs=others)


def several_inputs(model: nn.Module) -> SeveralInputs | None:
    """Return the forward pass of a copy of a network with several inputs; None if it takes images
    only.
    """
    return model.forward if isinstance(model.forward, SeveralInputs) else None


def other_inputs_for(model: nn.Module, count: int) -> OtherInputs:
    """Return the other inputs that are bound for `count` images, if the network takes any."""
    inputs = several_inputs(model)
    return () if inputs is None else inputs.repeat_inputs(count)


def split_rows(batch: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Split nested lists and dicts of batched tensors into one for each image. Anything else
    belongs to all images.

    Networks that decide by their data, or whose images influence each other, run on one image at a
    time.
    """
    for row in range(len(batch[0])):
        place = slice(row, row + 1)
        yield pytree.tree_map(
            lambda leaf, place=place: leaf[place] if isinstance(leaf, Tensor) else leaf, batch
        )


def joined(rows: Iterable[Nested]) -> Nested:
    """Join the nested tensors of several images, the inverse of `split_rows`. Anything that isn't a
    tensor is the first image's.
    """
    first, *others = rows
    if not others:
        return first

    def join(*leaves: Any) -> object:
        return torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0]

    batch: Nested = pytree.tree_map(join, first, *others)
    return batch


@contextmanager
def bound(model: nn.Module, others: OtherInputs) -> Iterator[None]:
    """Give all passes of this copy of a network in this block these other inputs, a row for each
    image or one for all.

    A network that takes images only isn't changed.
    """
    inputs = several_inputs(model)
    if inputs is None:
        yield
        return
    before = inputs.other_inputs
    inputs.other_inputs = others
    try:
        yield
    finally:
        inputs.other_inputs = before


def are_several(
    images: object, model: nn.Module
) -> TypeGuard[tuple[Tensor, ...] | Mapping[str, Tensor]]:
    """Return True for several inputs: a dict, or a tuple of tensors with a batch that the network
    may convolve.

    A list, and a tuple of anything else, is several images.
    """
    if isinstance(images, tuple):
        has_batch = any(_is_batch(value, model) for value in images)
        return len(images) > 1 and has_batch and all(isinstance(value, Tensor) for value in images)
    return isinstance(images, Mapping) and len(images) > 1


def _is_batch(value: object, model: nn.Module) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim - 2 in possible_dimensions(model)
    )


def separate_inputs(
    model: nn.Module,
    inputs: tuple[Tensor, ...] | Mapping[str, Tensor],
    explained: int | str | None,
) -> tuple[SeveralInputs, Tensor, OtherInputs]:
    """Separate the explained images from the other inputs of a network that takes several.

    A trace differentiates the network with respect to the images only. The others are bound around
    each pass by the returned SeveralInputs.

    Args:
        model: A copy of the network.
        inputs: A tuple in the order of forward's arguments, or a dict with their names or as
            forward takes one.
        explained: The place or name of the images. None: the one batch that the network may
            convolve.

    Returns:
        The forward pass that takes images only, the images, and the other inputs.

    Raises:
        BenchError: If forward doesn't take the inputs, if there is more than one such batch, or if
            the inputs have different numbers of rows.
    """
    before = several_inputs(model)
    # an earlier trace has given this copy a forward that takes images only
    forward = model.forward if before is None else before.forward
    entries: dict[int | str, Tensor] = {}
    entries.update(inputs if isinstance(inputs, Mapping) else enumerate(inputs))
    as_dict = _takes_dict(model, forward, inputs)
    for key, value in entries.items():
        if not isinstance(value, Tensor):
            raise BenchError(
                f"The input {key!r} is {type_name(value)}, not a tensor with a row for each "
                "image; let the network itself hold what is the same for all images."
            )
    if explained is not None and explained not in entries:
        raise unknown_name("input", explained, map(str, entries))
    images_key = _only_batch(model, forward, entries) if explained is None else explained
    images = entries[images_key]
    for key, value in entries.items():
        if value.shape[:1] != images.shape[:1]:
            raise BenchError(
                f"The input {key!r} has the shape {tuple(value.shape)}, and the explained one "
                f"{tuple(images.shape)}; give a row of each for each image."
            )
    others = tuple(value for key, value in entries.items() if key != images_key)
    return SeveralInputs(forward, tuple(entries), images_key, as_dict), images, others


def _takes_dict(
    model: nn.Module,
    forward: Callable[..., object],
    inputs: tuple[Tensor, ...] | Mapping[str, Tensor],
) -> bool:
    """Return True if forward takes all inputs as one dict, and False if it takes each of them.

    Raises BenchError if it takes neither.
    """
    parameters = inspect.signature(forward).parameters
    if isinstance(inputs, Mapping):
        if not parameters.keys() & inputs.keys() and _binds(forward, inputs):
            return True
        takes_each = _binds(forward, **inputs)
        passed = " and ".join(map(str, inputs))
    else:
        takes_each = _binds(forward, *inputs)
        passed = plural(len(inputs), "input")
    if not takes_each:
        remedy = "only the images, images[0]" if len(parameters) == 1 else "one input for each"
        raise BenchError(
            f"{type(model).__name__}.forward takes {' and '.join(parameters)}, not {passed}; give "
            f"{remedy}."
        )
    return False


def _only_batch(
    model: nn.Module, forward: Callable[..., object], entries: Mapping[int | str, Tensor]
) -> int | str:
    """Return the key of the one input that the network may convolve, or raise BenchError."""
    batches = [key for key, value in entries.items() if _is_batch(value, model)]
    if len(batches) != 1:
        which = " and ".join(map(repr, batches)) or "none of them"
        parameters = inspect.signature(forward).parameters
        example = next(iter(batches or entries))
        raise BenchError(
            f"{type(model).__name__}.forward takes {' and '.join(parameters)}, and {which} has the "
            "axes of its convolutions' images; say which one is explained, such as "
            f"explained={example!r}."
        )
    return batches[0]


def _binds(forward: Callable[..., object], *args: object, **kwargs: object) -> bool:
    """Return True if a function takes these arguments."""
    try:
        inspect.signature(forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def checked_images(images: object, model: nn.Module) -> Tensor:
    """Return the images themselves, (B, C, *space) in floating point. Raises BenchError for
    anything else.
    """
    check_inputs(model)
    images = check_tensor(images)
    dimensions = possible_dimensions(model)
    if images.ndim - 2 not in dimensions or not images.numel():
        shape = tuple(images.shape)
        expected = "(B, 3, H, W)"
        change = _to_four(images.shape)
        if dimensions[0] != 2:
            change = "[None]" if images.ndim == dimensions[0] + 1 else ""
            expected = f"(B, C, {SPACES[dimensions[0]]}), as the network's convolutions take,"
        advice = f"; give images{change}" if change else ""
        # five axes for a network of images are usually clips or crops, not a missing [None]
        if images.ndim == 5 and dimensions[0] == 2 and images.numel():
            advice = _for_clips(model, images)
        raise BenchError(
            f"Invalid images: expected {expected} with B >= 1, not the shape {shape}{advice}."
        )
    if not images.is_floating_point():
        scale = "" if images.dtype == torch.bool or images.is_complex() else " / 255"
        raise BenchError(
            f"The images are {images.dtype}; give images.float(){scale}, {AS_TRAINED}, or "
            "only images.float() if the network itself does that."
        )
    return images


def checked_targets(targets: Tensor | Sequence[int], logits: Tensor) -> Tensor:
    """Return class indices (B,), one of the logits (B, C) of each image. Raises BenchError for
    anything else.
    """
    rows, classes = logits.shape
    expected = f"Invalid targets: expected one class index per image, ({rows},) integers"
    try:
        indices = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BenchError(
            f"{expected}, not {type_name(targets)} that torch can't convert to numbers."
        ) from error
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise BenchError(f"{expected}, not {indices.dtype} values.")
    if indices.shape != (rows,):
        advice = f"; give [{int(indices)}] * {rows}" if indices.ndim == 0 else ""
        if indices.shape == logits.shape and indices.count_nonzero() == rows:
            advice = "; give targets.argmax(1)"
        raise BenchError(f"{expected}, not the shape {tuple(indices.shape)}{advice}.")
    outside = indices[(indices < 0) | (indices >= classes)]
    if len(outside):
        valid = f"0 to {classes - 1}" if classes > 1 else f"only 0. {TWO_CLASSES}"
        raise BenchError(f"Invalid target {int(outside[0])}; the model's classes are {valid}.")
    return indices.long().clone()


def possible_dimensions(model: nn.Module) -> list[int]:
    """Return the possible numbers of spatial axes of a network's inputs, the likeliest first.

    They are those of its convolutions, in their order, or any if it has none. A network of this
    package that takes images has two, whatever convolutions it makes of them.
    """
    declared: int | None = getattr(model, "explained_dimensions", None)
    if declared is not None:
        return [declared]
    kernels = (part.kernel_size for part in model.modules() if isinstance(part, Convolution))
    return [*map(len, kernels)] or [2, 1, 3]


def first_convolution(network: nn.Module) -> tuple[str, Convolution | None]:
    """Return the name and the module of a network's first convolution, in the modules' order.

    ("", None) if it has none.
    """
    for name, part in network.named_modules():
        if isinstance(part, Convolution):
            return name, part
    return "", None


@torch.no_grad()
def _for_clips(model: nn.Module, clips: Tensor) -> str:
    """Return the way to explain clips or crops by a network that convolves one image at a time,
    after a semicolon.

    The clips are (B, T, C, H, W) or (B, C, T, H, W). The model is a copy of the user's network.
    """
    channels = getattr(first_convolution(model)[1], "in_channels", clips.shape[2])
    is_second = clips.shape[1] == channels != clips.shape[2]
    try:
        with private_state(model), recorded(model) as calls:
            model(clips[:1].clone())
    except Exception:  # noqa: BLE001 - a network of images may raise anything for clips
        return f"; give images{'.transpose(1, 2)' if is_second else ''}.flatten(0, 1)"
    name = last_scoring_part(calls, 4)
    part = (
        "a module that takes it"
        if name is None
        else f"the part that takes it, network.get_submodule({name!r})"
    )
    first = "images[:, :, 0]" if is_second else "images[:, 0]"
    return f"; explain one frame or crop of each, {first}, by {part}"


def check_tensor(images: object) -> Tensor:
    """Return the images themselves, or raise BenchError if they aren't a tensor."""
    if not isinstance(images, Tensor):
        raise BenchError(
            "Invalid images: expected a tensor (B, 3, H, W), not "
            f"{type_name(images)}{_conversion_hint(images)}."
        )
    return images


class PixelsGiven(UserWarning):
    """The warning that images aren't normalised as the network takes them."""


def pixels_note(images: Tensor, normalisation: Normalisation | None) -> str:
    """Return a sentence if images (B, C, H', W') are pixels that lack the network's normalisation,
    otherwise "".
    """
    if normalisation is None:
        return ""
    lows, highs = images.transpose(0, 1).flatten(1).aminmax(dim=1)
    low = float(lows.min())
    high = float(highs.max())
    scale = 1 if high <= 1 + OVERSHOOT else 255
    is_of_pixels = low >= -OVERSHOOT * scale and high <= (1 + OVERSHOOT) * scale
    is_picture = float((highs - lows).max()) >= LEAST_SPREAD * scale
    if not is_of_pixels or not is_picture or (scale == 255 and high < DARKEST):
        return ""
    mean, std = normalisation
    shape = (-1, *[1] * (images.ndim - 2))
    levels = 255 * (
        images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)
    )
    if ((levels - levels.round()).abs() < ROUNDED).all():  # normalised bytes of a pale picture
        return ""
    blacks = [-value / deviation for value, deviation in zip(mean, std, strict=True)]
    whites = [(1 - value) / deviation for value, deviation in zip(mean, std, strict=True)]
    takes_pixels = (
        max(map(abs, blacks)) < OVERSHOOT * scale and abs(max(whites) / scale - 1) < OVERSHOOT
    )
    if takes_pixels or (scale == 255 and high <= max(whites)):
        return ""
    values = (
        f"up to {high:.2g}, as pixels of 0 to 1"
        if scale == 1
        else f"up to {high:.0f}, as pixels of 0 to 255"
    )
    pixels = "images * 255" if scale == 1 else "images"
    return (
        f"The images have values {values} do, and this network takes pixels that are normalised "
        "by its mean and standard deviation; give "
        f"model.loaded.preprocessing.normalised({pixels})."
    )


def check_inputs(model: nn.Module) -> None:
    """Raise BenchError for a network that takes more than images."""
    required = []
    for name, entry in inspect.signature(model.forward).parameters.items():
        is_single = entry.kind not in (entry.VAR_POSITIONAL, entry.VAR_KEYWORD)
        if entry.default is entry.empty and is_single:
            required.append(name)
    if len(required) > 1:
        raise BenchError(
            f"{type(model).__name__}.forward takes {' and '.join(required)}: in Python give "
            f"({', '.join(required)}), a row of each for each image; on the command line give "
            f"{' and '.join(required[1:])} by model.inputs=FILE.csv, a line for each image."
        )


def _conversion_hint(images: Any) -> str:
    """Return the code that makes a tensor (B, C, H', W') of something else, after a semicolon; ""
    if there is none.
    """
    # by the library's name, since nothing here needs PIL or NumPy
    library = type(images).__module__.split(".")[0]
    if library == "numpy":
        scaled = f" / 255, {AS_TRAINED}" if images.dtype.kind in "iu" else ""
        return f"; convert it with torch.from_numpy(images){_to_four(images.shape)}{scaled}"
    if library == "PIL" or isinstance(images, str | PathLike):
        image = "images" if library == "PIL" else "PIL.Image.open(images).convert('RGB')"
        return f"; give torchvision.transforms.functional.to_tensor({image})[None], {AS_TRAINED}"
    if isinstance(images, Mapping):
        names = [
            name for name, value in images.items() if isinstance(value, Tensor) and value.ndim == 4
        ]
        return f"; give only its images, images[{names[0]!r}]" if names else ""
    if not isinstance(images, list | tuple) or not images:
        return ""
    if not isinstance(images[0], Tensor):
        advice = _conversion_hint(images[0])
        for_one_image = advice.removeprefix("; ").replace("[None]", "").replace("images", "image")
        return (
            f"; give torch.stack of tensors, and for each image {for_one_image}"
            if for_one_image
            else ""
        )
    are_images = all(isinstance(image, Tensor) and image.ndim == 3 for image in images)
    return (
        "; stack images of one size, torch.stack(images)"
        if are_images
        else "; give only its images, images[0]"
    )


def _to_four(shape: Sequence[int]) -> str:
    """Return the calls that make an array of images of this shape (B, C, H', W')."""
    is_channels_last = len(shape) in (3, 4) and shape[-1] in COLOURS and shape[-3] not in COLOURS
    new_axes = {2: "[None, None]", 3: "[None]"}.get(len(shape), "")
    return (".movedim(-1, -3)" if is_channels_last else "") + new_axes


@contextmanager
def network_errors(network: nn.Module, image: Tensor) -> Iterator[None]:
    """Turn an error in this block into a BenchError if the network itself raises one for the image,
    (1, C, H', W').

    The BenchError says why the network can't run on the image.
    """
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
            inputs = several_inputs(network)
            if inputs is not None and inputs.as_dict:
                name = type(network).__name__
                entries = " and ".join(map(str, inputs.keys))
                remedy = f"if it takes only images, give images[{inputs.explained!r}]"
                raise BenchError(
                    f"{name} can't run on a dict of {entries} ({reason[:80]}); {remedy}."
                ) from cause
            raise BenchError(_why(network, image, reason)) from cause
        raise


def _why(network: nn.Module, image: Tensor, reason: str) -> str:
    """Return the reason why a network can't run on an image, and a remedy."""
    name = type(network).__name__
    channels = image.shape[1]
    kinds = {tensor.dtype for tensor in network.parameters()}
    # torch's own error names numbers of channels without the convolution that they belong to
    place, first = first_convolution(network)
    expected = channels if first is None else first.in_channels
    if "channels" in reason and expected != channels:
        advice = f"images (B, {expected}, {SPACES[image.ndim - 2]})"
        if image.shape[-1] == expected:
            advice = f"images.movedim(-1, {1 - image.ndim})"
        elif image.ndim == 4:
            conversions = {
                (1, 3): "images.expand(-1, 3, -1, -1)",
                (4, 3): "images[:, :3]",
                (3, 1): "images.mean(1, keepdim=True)",
            }
            advice = conversions.get((channels, expected), advice)
        return (
            f"The first convolution of {name}, {place!r}, takes {expected} channels, and these "
            f"images {tuple(image.shape[1:])} have {channels}; give {advice}."
        )
    if len(kinds) > 1 or kinds & HALF:
        return (
            f"{name} can't run in {' and '.join(sorted(map(str, kinds)))} ({reason}); give "
            "network.float()."
        )
    if TEXTS & {*inspect.signature(network.forward).parameters}:
        return (
            f"{name} takes texts with its images. For a CLIP, set them by model=clip "
            "\"model.kwargs.captions=[a cat,a dog]\", in Python ab.load_model('clip', "
            "checkpoint=FOLDER, kwargs={'captions': ['a cat', 'a dog']}). For others, put it into "
            "a module whose forward gives it the texts."
        )
    size = " x ".join(map(str, image.shape[1:]))
    return (
        f"{name} can't run on an image of {size} ({reason}); give images of the channels and the "
        "size that it was trained on, on the command line by model.resize and model.crop, or put "
        "it into a module whose forward hands it what it takes, as self.net(list(images))."
    )
