"""Turn the output of a transformer's layer into maps (B, K, H, W), and back: the `reshape` of a cut
model.

A vision transformer's layer returns tokens (B, N, K). The last H W of them are the image's patches,
row by row. The tokens before them (the class token, registers) have no position. Swin's layers
return grids (B, H, W, K).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.numerics import SPACES
from axiom_bench.errors import BenchError, unknown_name

Size = tuple[int, ...]  # (H', W'), except for a user's own reshape
MAX_LEADING_TOKENS = 8  # a class token, a distillation token and four registers are usual


@runtime_checkable
class Reshape(Protocol):
    """Two functions, each the inverse of the other. A user's own object may be one."""

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, Tensor | None]:
        """Return maps (B, K, H, W) of the layer's output for images of (H', W') pixels, and the
        rest of the output.

        The rest is on no map. It is a tensor with the images in its first dimension, or None, and
        crosses the cut with the maps.
        """

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Return the layer's output again, for any batch of maps with the rest of their images."""


# "tokens", a grid (H, W), or an object with to_maps and from_maps
AnyReshape = str | Sequence[int] | Reshape


@dataclass(frozen=True)
class Tokens:
    """Sequences (B, p + H W, K), whose first p tokens are the rest."""

    grid: Size | None = None  # (H, W); None: the grid that fits the image

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, Tensor | None]:
        """Return maps (B, K, H, W) and the leading tokens (B, p, K).

        Raises BenchError unless the tokens fill exactly one grid.
        """
        height, width = self.grid or patch_grid(output.shape[1], image_size)
        leading = output.shape[1] - height * width
        if leading < 0:
            raise BenchError(
                f"{output.shape[1]} tokens don't fill a grid of {height}x{width}; set reshape to "
                "their grid."
            )
        maps = output[:, leading:].transpose(1, 2).unflatten(2, (height, width))
        return maps.contiguous(), output[:, :leading] if leading else None

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Return tokens (B, p + H W, K)."""
        patches = maps.flatten(2).transpose(1, 2)
        return patches.contiguous() if rest is None else torch.cat((rest, patches), 1)


@dataclass(frozen=True)
class ChannelsLast:
    """Grids (B, H, W, K), which have no rest."""

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, None]:
        """Return maps (B, K, H, W)."""
        return output.permute(0, 3, 1, 2).contiguous(), None

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Return grids (B, H, W, K)."""
        return maps.permute(0, 2, 3, 1).contiguous()


def check_reshape(reshape: object) -> AnyReshape | None:
    """Return the reshape itself, a list as a tuple. Raises BenchError for one that is none of the
    three.
    """
    if reshape is None or isinstance(reshape, Reshape):
        return reshape
    if isinstance(reshape, str):
        if reshape == "tokens":
            return reshape
        raise unknown_name("reshape", reshape, ["tokens"])
    sides = tuple(reshape) if isinstance(reshape, Sequence) else ()
    if len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
        return sides
    raise BenchError(
        f"Invalid reshape {reshape!r}; give None, 'tokens', a grid (H, W), or an object with "
        "to_maps and from_maps."
    )


