"""The head as a graph that can be evaluated node by node, and tables of torch's operations and how differences pass.

An operation is named by a module's class, a function, or a method's name without the underscore of its in-place form.
Whatever isn't listed is still exact: it is evaluated at x + d and at x.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn
from torch.nn.functional import linear

from axiom_bench.cutting.model_copy import MaxPool2dByViews
from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.output import OutputModule
from axiom_bench.cutting.tokens import ChannelsLast, Tokens

Values = dict[fx.Node, Any]
# Linear layers of so many inputs, in blocks of them; narrower ones gain nothing.
WIDE, BLOCK = 1024, 128
IN_PLACE_FORMS: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    torch.relu_: torch.relu,
}
IDENTITY = {
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, "contiguous", "clone"),
}
RESHAPE = {
    *(nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, torch.squeeze),
    *("flatten", "view", "reshape", "squeeze"),
}
MEAN = {torch.mean, "mean"}
AVERAGE_POOL = {
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d),
    *(functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d),
}
MAX_POOL = {
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, MaxPool2dByViews),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(functional.max_pool1d, functional.max_pool2d, functional.max_pool3d),
    *(functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d),
}
CONVOLUTION = {nn.Conv1d, nn.Conv2d, nn.Conv3d}
BATCH_NORM = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}
CLAMP: dict[Any, tuple[float, float | None]] = {
    **dict.fromkeys((nn.ReLU, functional.relu, torch.relu, "relu"), (0.0, None)),
    **dict.fromkeys((nn.ReLU6, functional.relu6), (0.0, 6.0)),
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
DIVIDE = {operator.truediv, torch.div, "div"}
MATMUL = {operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"}
ATTENTION = {functional.scaled_dot_product_attention, nn.MultiheadAttention} | MATMUL
STRUCTURE = {
    *(torch.permute, torch.transpose, torch.unsqueeze, torch.chunk, torch.split, operator.getitem, operator.neg),
    *("permute", "transpose", "unsqueeze", "chunk", "split", "sum", torch.sum),
    *(torch.unbind, torch.select, torch.narrow, "unbind", "select", "narrow"),
}
PERMUTE = {torch.permute, "permute"}
INTERPOLATE = {nn.Upsample, functional.interpolate}
LINEAR_IN_ITS_INPUT = IDENTITY | RESHAPE | MEAN | AVERAGE_POOL | STRUCTURE | INTERPOLATE
SHAPE_ONLY = {"size", "dim", getattr, len}


def is_output(name: Any) -> bool:
    """Whether an operation is the module behind the logits, which has a `difference` of its own."""
    return isinstance(name, type) and issubclass(name, OutputModule)


def clamp_difference(
    x: Tensor, difference: Tensor, low: float, high: float | None, out: Tensor | None = None
) -> Tensor:
    """clamp(x + d) - clamp(x), without subtracting two large numbers. x broadcasts to d.

    With y = clamp(x): d + (x - y), kept between low - y and high - y. For ReLU it is max(d + min(x, 0), -max(x, 0)).
    out: where the result goes, d itself too: fresh memory takes longer than the sum.
    """
    y = x.clamp(low, high)
    moved = torch.add(difference, x - y, out=out)
    torch.maximum(moved, low - y, out=moved)
    return moved if high is None else torch.minimum(moved, high - y, out=moved)


def batch_norm_scale(norm: Any, values: Tensor) -> Tensor | None:
    """The factor (K, 1, ...) of a batch norm of values (n, K, *space) in eval mode; None for one that keeps no running
    statistics."""
    if norm.running_var is None:
        return None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    return over_space(scale if norm.weight is None else scale * norm.weight, values)


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """Return what a call passes at a place or by a name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def is_reshape(node: fx.Node) -> bool:
    """Return whether a node makes tokens of the maps."""
    return isinstance(getattr(node.target, "__self__", None), Tokens | ChannelsLast)


def permuted_axes(node: fx.Node) -> list[Any]:
    """Return the axes of a permutation, in their new order; [] for another operation."""
    if node.target not in PERMUTE:
        return []
    axes: Any = node.args[1:]
    return list(axes[0] if isinstance(axes[0], list | tuple) else axes)


def spatial_mean(node: fx.Node, values: Tensor) -> bool:
    """Whether a mean of values (B, K, *space) runs over the axes of space only, and over all of them."""
    dims = argument(node, 1, "dim")
    listed = [dims] if isinstance(dims, int) else dims
    return (
        isinstance(listed, (list, tuple)) and {int(dim) % values.ndim for dim in listed} == set(axes(values)) != set()
    )


