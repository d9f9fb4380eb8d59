"""The output of a transformer's layer as maps (B, K, H, W), and back: `reshape` of a cut model.

A vision transformer's layer returns tokens (B, N, K), of which the last H W are the image's patches, row by row; those
before them (the class token, registers) have no position. Swin's layers return grids (B, H, W, K).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.numerics import SPACES
from axiom_bench.errors import BenchError, unknown

Size = tuple[int, ...]  # (H', W') but for a reshape of the user's own
MAX_LEADING_TOKENS = 8  # one class token, one of distillation, four registers are usual


@runtime_checkable
class Reshape(Protocol):
    """Two functions, each the inverse of the other; an object of the user's own may be one."""

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, Tensor | None]:
        """The layer's output for images of (H', W') pixels -> maps (B, K, H, W), and what is on none of them.

        The second is a tensor with the images in its first dimension, or None; it travels beside the maps.
        """

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """The layer's output again, for any batch of maps with the rest of their images."""


AnyReshape = str | Sequence[int] | Reshape  # "tokens", a grid (H, W), or an object with to_maps and from_maps


@dataclass(frozen=True)
class Tokens:
    """Sequences (B, p + H W, K): the first p tokens are the rest. grid: (H, W); None: the one that fits the image."""

    grid: Size | None = None

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, Tensor | None]:
        """Maps (B, K, H, W), and the leading tokens (B, p, K). Raises BenchError where the tokens fill no one grid."""
        height, width = self.grid or grid_of(output.shape[1], image_size)
        leading = output.shape[1] - height * width
        if leading < 0:
            raise BenchError(
                f"{output.shape[1]} tokens don't fill a grid of {height}x{width}; set reshape to their grid."
            )
        maps = output[:, leading:].transpose(1, 2).unflatten(2, (height, width))
        return maps.contiguous(), output[:, :leading] if leading else None

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Tokens (B, p + H W, K)."""
        patches = maps.flatten(2).transpose(1, 2)
        return patches.contiguous() if rest is None else torch.cat((rest, patches), 1)


@dataclass(frozen=True)
class ChannelsLast:
    """Grids (B, H, W, K); nothing is left over."""

    def to_maps(self, output: Tensor, image_size: Size) -> tuple[Tensor, None]:
        """Maps (B, K, H, W)."""
        return output.permute(0, 3, 1, 2).contiguous(), None

    def from_maps(self, maps: Tensor, rest: Tensor | None) -> Tensor:
        """Grids (B, H, W, K)."""
        return maps.permute(0, 2, 3, 1).contiguous()


def check_reshape(reshape: Any) -> AnyReshape | None:
    """The reshape itself, a list as a tuple. Raises BenchError for one that is none of the three."""
    if reshape is None or reshape == "tokens" or isinstance(reshape, Reshape):
        return reshape
    if isinstance(reshape, str):
        raise unknown("reshape", reshape, ["tokens"])
    is_pair = isinstance(reshape, Sequence) and len(reshape) == 2
    if is_pair and all(isinstance(side, int) and side > 0 for side in reshape):
        return tuple(reshape)
    raise BenchError(
        f"Invalid reshape {reshape!r}; give None, 'tokens', a grid (H, W), or an object with to_maps and from_maps."
    )


def layout(
    reshape: AnyReshape | None,
    layer: str,
    output: Tensor,
    image_size: Size,
    channels_last: Callable[[], bool | None] = lambda: None,
) -> Reshape | None:
    """How this layer's output becomes maps; None where it is maps (B, K, H, W) already.

    channels_last: what the network's operations tell of an output whose sizes look like (B, H, W, K); see ChannelOrder.
    Raises BenchError for tokens without a reshape, and for an output that `reshape` can't be meant for.
    """
    if isinstance(reshape, Reshape):
        return reshape
    shape = tuple(output.shape)
    if len(image_size) != 2:
        is_longer = len(shape) == len(image_size) + 2 and any(map(int.__gt__, shape[2:], image_size))
        if reshape is not None or is_longer or channels_last():
            problem = "a side is longer than the input" if is_longer else "its channels are last"
            raise BenchError(
                f"The layer {layer!r} gives {shape} for inputs of {_text(image_size)}: "
                f"{problem if reshape is None else f'reshape={reshape} is of images'}; give a network of "
                f"channels first, (B, C, {SPACES[len(image_size)]}), or a reshape object with to_maps and from_maps."
            )
        return None
    grid = None if reshape is None or isinstance(reshape, str) else (reshape[0], reshape[1])
    readings = _readings(shape, grid, image_size)
    if ChannelsLast() in readings and (last := channels_last()) is not None:
        readings = [ChannelsLast() if last else None]
    if reshape is None:
        if readings and None not in readings:
            raise BenchError(
                f"The layer {layer!r} gives tokens {shape}, not maps (B, K, H, W): "
                "set reshape=tokens (model.reshape=tokens on the command line)."
            )
        return None
    if len(readings) == 2:  # of four dimensions: those with the image's aspect
        sides = {reading: shape[2:] if reading is None else shape[1:3] for reading in readings}
        readings = [key for key in readings if Fraction(*sides[key]) == Fraction(*image_size)] or readings
    if len(readings) != 1:
        problem = "may be maps (B, K, H, W) as well as (B, H, W, K)" if readings else "are no maps of the images"
        raise BenchError(
            f"The values {shape} of the layer {layer!r} {problem}; set reshape to an object with to_maps and from_maps."
        )
    return readings[0]


def grid_of(tokens: int, image_size: Size) -> Size:
    """The one grid (H, W) of square patches that cover the image exactly, after at most 8 leading tokens.

    Raises BenchError where there is none, or more than one.
    """
    sides = range(1, gcd(*image_size) + 1)
    grids = [(image_size[0] // side, image_size[1] // side) for side in sides if not gcd(*image_size) % side]
    fitting = [grid for grid in grids if 0 <= tokens - grid[0] * grid[1] <= min(MAX_LEADING_TOKENS, grid[0] * grid[1])]
    if len(fitting) == 1:
        return fitting[0]
    problem = (
        f"fill each of the grids {' and '.join(map(_text, fitting))}" if fitting else "fill no grid of square patches"
    )
    raise BenchError(
        f"{tokens} tokens of an image of {_text(image_size)} pixels {problem}; set reshape to their grid, as [14, 14]."
    )


def _readings(shape: tuple[int, ...], grid: Size | None, image_size: Size) -> list[Reshape | None]:
    """What an output of this shape may be; None stands for maps (B, K, H, W)."""
    if len(shape) == 3 and shape[1] > 1:
        return [Tokens(grid)]
    if len(shape) != 4:
        return []
    candidates: tuple[tuple[Reshape | None, tuple[int, ...]], ...] = ((None, shape[2:]), (ChannelsLast(), shape[1:3]))
    return [reading for reading, sides in candidates if (fits(sides, image_size) if grid is None else sides == grid)]


def fits(sides: tuple[int, ...], image_size: Size) -> bool:
    """Return whether one stride makes these sides of the image's, a row and a column more or less for rounding."""
    (height, width), (down, across) = sides, image_size
    return down * (width - 1) < across * (height + 1) and across * (height - 1) < down * (width + 1)