def layout(
    reshape: AnyReshape | None,
    layer: str,
    output: Tensor,
    image_size: Size,
    channels_last: Callable[[], bool | None] = lambda: None,
) -> Reshape | None:
    """Return the way from this layer's output to maps, or None if the output is maps (B, K, H, W)
    already.

    `channels_last` finds the order of an output whose sizes look like (B, H, W, K) by the network's
    operations; see ChannelOrder. Raises BenchError for tokens without a reshape, and for an output
    that `reshape` can't be meant for.
    """
    if isinstance(reshape, Reshape):
        return reshape
    shape = tuple(output.shape)
    if len(image_size) != 2:
        has_same_axes = len(shape) == len(image_size) + 2
        is_longer = has_same_axes and any(map(int.__gt__, shape[2:], image_size))
        if reshape is not None or is_longer or channels_last():
            problem = "a side is longer than the input" if is_longer else "its channels are last"
            raise BenchError(
                f"The layer {layer!r} gives {shape} for inputs of {_text(image_size)}: "
                f"{problem if reshape is None else f'reshape={reshape} is of images'}; give a "
                f"network of channels first, (B, C, {SPACES[len(image_size)]}), or a reshape "
                "object with to_maps and from_maps."
            )
        return None
    grid = None if reshape is None or isinstance(reshape, str) else (reshape[0], reshape[1])
    readings = _readings(shape, grid, image_size)
    if ChannelsLast() in readings:
        is_last = channels_last()
        if is_last is not None:
            readings = [ChannelsLast() if is_last else None]
    if reshape is None:
        if readings and None not in readings:
            raise BenchError(
                f"The layer {layer!r} gives tokens {shape}, not maps (B, K, H, W): "
                "set reshape=tokens (model.reshape=tokens on the command line)."
            )
        return None
    # an output of four dimensions: prefer the readings with the image's aspect
    if len(readings) == 2:
        sides = {reading: shape[2:] if reading is None else shape[1:3] for reading in readings}
        fitting = [
            reading for reading in readings if Fraction(*sides[reading]) == Fraction(*image_size)
        ]
        readings = fitting or readings
    if len(readings) != 1:
        problem = (
            "may be maps (B, K, H, W) as well as (B, H, W, K)"
            if readings
            else "are no maps of the images"
        )
        raise BenchError(
            f"The values {shape} of the layer {layer!r} {problem}; set reshape to an object with "
            "to_maps and from_maps."
        )
    return readings[0]