@dataclass(frozen=True)
class HeadGraph:
    """The head and what is read of it once.

    class_layer: the layer whose rows are the classes, where a class's score needs its own row alone; else None.
    tail: the nodes from there to the logits, which keep classes apart. bytes_per_image: of all values together;
    widest: of the largest value. few, rows: the steps that ablations need for few tokens, and the graph of those.
    """

    module: fx.GraphModule
    class_layer: fx.Node | None = None
    tail: tuple[fx.Node, ...] = ()
    bytes_per_image: int = 0
    widest: int = 0
    few: Any = None  # FewTokens, whose module imports this one
    rows: HeadGraph | None = None

    @cached_property
    def nodes(self) -> list[fx.Node]:
        """Every node in order, the output node too."""
        return list(self.module.graph.nodes)

    @property
    def activations(self) -> fx.Node:
        """The placeholder of the layer's activations."""
        return self.nodes[0]

    @cached_property
    def last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        """For each node, the values that nothing needs after it."""
        freed: dict[fx.Node, list[fx.Node]] = {}
        order = {node: place for place, node in enumerate(self.nodes)}
        for node in self.nodes:
            if node.users:
                freed.setdefault(max(node.users, key=order.__getitem__), []).append(node)
        return freed

    @cached_property
    def has_attention(self) -> bool:
        """Whether tokens are mixed with weights that are made of them."""
        return any(operation in ATTENTION for operation in self._operations.values())

    @cached_property
    def has_tokens(self) -> bool:
        """Return whether the head makes tokens of the maps, or mixes tokens by attention."""
        return self.has_attention or any(is_reshape(node) for node in self.nodes)

    @cached_property
    def logits(self) -> fx.Node:
        """The node that the graph returns: the logits, or the outputs made of them."""
        (returned,) = self.nodes[-1].args
        assert isinstance(returned, fx.Node)
        return returned

    def evaluate(self, activations: Tensor, sides: Any) -> Values:
        """The value of every node; nothing is overwritten, whatever the graph does in place."""
        inputs = iter((activations, *sides))
        values: Values = {}
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = next(inputs)
            elif node.op != "output":
                values[node] = self.apply(node, values.__getitem__)
        return values

    def apply(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """One node's operation on any values."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        args: Any
        args, kwargs = fx.map_arg((node.args, node.kwargs), value_of)
        if self._in_place(node):
            args = (args[0].clone(), *args[1:])
        if self.operation(node) is nn.Linear:
            return apply_linear(self.layer(node), args[0])
        if node.op == "call_module":
            return self.layer(node)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def evaluated_difference(self, node: fx.Node, x: Tensor, difference: Tensor) -> Tensor:
        """One node's operation at x + d and at x, subtracted."""
        moved = x + difference
        change: Tensor = self.apply(node, lambda source: moved) - self.apply(node, lambda source: x)
        return change

    def layer(self, node: fx.Node) -> Any:
        """The module that a call_module node calls."""
        return self._layers[node]

    def operation(self, node: fx.Node) -> Any:
        """A node's operation as the tables above name it; None for a module that hooks or an own forward alter."""
        return self._operations[node]

    @cached_property
    def _layers(self) -> dict[fx.Node, Any]:
        return {node: self.module.get_submodule(str(node.target)) for node in self.nodes if node.op == "call_module"}

    @cached_property
    def _operations(self) -> dict[fx.Node, Any]:
        return {node: self._operation(node) for node in self.nodes}

    def _operation(self, node: fx.Node) -> Any:
        target: Any = node.target
        if node.op == "call_module":
            module = self.layer(node)
            altered = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            return None if altered or isinstance(module, torch.jit.ScriptModule) else type(module)
        if node.op == "call_method":
            return target.removesuffix("_")
        return IN_PLACE_FORMS.get(target, target) if node.op == "call_function" else None

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.layer(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        name = getattr(node.target, "__name__", "")
        return bool(node.kwargs.get("inplace")) or name in {"iadd", "imul", "isub", "itruediv"} or name.endswith("_")


def first_input(node: fx.Node) -> fx.Node | None:
    """The node that is a node's first argument."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) else None


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """layer(x), differentiable in x alone, its gradient taken in blocks of inputs: (B, inputs) -> (B, outputs).

    BLAS libraries take a product of few rows with a wide matrix up to twice as slowly in one piece as in blocks (FC
    12288 -> 512, batch 8, two cores: 2.1 ms and 1.4 ms). A head that flattens its maps begins with such a layer.
    """
    pays = x.ndim == 2 and x.device.type == "cpu" and x.shape[1] >= WIDE and x.shape[1] % BLOCK == 0
    if not pays or not x.requires_grad or torch.is_autocast_enabled("cpu"):
        return layer(x)
    return _WideLinear.apply(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        blocks = weight.unflatten(1, (-1, BLOCK)).transpose(0, 1)
        parts = torch.bmm(gradient.expand(len(blocks), *gradient.shape), blocks)
        return parts.transpose(0, 1).flatten(1), None, None


def is_pointwise(layer: Any) -> bool:
    """Return whether a layer is a convolution that mixes channels at each position alone."""
    if type(layer) not in CONVOLUTION:
        return False
    ones = {*layer.kernel_size, *layer.stride, layer.groups}
    return ones == {1} and {*layer.padding} == {0}
