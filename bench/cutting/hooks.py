"""Hooks on a network: those that are its arithmetic run in the copy; all others neither run nor are they copied.

torch's own, as weight norm's, make the weights. Whether another one changes what the network returns is tried once, on
one image, by copies of the hooks and of what they write to.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.passes import equal_up_to_rounding

Hooks = Mapping[int, Callable[..., Any]]
OF_FORWARD = ("_forward_pre_hooks", "_forward_hooks")
CANT_COPY = (TypeError, RuntimeError, AttributeError, ValueError, OSError)


def of_torch(hooks: Hooks) -> Hooks:
    """Those of weight norm, spectral norm and pruning, which make the weights."""
    return OrderedDict((key, hook) for key, hook in hooks.items() if _is_of_torch(hook))


def _is_of_torch(hook: object) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.nn.utils.")


def others(model: nn.Module) -> list[tuple[nn.Module, str, int, Callable[..., Any]]]:
    """The hooks that a forward pass of the model runs and that aren't torch's: (module, attribute, key, hook)."""
    places = ((module, name) for module in model.modules() for name in OF_FORWARD)
    all_hooks = ((*place, key, hook) for place in places for key, hook in getattr(*place).items())
    return [hook for hook in all_hooks if not _is_of_torch(hook[-1])]


def give_copies(model: nn.Module, memo: dict[int, Any]) -> None:
    """Gives a model's copy, found in the deep copy's memo, the hooks that aren't torch's.

    Those that can't be copied are left out: one that holds a file watches the network, and computes nothing of it.
    """
    for module, name, key, hook in others(model):
        with suppress(*CANT_COPY):
            getattr(memo[id(module)], name)[key] = _apart(hook, memo)


def _apart(value: Any, memo: dict[int, Any]) -> Any:
    """A copy that writes to nothing of the original's: a function with copies of its closure and global containers."""
    if not isinstance(value, FunctionType):
        return copy.deepcopy(value, memo)
    used = {name: value.__globals__.get(name) for name in value.__code__.co_names}
    containers = {name: place for name, place in used.items() if isinstance(place, list | dict | set)}
    defaults, containers = copy.deepcopy((value.__defaults__, containers), memo)
    cells = tuple(CellType(_apart(cell.cell_contents, memo)) for cell in value.__closure__ or ())
    function = FunctionType(value.__code__, value.__globals__ | containers, value.__name__, defaults, cells)
    function.__kwdefaults__ = copy.deepcopy(value.__kwdefaults__, memo)
    return function


def matter(with_hooks: nn.Module, without: nn.Module, image: Tensor) -> bool:
    """Whether the hooks change what the network returns for an image; False where the pass fails."""
    try:
        with torch.enable_grad():
            returned, expected = (_tensors(net(image.clone().requires_grad_())) for net in (with_hooks, without))
    except Exception:  # noqa: BLE001 - hooks may raise anything, and then they return no other value
        return False
    return len(returned) != len(expected) or not all(map(_equal, returned, expected))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and equal_up_to_rounding(one, other)


def _tensors(returned: Any) -> list[Tensor]:
    """The floating-point tensors of what a network returns, also of an object such as a dataclass."""
    parts = [part if isinstance(part, Tensor) else getattr(part, "__dict__", part) for part in tree_leaves(returned)]
    return [leaf.detach() for leaf in tree_leaves(parts) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