def patch_grid(tokens: int, image_size: Size) -> Size:
    """Return the one grid (H, W) of square patches that cover the image exactly, after at most 8
    leading tokens.

    Raises BenchError if there is none, or more than one.
    """
    # A patch is a square whose side divides both sides of the image.
    longest = gcd(*image_size)
    sides = [side for side in range(1, longest + 1) if not longest % side]
    grids = [(image_size[0] // side, image_size[1] // side) for side in sides]
    fitting = []
    for height, width in grids:
        patches = height * width
        if 0 <= tokens - patches <= min(MAX_LEADING_TOKENS, patches):
            fitting.append((height, width))
    if len(fitting) == 1:
        return fitting[0]
    problem = "fill no grid of square patches"
    if fitting:
        problem = f"fill each of the grids {' and '.join(map(_text, fitting))}"
    raise BenchError(
        f"{tokens} tokens of an image of {_text(image_size)} pixels {problem}; set reshape to "
        "their grid, as [14, 14]."
    )


def _readings(shape: tuple[int, ...], grid: Size | None, image_size: Size) -> list[Reshape | None]:
    """Return the possible meanings of an output of this shape; None stands for maps (B, K, H,
    W).
    """
    if len(shape) == 3 and shape[1] > 1:
        return [Tokens(grid)]
    if len(shape) != 4:
        return []
    readings: list[Reshape | None] = []
    if _may_be_grid(shape[2:], grid, image_size):
        readings.append(None)
    if _may_be_grid(shape[1:3], grid, image_size):
        readings.append(ChannelsLast())
    return readings


def _may_be_grid(sides: Size, grid: Size | None, image_size: Size) -> bool:
    return fits(sides, image_size) if grid is None else sides == grid


def fits(sides: tuple[int, ...], image_size: Size) -> bool:
    """Return True if one stride makes these sides from the image's, up to one row or column of
    rounding.

    A layer's maps have the image's aspect. This distinguishes maps from grids of tokens and from
    attention weights.
    """
    height, width = sides
    down, across = image_size
    return down * (width - 1) < across * (height + 1) and across * (height - 1) < down * (width + 1)


def _text(size: Size) -> str:
    return "x".join(map(str, size))


def check_inverse(reshape: Reshape, layer: str, output: Tensor, image_size: Size) -> None:
    """Raise BenchError unless `from_maps` undoes `to_maps` on the output of the layer, bit by bit,
    for maps.

    Otherwise the head would compute other scores than the network.
    """
    maps, rest = reshape.to_maps(output, image_size)
    if not isinstance(maps, Tensor) or maps.ndim != len(image_size) + 2 or len(maps) != len(output):
        raise BenchError(
            f"The reshape of the layer {layer!r} must give maps (B, K, {SPACES[len(image_size)]}) "
            f"from {tuple(output.shape)}."
        )
    back = reshape.from_maps(maps, rest)
    if back.shape != output.shape or not torch.allclose(
        back, output, rtol=0, atol=0, equal_nan=True
    ):
        raise BenchError(
            f"The reshape of the layer {layer!r} isn't invertible: from_maps(*to_maps(x, size)) "
            "isn't x."
        )


# The operations that make and read a value decide the order of its channels. Its sizes don't: maps
# with as many rows as channels look like a grid.
FIRST = {"batch_norm", "group_norm", "instance_norm", "interpolate", "pixel_shuffle"} | {
    f"{name}{axes}d"
    for name in (
        "conv",
        "conv_transpose",
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "adaptive_max_pool",
    )
    for axes in SPACES
}
LAST = {"linear", "layer_norm", "rms_norm"}


class ChannelOrder(TorchFunctionMode):
    """A mode that watches a forward pass for the order of channels.

    If two values have one shape and one is made from the other, their order is the same.
    """

    def __init__(self, ndim: int = 4) -> None:
        super().__init__()
        self.ndim = ndim  # of the values that are watched: 4 for images
        # The spatial axes if channels are first or last, and the permutations to these orders.
        self.space_of_first = tuple(range(2, ndim))
        self.space_of_last = tuple(axis - 1 for axis in self.space_of_first)
        self.to_first = (0, ndim - 1, *self.space_of_last)
        self.to_last = (0, *self.space_of_first, 1)
        self._values: list[Tensor] = []  # kept, so that no later value gets the id of one of them
        self._alike: dict[int, int] = {}  # from a value's id to that of a value with the same order
        self._last: dict[int, bool] = {}  # True if the channels of the value with this id are last

    def channels_last(self, value: object) -> bool | None:
        """Return True if a value of the pass is (B, H, W, K); None if no operation shows its
        order.
        """
        return self._last.get(self._first_alike(id(value)))

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation, and record the order that it shows."""
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").strip("_")
        source = args[0] if args else None
        dims = self._dims(args[1:], kwargs or {})
        # With three axes, the two orders of axes are one.
        is_pooling = name in ("mean", "amax") and self.ndim > 3
        if name in FIRST:
            self._set_order(source, False)
            self._set_order(result, False)
        elif name == "linear" or (name in LAST and len(dims) == 1):
            self._set_order(source, True)
            self._set_order(result, True)
        elif name == "permute" and dims in (self.to_first, self.to_last) and self.ndim > 3:
            self._set_order(source, dims == self.to_first)
            self._set_order(result, dims == self.to_last)
        elif is_pooling and dims in (self.space_of_first, self.space_of_last):
            self._set_order(source, dims == self.space_of_last)
        elif self._is_map(result):
            for value in args:
                if self._is_map(value) and value.shape == result.shape:
                    self._join(value, result)
        return result

    def _set_order(self, value: object, is_last: bool) -> None:
        if self._is_map(value):
            self._values.append(value)
            self._last.setdefault(self._first_alike(id(value)), is_last)

    def _join(self, value: Tensor, made: Tensor) -> None:
        """Record that two values have the same order."""
        self._values += [value, made]
        one = self._first_alike(id(value))
        other = self._first_alike(id(made))
        if one != other:
            self._alike[other] = one
            if other in self._last:
                self._last.setdefault(one, self._last[other])

    def _first_alike(self, key: int) -> int:
        while key in self._alike:
            key = self._alike[key]
        return key

    def _is_map(self, value: object) -> TypeGuard[Tensor]:
        return isinstance(value, Tensor) and value.ndim == self.ndim

    def _dims(self, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[int, ...]:
        """Return the dimensions or sizes that an operation on a watched value is called with."""
        entries = kwargs.get("dim", kwargs.get("dims", kwargs.get("normalized_shape", args)))
        flat = tree_leaves(entries)
        return tuple(dim % self.ndim if dim < 0 else dim for dim in flat if type(dim) is int)
