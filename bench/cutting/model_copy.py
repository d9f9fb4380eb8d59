"""The copy of a model that runs here: it shares the parameters, pools faster, and the user's model stays unchanged."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.hooks import CANT_COPY, give_copies, of_torch
from axiom_bench.errors import BenchError


@torch.inference_mode(False)
def shared_copy(model: nn.Module, with_hooks: bool = False) -> nn.Module:
    """The same structure over the same parameter memory, in eval mode, with requires_grad off.

    Changing a weight in place (an optimiser's step, load_state_dict) shows in the copy; modes and gradients stay out.
    Of hooks those cross that make weights; with_hooks: and copies of all others. What Python can't copy, as a lock or a
    file, is shared.
    Raises BenchError for weights that have no gradients or no values, and for a model that Python can't copy.
    """
    _check_weights(model)
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            memo[id(tensor)] = _shared(tensor)
        for value in tree_leaves(list(vars(module).values())):
            if isinstance(value, Tensor):
                memo.setdefault(id(value), _shared(value))
        hooks_by_name = ((name, value) for name, value in vars(module).items() if isinstance(value, Mapping))
        memo.update((id(hooks), of_torch(hooks)) for name, hooks in hooks_by_name if name.endswith("_hooks"))
    try:
        copied = copy.deepcopy(model, tried := dict(memo))
    except CANT_COPY:
        tried = _with_the_rest_shared(model, memo)
        copied = copy.deepcopy(model, tried)
    if with_hooks:
        give_copies(model, tried)
    for module in copied.eval().modules():
        if isinstance(
            module, nn.RNNBase
        ):  # of which cuDNN has no gradient in eval mode; the mode decides dropout alone
            module.dropout = 0.0
            module.train()
    return copied


def _with_the_rest_shared(model: nn.Module, memo: dict[int, Any]) -> dict[int, Any]:
    """The memo with every attribute that can't be copied as itself. Raises BenchError for a module that can't."""
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_modules", "_parameters", "_buffers"):
                try:
                    copy.deepcopy(value, dict(memo))
                except CANT_COPY:
                    memo[id(value)] = value
    for name, module in reversed(list(model.named_modules())):
        try:
            copy.deepcopy(module, dict(memo))
        except CANT_COPY as error:
            place = f"{type(model).__name__}{f'.{name}' if name else ''}"
            raise BenchError(
                f"{place} can't be copied ({error}); give a network whose modules copy.deepcopy takes."
            ) from error
    return memo


def _shared(tensor: Tensor) -> Tensor:
    # An inference tensor can't be saved for a backward pass, so it is the one kind that is copied.
    memory = tensor.clone() if tensor.is_inference() else tensor.detach()
    return nn.Parameter(memory, requires_grad=False) if isinstance(tensor, nn.Parameter) else memory


def _check_weights(model: nn.Module) -> None:
    """Raises BenchError for a network that can have no gradients."""
    network = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise BenchError("A TorchScript model can't be cut at a layer; give the nn.Module that it was made from.")
    for name, module in model.named_modules():
        kind, weights = type(module), list(module.parameters(recurse=False))
        of_integers = not all(weight.is_floating_point() or weight.is_complex() for weight in weights)
        if of_integers or (kind.__module__.startswith("torch.ao.") and ".quantized." in kind.__module__):
            raise BenchError(
                f"{network} is quantised (its {name!r} is a {kind.__name__} of integers), and integers have no "
                "gradients; give the network as it was before, in floating point."
            )


@contextmanager
def own_state(copied: nn.Module) -> Iterator[None]:
    """Runs a copy's first pass: of buffers and other tensors that it writes to, as a counter, it keeps copies."""
    holders = [holder for module in copied.modules() for holder in (module._buffers, vars(module))]
    shared = [(holder, name, value) for holder in holders for name, value in holder.items() if type(value) is Tensor]
    with torch.inference_mode(False):
        own = [value.clone() for *_, value in shared]
    for (holder, name, _), value in zip(shared, own, strict=True):
        holder[name] = value
    try:
        yield
    finally:
        for (holder, name, before), value in zip(shared, own, strict=True):
            if holder.get(name) is value and not value._version:
                holder[name] = before


class MaxPool2dByViews(nn.MaxPool2d):
    """nn.MaxPool2d as maxima of whole strided views: torch's values, several times faster on a CPU.

    torch also looks for where each maximum was, element by element, which a forward pass doesn't use. 2x2 pooling of
    8 x 64 x 64 x 64 takes it 3.8 ms on two cores, and 0.2 ms this way. It was a third of a small VGG's forward pass.
    Off the CPU and where a gradient is needed it is torch's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., H, W) to (..., H', W')."""
        sizes = zip(input.shape[-2:], _pair(self.kernel_size), _pair(self.stride), _pair(self.padding), strict=True)
        windows = [_Windows(*arguments, self.ceil_mode) for arguments in sizes]
        if not self._only_values(input) or any(window.count < 1 for window in windows):
            return super().forward(input)
        along_y, along_x = windows
        return along_x.maxima(along_y.maxima(input, -2), -1)

    def _only_values(self, input: Tensor) -> bool:
        differentiated = input.requires_grad and torch.is_grad_enabled()
        plain = self.dilation in (1, (1, 1)) and not self.return_indices
        return plain and not differentiated and input.device.type == "cpu" and input.is_floating_point()


@dataclass(frozen=True)
class _Windows:
    """Windows of `size` every `stride` along the last dimension, of `length` and with `padding` at both ends."""

    length: int
    size: int
    stride: int
    padding: int
    ceil_mode: bool

    @property
    def count(self) -> int:
        """How many windows torch takes: with ceil_mode the last one may reach over the end, but not start there."""
        room = self.length + 2 * self.padding - self.size
        if not self.ceil_mode:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= self.length + self.padding else count

    def maxima(self, maps: Tensor, dimension: int) -> Tensor:
        """Of the windows along a dimension of that length, which has `count` places then.

        The k-th elements of all windows are a strided view; at the edges some windows have none, which is cheaper than
        a padded copy of the maps.
        """
        views = [self._elements(maps, dimension, place) for place in range(self.size)]
        of_all = [view for first, view in views if view.shape[dimension] == self.count]
        of_some = [(first, view) for first, view in views if view.shape[dimension] < self.count]
        if len(of_all) > 1:
            largest = reduce(torch.maximum, of_all)
        else:
            shape = list(maps.shape)
            shape[dimension] = self.count
            largest = maps.new_full(shape, -torch.inf)
            of_some += [(0, view) for view in of_all]
        for first, view in of_some:
            windows = largest.narrow(dimension, first, view.shape[dimension])
            torch.maximum(windows, view, out=windows)
        return largest

    def _elements(self, maps: Tensor, dimension: int, place: int) -> tuple[int, Tensor]:
        """(the first window that has an element at this place inside the maps, those elements of it and the next)."""
        first = max(0, -(-(self.padding - place) // self.stride))
        end = max(first, min(self.count, (self.length - 1 + self.padding - place) // self.stride + 1))
        start = first * self.stride - self.padding + place
        places = slice(start, start + (end - first) * self.stride, self.stride)
        return first, maps[..., places] if dimension == -1 else maps[..., places, :]


def pool_by_views(model: nn.Module) -> nn.Module:
    """Makes every plain nn.MaxPool2d of a model one by views, in place: for copies only. Returns the model."""
    for module in model.modules():
        if type(module) is nn.MaxPool2d and "forward" not in vars(module):
            module.__class__ = MaxPool2dByViews
    return model


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
