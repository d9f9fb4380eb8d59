"""A stand-in for a GPU: tensors on the CPU of which some count as being on another device.

On a machine without a GPU nothing fails where a tensor of the default device meets one of the
model's. Inside of `OtherDevice` such a meeting raises, as it would there.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OTHER = torch.device(
    "cpu:0"
)  # the name of the other device: not equal to "cpu", and the same place to torch
DEVICE_OF = torch.Tensor.device.__get__
READS = (torch.Tensor.numpy, torch.Tensor.__array__)
WAITS = (  # their result, or its size, depends on numbers that are on the GPU
    "aten::_local_scalar_dense", "aten::_unique2", "aten::allclose", "aten::bincount", "aten::equal",
    "aten::masked_select", "aten::nonzero", "aten::repeat_interleave",
)  # fmt: skip
COPIES = (torch.Tensor.cpu, torch.Tensor.to, torch.tensor, torch.as_tensor)
MAY_MIX = (
    "aten::copy_",
    "aten::_to_copy",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
)  # as torch allows


class MixedDevices(AssertionError):
    """What torch refuses on a GPU: tensors of two devices in one operation, or NumPy on a tensor of
    the GPU.
    """


class OtherDevice:
    """While it is entered, `put` tensors, and all that is computed from them, are on the other
    device; everything else is on the CPU. An operation on tensors of both, other than numbers and
    indices, raises MixedDevices, and so does handing a tensor of the other device to NumPy. In
    other threads nothing is refused.

    What `.to(...)` and a factory with `device=...` return is on the other device, what `.cpu()`
    returns is not.

    waits: how often the process would wait for a GPU, by operation and line. It waits for copies
    between the devices, but for those with `non_blocking=True`, and for operations whose result
    Python or a tensor's size depends on.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self._storages: set[StorageWeakRef] = set()
        self.inside = False  # a call on its tensors, which makes further ones where these are
        self._stack = ExitStack()

    def __enter__(self) -> OtherDevice:
        self._stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(
            1
        )  # of several, other threads would compute what is refused and marked in this one alone
        self._stack.enter_context(_Calls(self))
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def put(self, *tensors: Tensor) -> None:
        """These tensors, and what shares their memory, are on the other device from now on."""
        self._storages.update(StorageWeakRef(tensor.untyped_storage()) for tensor in tensors)

    def take(self, tensor: Tensor) -> None:
        """This tensor is on the CPU from now on."""
        self._storages.discard(StorageWeakRef(tensor.untyped_storage()))

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the other device."""
        return StorageWeakRef(tensor.untyped_storage()) in self._storages

    def wait(self, operation: str) -> None:
        """Counts a wait at the line that is running, outside of torch."""
        stack = traceback.walk_stack(sys._getframe(1))
        places = ((frame.f_code.co_filename, line) for frame, line in stack)
        file, line = next(
            place for place in places if place[0] != __file__ and "/torch/" not in place[0]
        )
        self.waits[f"{operation} at {Path(file).name}:{line}"] += 1


class _Calls(TorchFunctionMode):
    """Moves between the devices, which don't reach torch's operations where both are the CPU."""

    def __init__(self, device: OtherDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func == DEVICE_OF and self._device.holds(args[0]):
            return OTHER
        if func in READS and self._device.holds(args[0]):
            raise MixedDevices(
                "A tensor of the other device is handed to NumPy; call .cpu() first."
            )
        if func == torch.Tensor.tolist and self._device.holds(args[0]):
            self._device.wait("tolist")
        result = self._called(func, args, kwargs)
        if not isinstance(result, Tensor):
            return result
        moved = self._moved(result, self._destination(func, args, kwargs))
        if func in COPIES and moved is not result and not kwargs.get("non_blocking"):
            self._device.wait(func.__name__)
        return moved

    def _destination(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> torch.device | None:
        """The device that a call names, itself or by a tensor; None where it names none."""
        if func == torch.Tensor.cpu:
            return torch.device("cpu")
        if func == torch.Tensor.to:
            named = [
                argument
                for argument in (*args[1:], *kwargs.values())
                if not isinstance(argument, torch.dtype)
            ]
        else:
            named = [kwargs.get("device")]
        for argument in named:
            if isinstance(argument, Tensor):
                return OTHER if self._device.holds(argument) else torch.device("cpu")
            if isinstance(argument, str | torch.device):
                return torch.device(argument)
        return None

    def _moved(self, result: Tensor, destination: torch.device | None) -> Tensor:
        is_other = destination == OTHER
        if destination is None or is_other == self._device.holds(result):
            return result
        copy = result.clone()
        (self._device.put if is_other else self._device.take)(copy)
        return copy

    def _called(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        outer = self._device.inside
        self._device.inside = outer or any(map(self._device.holds, _tensors((args, kwargs))))
        try:
            return func(*args, **kwargs)
        finally:
            self._device.inside = outer


class _Operations(TorchDispatchMode):
    """Refuses operations on tensors of both devices, and marks what is computed on the other
    one.
    """

    def __init__(self, device: OtherDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = list(_tensors((args, kwargs)))
        held = [self._device.holds(tensor) for tensor in tensors]
        name = func._schema.name
        if name in MAY_MIX:
            of_result = bool(held and held[0])
        else:
            of_result = any(held) if held else self._device.inside
            foreign = [
                tensor
                for tensor, is_held in zip(tensors, held, strict=True)
                if not is_held and tensor.dim()
            ]
            if of_result and foreign:
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in foreign)
                raise MixedDevices(
                    f"{name} meets tensors of the other device and of the CPU, the latter of "
                    f"{shapes}."
                )
        if of_result and (name in WAITS or self._finds_places(name, tensors)):
            self._device.wait(name)
        result = func(*args, **kwargs)
        if of_result:
            self._device.put(*_tensors(result))
        return result

    def _finds_places(self, name: str, tensors: Sequence[Tensor]) -> bool:
        """Whether an index is a mask, whose places are looked for first, or comes from the CPU."""
        if name not in ("aten::index", "aten::index_put", "aten::index_put_"):
            return False
        indices = tensors[1:] if name == "aten::index" else tensors[1:-1]
        return any(index.dtype == torch.bool or not self._device.holds(index) for index in indices)


def _tensors(tree: Any) -> Iterator[Tensor]:
    """They are looked for in every call of torch, of which torch's own `tree_leaves` would take a
    large part.
    """
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple | dict):
        for entry in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(entry)
