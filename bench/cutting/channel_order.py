"""Which dimension of a value are its channels: (B, K, H, W), or (B, H, W, K) as a transformer's grids, decided by the
operations that make and read it. Its sizes can't tell: maps of as many rows as channels look like a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

FIRST = {
    *("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "interpolate", "pixel_shuffle"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
}
LAST = {"linear", "layer_norm", "rms_norm"}


class ChannelOrder(TorchFunctionMode):
    """Watches a forward pass. Values of one shape of which one is made of the other have one order."""

    def __init__(self) -> None:
        super().__init__()
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
        source, dims = args[0] if args else None, _dims(args[1:], kwargs or {})
        if name in FIRST:
            self._tell(source, False)
            self._tell(result, False)
        elif name == "linear" or (name in LAST and len(dims) == 1):
            self._tell(source, True)
            self._tell(result, True)
        elif name == "permute" and dims in ((0, 3, 1, 2), (0, 2, 3, 1)):
            self._tell(source, dims == (0, 3, 1, 2))
            self._tell(result, dims == (0, 2, 3, 1))
        elif name in ("mean", "amax") and dims in ((2, 3), (1, 2)):
            self._tell(source, dims == (1, 2))
        elif _is_map(result):
            for value in args:
                if _is_map(value) and value.shape == result.shape:
                    self._join(value, result)
        return result

    def _tell(self, value: object, last: bool) -> None:
        if _is_map(value):
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


def _is_map(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 4


def _dims(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """The dimensions, or the sizes, that an operation on a value of four dimensions is called with."""
    given = kwargs.get("dim", kwargs.get("dims", kwargs.get("normalized_shape", args)))
    flat = tree_leaves(given)
    return tuple(dim % 4 if dim < 0 else dim for dim in flat if type(dim) is int)
