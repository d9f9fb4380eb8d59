"""Copy a model for use here: without its wrappers, sharing its parameters, with faster pooling. The
user's model stays unchanged.

Hooks that are part of the model's arithmetic run in the copy. All other hooks are neither run nor
copied. torch's own hooks, such as those of weight norm, make the weights. One pass of one image
shows whether another hook changes the network's return value. It runs copies of the hooks and of
the objects that they write to.

The first step of every cut makes such a copy. It is small, since only the structure is copied.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial, reduce
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.errors import BenchError

Hook = Callable[..., object]
Hooks = Mapping[int, Hook]
OF_FORWARD = ("_forward_pre_hooks", "_forward_hooks")
CANT_COPY = (TypeError, RuntimeError, AttributeError, ValueError, OSError)
# the modules of torch's wrappers
WRAPPERS = (
    "torch.nn.parallel",
    "torch._dynamo",
    "torch.optim.swa_utils",
)
WRAPPED = ("module", "_orig_mod")  # the attributes in which they keep the network


@torch.inference_mode(False)
def shared_copy(model: nn.Module, with_hooks: bool = False) -> nn.Module:
    """Copy a model's structure over the same parameter memory, in eval mode, with requires_grad
    off.

    Changing a weight in place (an optimiser's step, load_state_dict) shows in the copy. Modes and
    gradients aren't shared. Only the hooks that make weights are copied, or with `with_hooks` all
    others too. Objects that Python can't copy, such as a lock or a file, are shared. Raises
    BenchError for weights that have no gradients or no values, and for a model that Python can't
    copy.
    """
    _check_weights(model)
    memo: dict[int, object] = {}
    for module in model.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            memo[id(tensor)] = _shared(tensor)
        for value in tree_leaves(list(vars(module).values())):
            if isinstance(value, Tensor):
                memo.setdefault(id(value), _shared(value))
        for name, value in vars(module).items():
            if isinstance(value, Mapping) and name.endswith("_hooks"):
                memo[id(value)] = torch_hooks(value)
    copy_memo = dict(memo)
    try:
        copied = copy.deepcopy(model, copy_memo)
    except CANT_COPY:
        copy_memo = _share_uncopyable(model, memo)
        copied = copy.deepcopy(model, copy_memo)
    if with_hooks:
        give_copies(model, copy_memo)
    else:
        # transformers adds hooks that collect its hidden states in the first pass, unless this
        # attribute says that it has added them.
        for module in copied.modules():
            vars(module).pop("_output_capturing_hooks_installed", None)
    copied.eval()  # its result isn't used: a train() of the network's own may return None
    for module in copied.modules():
        # cuDNN has no gradient of a recurrent layer in eval mode. The layer's mode decides only
        # about dropout.
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
            module.train()
    return copied


def _share_uncopyable(model: nn.Module, memo: dict[int, object]) -> dict[int, object]:
    """Add every attribute that can't be copied to the memo as itself.

    Raises BenchError for a module that can't be copied.
    """
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
                f"{place} can't be copied ({error}); give a network whose modules copy.deepcopy "
                "takes."
            ) from error
    return memo


def _shared(tensor: Tensor) -> Tensor:
    # An inference tensor can't be saved for a backward pass, so it is the one kind that is copied.
    memory = tensor.clone() if tensor.is_inference() else tensor.detach()
    return nn.Parameter(memory, requires_grad=False) if isinstance(tensor, nn.Parameter) else memory


def _check_weights(model: nn.Module) -> None:
    """Raise BenchError for a network that can have no gradients."""
    network = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise BenchError(
            "A TorchScript model can't be cut at a layer; give the nn.Module that it was made from."
        )
    for name, module in model.named_modules():
        kind = type(module)
        weights = list(module.parameters(recurse=False))
        has_integers = not all(
            weight.is_floating_point() or weight.is_complex() for weight in weights
        )
        if has_integers or (
            kind.__module__.startswith("torch.ao.") and ".quantized." in kind.__module__
        ):
            raise BenchError(
                f"{network} is quantised (its {name!r} is a {kind.__name__} of integers), and "
                "integers have no gradients; give the network as it was before, in floating point."
            )


@contextmanager
def private_state(copied: nn.Module) -> Iterator[None]:
    """Run a copy's first pass on copies of the buffers and other tensors that it writes to, such as
    a counter.
    """
    holders = [holder for module in copied.modules() for holder in (module._buffers, vars(module))]
    shared = [
        (holder, name, value)
        for holder in holders
        for name, value in holder.items()
        if type(value) is Tensor
    ]
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


def parts_with_hooks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the modules that take hooks, with their names: all except those in TorchScript."""
    return (
        part for part in model.named_modules() if not isinstance(part[1], torch.jit.ScriptModule)
    )


@dataclass(frozen=True, eq=False)
class Call:
    """A finished call of a module, with its first tensor.

    `views` and the choice of layers compare the calls of a pass.
    """

    name: str
    module: nn.Module
    input: Tensor | None
    output: Any  # a tensor, or whatever the module returns
    node: Node | None  # the output's node in the autograd graph, if it has one


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Call]]:
    """Collect the calls of all modules in this block, in the order in which they end."""
    calls: list[Call] = []

    def keep(name: str, module: nn.Module, inputs: object, output: object) -> None:
        first = next((value for value in tree_leaves(inputs) if isinstance(value, Tensor)), None)
        calls.append(Call(name, module, first, output, getattr(output, "grad_fn", None)))

    handles = [
        part.register_forward_hook(partial(keep, name)) for name, part in parts_with_hooks(model)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked(
    model: nn.Module,
    layer: str,
    hook: Callable[..., object],
    first: Callable[..., object] | None = None,
) -> Iterator[None]:
    """Run a forward hook of the layer in this block, after the user's hooks, and another one before
    them. TorchScript takes no hooks.
    """
    module = model.get_submodule(layer)
    handles = []
    if not isinstance(module, torch.jit.ScriptModule):
        handles.append(module.register_forward_hook(hook))
        if first is not None:
            handles.append(module.register_forward_hook(first, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_scoring_part(calls: list[Call], dimensions: int) -> str | None:
    """Return the name of the last part that makes scores (B, n) from a tensor of so many
    dimensions.

    None if there is no such part.
    """
    for call in reversed(calls):
        takes_images = call.input is not None and call.input.ndim == dimensions
        if call.name and takes_images and isinstance(call.output, Tensor) and call.output.ndim == 2:
            return call.name
    return None


def torch_hooks(hooks: Hooks) -> Hooks:
    """Return the hooks of weight norm, spectral norm and pruning, which make the weights."""
    return OrderedDict((key, hook) for key, hook in hooks.items() if _is_of_torch(hook))


def _is_of_torch(hook: object) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.nn.utils.")


def user_hooks(model: nn.Module) -> list[tuple[nn.Module, str, int, Hook]]:
    """Return the hooks that a forward pass runs and that aren't torch's: (module, attribute, key,
    hook).
    """
    hooks = []
    for module in model.modules():
        for name in OF_FORWARD:
            for key, hook in getattr(module, name).items():
                if not _is_of_torch(hook):
                    hooks.append((module, name, key, hook))
    return hooks


def give_copies(model: nn.Module, memo: dict[int, object]) -> None:
    """Give a model's copy, found in the deep copy's memo, the hooks that aren't torch's.

    Hooks that can't be copied are left out. A hook that holds a file, for example, watches the
    network, and computes no part of its result.
    """
    for module, name, key, hook in user_hooks(model):
        with suppress(*CANT_COPY):
            getattr(memo[id(module)], name)[key] = _independent_copy(hook, memo)


def _independent_copy(value: object, memo: dict[int, object]) -> object:
    """Return a copy that writes to no object of the original.

    A function gets copies of its closure and of its global containers.
    """
    if not isinstance(value, FunctionType):
        return copy.deepcopy(value, memo)
    used = {name: value.__globals__.get(name) for name in value.__code__.co_names}
    # such as the list in which a user's hook collects outputs
    containers = {
        name: place for name, place in used.items() if isinstance(place, list | dict | set)
    }
    defaults, containers = copy.deepcopy((value.__defaults__, containers), memo)
    cells = tuple(
        CellType(_independent_copy(cell.cell_contents, memo)) for cell in value.__closure__ or ()
    )
    function = FunctionType(
        value.__code__, value.__globals__ | containers, value.__name__, defaults, cells
    )
    function.__kwdefaults__ = copy.deepcopy(value.__kwdefaults__, memo)
    return function


def hooks_matter(with_hooks: nn.Module, without: nn.Module, image: Tensor) -> bool:
    """Return True if the hooks change the network's return value for an image; False if the pass
    fails.
    """
    try:
        with torch.enable_grad():
            returned = _tensors(with_hooks(image.clone().requires_grad_()))
            expected = _tensors(without(image.clone().requires_grad_()))
    except Exception:  # noqa: BLE001 - hooks may raise anything, and then they return no other value
        return False
    return len(returned) != len(expected) or not all(map(_equal, returned, expected))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and equal_up_to_rounding(one, other)


def _tensors(returned: object) -> list[Tensor]:
    """Return the floating-point tensors of a network's return value, also of an object such as a
    dataclass.
    """
    parts = [
        part if isinstance(part, Tensor) else getattr(part, "__dict__", part)
        for part in tree_leaves(returned)
    ]
    return [
        leaf.detach()
        for leaf in tree_leaves(parts)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    ]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside torch's wrappers.

    These are nn.DataParallel, DistributedDataParallel, torch.compile's and AveragedModel. A module
    without a forward of its own, as some averages are, is a wrapper too.
    """
    children = list(model.children())
    is_torchs = type(model).__module__.startswith(WRAPPERS)
    forward = getattr(type(model), "forward", None)  # a TorchScript class has none
    has_no_forward = forward is nn.Module.forward and "forward" not in vars(model)
    return unwrapped(children[0]) if len(children) == 1 and (is_torchs or has_no_forward) else model


def unwrap_parts(model: nn.Module) -> nn.Module:
    """Remove torch's wrappers from around the parts, in place, and return the model.

    Only for copies, and for networks that are built here.
    """
    for part in list(model.modules()):
        for name, child in part._modules.items():
            if child is not None and type(child).__module__.startswith(WRAPPERS):
                part._modules[name] = unwrapped(child)
    return model


def unwrapped_name(name: str) -> str:
    """Return the name of a module or tensor as it is without wrappers.

    >>> unwrapped_name("module.features.module.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPED)


def layer_name(model: nn.Module, layer: str) -> str | None:
    """Return the name of a layer that is given with or without the network's wrappers; None without
    such a layer.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    plain = unwrapped_name(layer)
    count = len(list(model.parameters()))

    def is_inside(name: str) -> bool:
        outer = name.removesuffix(f".{plain}")
        return outer != name and len(list(model.get_submodule(outer).parameters())) == count

    same = [name for name in names if unwrapped_name(name) == plain]
    return layer if layer in names else next(iter([*same, *filter(is_inside, names)]), None)


def check_shapes(model: nn.Module) -> None:
    """Raise BenchError for tensors of lazy layers before a first pass, without values, or on
    several devices.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in tensors.items():
        if is_lazy(tensor):
            raise BenchError(
                f"The network's {name!r} has no shape yet; call the network on an image once."
            )
        if tensor.is_meta:
            raise BenchError(
                f"The network's {name!r} has no values (device meta); build it on a device, with "
                "weights."
            )
    devices = {str(tensor.device): name for name, tensor in tensors.items()}
    if len(devices) > 1:
        places = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise BenchError(
            f"The network is on several devices ({places}); move it to one with model.to(device)."
        )


def check_finite(model: nn.Module) -> None:
    """Raise BenchError for a parameter that holds NaN or infinity, and for a buffer that holds NaN.

    An attention mask, which is a buffer, may hold infinity.
    """
    parameters = dict(model.named_parameters())
    for name, tensor in {**parameters, **dict(model.named_buffers())}.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        extremes = torch.stack(tensor.detach().aminmax())
        if extremes.isnan().any() or (name in parameters and extremes.isinf().any()):
            raise BenchError(
                f"The network's {name!r} holds NaN or infinity; load weights that are finite."
            )


class MaxPool2dByViews(nn.MaxPool2d):
    """nn.MaxPool2d as maxima of whole strided views: torch's values, several times faster on a CPU.

    torch also searches the place of each maximum, element by element, which a forward pass doesn't
    use. 2x2 pooling of 8 x 64 x 64 x 64 takes torch 3.8 ms on two cores, and 0.2 ms this way. It
    was a third of a small VGG's forward pass. On other devices, and if a gradient is needed, the
    pooling is torch's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Pool maps (..., H, W) to (..., H', W')."""
        sizes = zip(
            input.shape[-2:],
            _pair(self.kernel_size),
            _pair(self.stride),
            _pair(self.padding),
            strict=True,
        )
        windows = [_Windows(*arguments, self.ceil_mode) for arguments in sizes]
        if not self._only_values(input) or any(window.count < 1 for window in windows):
            pooled: Tensor = super().forward(input)
            return pooled
        along_y, along_x = windows
        return along_x.maxima(along_y.maxima(input, -2), -1)

    def _only_values(self, input: Tensor) -> bool:
        """Return True if only the maxima of a plain pooling on a CPU are needed, not their places
        or a gradient.
        """
        needs_gradient = input.requires_grad and torch.is_grad_enabled()
        is_plain = self.dilation in (1, (1, 1)) and not self.return_indices
        return (
            is_plain
            and not needs_gradient
            and input.device.type == "cpu"
            and input.is_floating_point()
        )


@dataclass(frozen=True)
class _Windows:
    """Windows along one dimension."""

    length: int  # of the dimension
    size: int
    stride: int
    padding: int  # at both ends
    ceil_mode: bool

    @property
    def count(self) -> int:
        """The number of windows, as torch counts them.

        With ceil_mode the last window may reach beyond the end, but not start there.
        """
        room = self.length + 2 * self.padding - self.size
        if not self.ceil_mode:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= self.length + self.padding else count

    def maxima(self, maps: Tensor, dimension: int) -> Tensor:
        """Return the maxima of the windows along a dimension of that length, which then has `count`
        places.

        The k-th elements of all windows are a strided view. At the edges some windows have no k-th
        element. Leaving these out is cheaper than a padded copy of the maps.
        """
        views = [self._elements(maps, dimension, place) for place in range(self.size)]
        full_views = [view for first, view in views if view.shape[dimension] == self.count]
        partial_views = [
            (first, view) for first, view in views if view.shape[dimension] < self.count
        ]
        if len(full_views) > 1:
            largest = reduce(torch.maximum, full_views)
        else:
            shape = list(maps.shape)
            shape[dimension] = self.count
            largest = maps.new_full(shape, -torch.inf)
            partial_views += [(0, view) for view in full_views]
        for first, view in partial_views:
            windows = largest.narrow(dimension, first, view.shape[dimension])
            torch.maximum(windows, view, out=windows)
        return largest

    def _elements(self, maps: Tensor, dimension: int, place: int) -> tuple[int, Tensor]:
        """Return the first window with an element at this place inside the maps, and all such
        windows' elements.
        """
        first = max(0, -(-(self.padding - place) // self.stride))
        end = max(
            first, min(self.count, (self.length - 1 + self.padding - place) // self.stride + 1)
        )
        start = first * self.stride - self.padding + place
        places = slice(start, start + (end - first) * self.stride, self.stride)
        return first, maps[..., places] if dimension == -1 else maps[..., places, :]


def pool_by_views(model: nn.Module) -> nn.Module:
    """Turn every plain nn.MaxPool2d of a model into one by views, in place, and return the model.
    For copies only.
    """
    for module in model.modules():
        if type(module) is nn.MaxPool2d and "forward" not in vars(module):
            module.__class__ = MaxPool2dByViews
    return model


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