def _text(size: Size) -> str:
    return "x".join(map(str, size))


def check_inverse(reshape: Reshape, layer: str, output: Tensor, image_size: Size) -> None:
    """Raises BenchError unless `from_maps` undoes `to_maps` on the output of the layer, bit by bit, for maps."""
    maps, rest = reshape.to_maps(output, image_size)
    if not isinstance(maps, Tensor) or maps.ndim != len(image_size) + 2 or len(maps) != len(output):
        raise BenchError(
            f"The reshape of the layer {layer!r} must give maps (B, K, {SPACES[len(image_size)]}) from "
            f"{tuple(output.shape)}."
        )
    back = reshape.from_maps(maps, rest)
    if back.shape != output.shape or not torch.allclose(back, output, rtol=0, atol=0, equal_nan=True):
        raise BenchError(f"The reshape of the layer {layer!r} isn't invertible: from_maps(*to_maps(x, size)) isn't x.")


# The order of a value's channels is decided by the operations that make and read it. Its sizes can't tell: maps of as
# many rows as channels look like a grid.
FIRST = {"batch_norm", "group_norm", "instance_norm", "interpolate", "pixel_shuffle"} | {
    f"{name}{axes}d"
    for name in ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    for axes in SPACES
}
LAST = {"linear", "layer_norm", "rms_norm"}


class ChannelOrder(TorchFunctionMode):
    """Watches a forward pass. Values of one shape of which one is made of the other have one order.

    ndim: of the values that are watched, 4 of images.
    """

    def __init__(self, ndim: int = 4) -> None:
        super().__init__()
        space = tuple(range(2, ndim))
        self.ndim, self.of_first, self.of_last = ndim, space, tuple(axis - 1 for axis in space)
        self.to_first, self.to_last = (0, ndim - 1, *self.of_last), (0, *space, 1)
        self._values: list[Tensor] = []  # kept, so that no later value has the identity of one of them
        self._alike: dict[int, int] = {}
        self._last: dict[int, bool] = {}

    def channels_last(self, value: object) -> bool | None:
        """Whether a value of the pass is (B, H, W, K); None where no operation tells."""
        return self._last.get(self._first_alike(id(value)))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation, and what it tells."""
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").strip("_")
        source, dims = args[0] if args else None, self._dims(args[1:], kwargs or {})
        if name in FIRST:
            self._tell(source, False)
            self._tell(result, False)
        elif name == "linear" or (name in LAST and len(dims) == 1):
            self._tell(source, True)
            self._tell(result, True)
        elif name == "permute" and dims in (self.to_first, self.to_last) and self.ndim > 3:
            self._tell(source, dims == self.to_first)
            self._tell(result, dims == self.to_last)
        elif name in ("mean", "amax") and dims in (self.of_first, self.of_last) and self.ndim > 3:
            self._tell(source, dims == self.of_last)
        elif self._is_map(result):
            for value in args:
                if self._is_map(value) and value.shape == result.shape:
                    self._join(value, result)
        return result

    def _tell(self, value: object, last: bool) -> None:
        if self._is_map(value):
            self._values.append(value)
            self._last.setdefault(self._first_alike(id(value)), last)

    def _join(self, value: Tensor, made: Tensor) -> None:
        self._values += [value, made]
        one, other = self._first_alike(id(value)), self._first_alike(id(made))
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

    def _dims(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
        """The dimensions, or the sizes, that an operation on a value that is watched is called with."""
        entries = kwargs.get("dim", kwargs.get("dims", kwargs.get("normalized_shape", args)))
        flat = tree_leaves(entries)
        return tuple(dim % self.ndim if dim < 0 else dim for dim in flat if type(dim) is int)
