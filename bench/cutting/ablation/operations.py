"""Tables of torch's operations: which keep channels apart, and how a difference passes them.

An operation is named by a module's class, a function, or a method's name without the underscore of its in-place form.
Whatever isn't listed is still exact: it is evaluated at x + d and at x.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn

from axiom_bench.cutting.outputs.output import OutputModule
from axiom_bench.cutting.split.model_copy import MaxPool2dByViews

IN_PLACE_FORMS: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    torch.relu_: torch.relu,
}
IDENTITY = {
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.AlphaDropout,
    functional.dropout,
    functional.dropout2d,
    "contiguous",
    "clone",
}
RESHAPE = {
    nn.Flatten,
    nn.Unflatten,
    torch.flatten,
    torch.reshape,
    torch.squeeze,
    "flatten",
    "view",
    "reshape",
    "squeeze",
}
MEAN = {torch.mean, "mean"}
AVERAGE_POOL = {nn.AvgPool2d, nn.AdaptiveAvgPool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d}
MAX_POOL = {
    *(nn.MaxPool2d, MaxPool2dByViews, nn.AdaptiveMaxPool2d),
    *(functional.max_pool2d, functional.adaptive_max_pool2d),
}
CLAMP = {
    nn.ReLU: (0.0, None),
    functional.relu: (0.0, None),
    torch.relu: (0.0, None),
    "relu": (0.0, None),
    nn.ReLU6: (0.0, 6.0),
    functional.relu6: (0.0, 6.0),
}
ELEMENTWISE = {
    *(nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(functional.leaky_relu, functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu),
    *(functional.mish, functional.softplus, functional.hardswish, functional.hardsigmoid, functional.hardtanh),
    *(torch.sigmoid, functional.sigmoid, torch.tanh, functional.tanh, "sigmoid", "tanh"),
}
ADD = {operator.add, torch.add, "add"}
MULTIPLY = {operator.mul, torch.mul, "mul"}
STRUCTURE = {
    *(torch.permute, torch.transpose, torch.unsqueeze, torch.chunk, torch.split, operator.getitem, operator.neg),
    *("permute", "transpose", "unsqueeze", "chunk", "split", "sum", torch.sum),
}
INTERPOLATE = {nn.Upsample, functional.interpolate}
LINEAR_IN_ITS_INPUT = IDENTITY | RESHAPE | MEAN | AVERAGE_POOL | STRUCTURE | INTERPOLATE
SHAPE_ONLY = {"size", "dim", getattr, len}


def operation(node: fx.Node, root: nn.Module) -> Any:
    """A node's operation as the tables above name it; None for a module that hooks or an own forward alter."""
    target: Any = node.target
    if node.op == "call_module":
        module = root.get_submodule(target)
        altered = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        return None if altered else type(module)
    if node.op == "call_method":
        return target.removesuffix("_")
    return IN_PLACE_FORMS.get(target, target) if node.op == "call_function" else None


def is_output(name: Any) -> bool:
    """Whether an operation is the module behind the logits, which has a `difference` of its own."""
    return isinstance(name, type) and issubclass(name, OutputModule)


def clamp_difference(x: Tensor, difference: Tensor, low: float, high: float | None) -> Tensor:
    """clamp(x + d) - clamp(x), without subtracting two large numbers. x broadcasts to d.

    With y = clamp(x): d + (x - y), kept between low - y and high - y. For ReLU it is max(d + min(x, 0), -max(x, 0)).
    """
    y = x.clamp(low, high)
    moved = difference + (x - y)
    torch.maximum(moved, low - y, out=moved)
    return moved if high is None else torch.minimum(moved, high - y, out=moved)


def batch_norm_scale(norm: nn.BatchNorm2d) -> Tensor | None:
    """The factor (K, 1, 1) of a batch norm in eval mode; None for one that keeps no running statistics."""
    if norm.running_var is None:
        return None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    return (scale if norm.weight is None else scale * norm.weight)[:, None, None]


def spatial_mean(node: fx.Node) -> bool:
    """Whether a mean runs over x and y only."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(dims, (list, tuple)) and {int(dim) % 4 for dim in dims} == {2, 3}
