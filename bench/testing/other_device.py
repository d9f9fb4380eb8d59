"""A stand-in for a GPU: tensors on the CPU of which some count as being on another device.

On a machine without a GPU, nothing fails if a tensor of the default device meets one of the
model's. Inside of `OtherDevice` such a meeting raises, as it would on a GPU.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# The name of the other device. It isn't equal to "cpu", but the same place to torch.
OTHER = torch.device("cpu:0")
DEVICE_OF = torch.Tensor.device.__get__
READS = (torch.Tensor.numpy, torch.Tensor.__array__)
# Operations whose result, or its size, depends on numbers that are on the GPU.
WAITS = (
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::allclose",
    "aten::bincount",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
)
COPIES = (torch.Tensor.cpu, torch.Tensor.to, torch.tensor, torch.as_tensor)
# Operations in which torch allows tensors of two devices.
MAY_MIX = (
    "aten::copy_",
    "aten::_to_copy",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
)


CONTAINERS = (list, tuple, dict)  # of arguments; isinstance is faster with a tuple of types


class MixedDevices(AssertionError):
    """An error for what torch refuses on a GPU.

    It is tensors of two devices in one operation, or NumPy on a tensor of the GPU.
    """


class OtherDevice:
    """A context in which `put` tensors, and all that is computed from them, are on another device.

    Everything else is on the CPU. An operation on tensors of both devices, other than numbers and
    indices, raises MixedDevices. So does handing a tensor of the other device to NumPy. In other
    threads nothing is refused.

    The result of `.to(...)`, and of a factory with `device=...`, is on the other device. The result
    of `.cpu()` isn't.

    Attributes:
        waits: How often the process would wait for a GPU, by operation and line. It waits for
            copies between the devices, except those with `non_blocking=True`. It also waits for
            operations whose result Python, or a tensor's size, depends on.
        inside: True during a call on tensors of the other device. Tensors that are made in the call
            are there, too.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self._storages: set[StorageWeakRef] = set()
        self.inside = False
        self._stack = ExitStack()

    def __enter__(self) -> OtherDevice:
        self._stack.callback(torch.set_num_threads, torch.get_num_threads())
        # Operations are refused and marked only in this thread, so others must not compute.
        torch.set_num_threads(1)
        self._stack.enter_context(_Calls(self))
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def put(self, *tensors: Tensor) -> None:
        """Move these tensors, and what shares their memory, to the other device from now on."""
        self._storages.update(StorageWeakRef(tensor.untyped_storage()) for tensor in tensors)

    def take(self, tensor: Tensor) -> None:
        """Move this tensor to the CPU from now on."""
        self._storages.discard(StorageWeakRef(tensor.untyped_storage()))

    def holds(self, tensor: Tensor) -> bool:
        """Return whether a tensor is on the other device."""
        return StorageWeakRef(tensor.untyped_storage()) in self._storages

    def wait(self, operation: str) -> None:
        """Count a wait at the line that is running, outside of torch."""
        for frame, line in traceback.walk_stack(sys._getframe(1)):
            file = frame.f_code.co_filename
            if file != __file__ and "/torch/" not in file:
                self.waits[f"{operation} at {Path(file).name}:{line}"] += 1
                return


class _Calls(TorchFunctionMode):
    """A mode that sees moves between the devices, which don't reach torch's operations.

    Both devices are the CPU to torch.
    """

    def __init__(self, device: OtherDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
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
        """Return the device that a call names, itself or by a tensor, or None."""
        if func == torch.Tensor.cpu:
            return torch.device("cpu")
        is_to = func == torch.Tensor.to
        for argument in (*args[1:], *kwargs.values()) if is_to else (kwargs.get("device"),):
            if isinstance(argument, Tensor):
                return OTHER if self._device.holds(argument) else torch.device("cpu")
            if isinstance(argument, str | torch.device):
                return torch.device(argument)
        return None

    def _moved(self, result: Tensor, destination: torch.device | None) -> Tensor:
        """Return a copy of the result on its destination, or the result if it is there already."""
        is_other = destination == OTHER
        if destination is None or is_other == self._device.holds(result):
            return result
        copy = result.clone()
        if is_other:
            self._device.put(copy)
        else:
            self._device.take(copy)
        return copy

    def _called(
        self, func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Call a function, with `inside` set if one of its tensors is on the other device."""
        outer = self._device.inside
        self._device.inside = outer or any(map(self._device.holds, _tensors((args, kwargs))))
        try:
            return func(*args, **kwargs)
        finally:
            self._device.inside = outer


class _Operations(TorchDispatchMode):
    """A mode that refuses operations on tensors of both devices, and marks their results.

    What is computed from tensors of the other device is there, too.
    """

    def __init__(self, device: OtherDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        are_other = [self._device.holds(tensor) for tensor in tensors]
        name = func._schema.name
        if name in MAY_MIX:
            is_result_other = bool(are_other and are_other[0])
        else:
            # Without a tensor, the result is where the tensors of the outer call are.
            is_result_other = any(are_other) if are_other else self._device.inside
            cpu_tensors = []  # numbers, which have no dimension, may be on the CPU
            for tensor, is_other in zip(tensors, are_other, strict=True):
                if not is_other and tensor.dim():
                    cpu_tensors.append(tensor)
            if is_result_other and cpu_tensors:
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in cpu_tensors)
                raise MixedDevices(
                    f"{name} meets tensors of the other device and of the CPU, the latter of "
                    f"{shapes}."
                )
        if is_result_other and (name in WAITS or self._waits_for_index(name, tensors)):
            self._device.wait(name)
        result = func(*args, **kwargs)
        if is_result_other:
            self._device.put(*_tensors((result,)))
        return result

    def _waits_for_index(self, name: str, tensors: Sequence[Tensor]) -> bool:
        """Return whether an index is a mask, whose places are searched first, or is on the CPU."""
        if name not in ("aten::index", "aten::index_put", "aten::index_put_"):
            return False
        indices = tensors[1:] if name == "aten::index" else tensors[1:-1]
        return any(index.dtype == torch.bool or not self._device.holds(index) for index in indices)


def _tensors(tree: Sequence[object] | Mapping[object, object]) -> list[Tensor]:
    """Return the tensors in nested arguments.

    This runs in every call of torch, of which torch's own `tree_leaves` or a generator would take a
    large part.
    """
    tensors = []
    for entry in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(entry, Tensor):
            tensors.append(entry)
        elif isinstance(entry, CONTAINERS):
            tensors.extend(_tensors(entry))
    return tensors
