"""A copy of a model that shares its parameters, so that the user's model stays unchanged."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.errors import BenchError


@torch.inference_mode(False)
def shared_copy(model: nn.Module) -> nn.Module:
    """The same structure over the same parameter memory, in eval mode, with requires_grad off.

    Changing a weight in place (an optimiser's step, load_state_dict) shows in the copy; modes, hooks and gradients
    don't cross. Raises BenchError for a model that Python can't copy.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise BenchError("A TorchScript model can't be cut at a layer; give the nn.Module that it was made from.")
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            memo[id(tensor)] = _shared(tensor)
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo.setdefault(id(value), value.detach())
    try:
        return copy.deepcopy(model, memo).eval()
    except (TypeError, RuntimeError, AttributeError) as error:
        raise BenchError(
            f"{type(model).__name__} can't be copied ({error}); remove what can't be copied from its attributes."
        ) from error


def _shared(tensor: Tensor) -> Tensor:
    # An inference tensor can't be saved for a backward pass, so it is the one kind that is copied.
    memory = tensor.clone() if tensor.is_inference() else tensor.detach()
    return nn.Parameter(memory, requires_grad=False) if isinstance(tensor, nn.Parameter) else memory
