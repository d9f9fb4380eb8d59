"""Evaluate the head as a graph, node by node, and list the torch operations through which
differences pass.

An operation is a module's class, a function, or a method's name without the underscore of its
in-place form. An operation that isn't in these tables is still exact: it is evaluated at x + d and
at x.
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

from axiom_bench.cutting.graph_parts import Sides
from axiom_bench.cutting.model_copy import MaxPool2dByViews
from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.cutting.output import OutputModule
from axiom_bench.cutting.tokens import ChannelsLast, Tokens

# The value of a node, or an argument of its call: a tensor, a number, a shape, or nested containers
# of them. Which of these, only the node's operation knows, so no type says it.
Value = Any
Values = dict[fx.Node, Value]
# A module's class, a function, or a method's name; None for a module that hooks change.
Operation = type[nn.Module] | Callable[..., object] | str | None
# a linear layer with so many inputs has its gradient taken in blocks; narrower ones gain nothing
WIDE = 1024
BLOCK = 128  # the inputs of a block
IN_PLACE_FORMS: dict[object, Operation] = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    torch.relu_: torch.relu,
}
IDENTITY = {
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
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
AVERAGE_POOL = {
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    functional.avg_pool1d,
    functional.avg_pool2d,
    functional.avg_pool3d,
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_avg_pool3d,
}
MAX_POOL = {
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    MaxPool2dByViews,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    functional.max_pool1d,
    functional.max_pool2d,
    functional.max_pool3d,
    functional.adaptive_max_pool1d,
    functional.adaptive_max_pool2d,
    functional.adaptive_max_pool3d,
}
CONVOLUTION = {nn.Conv1d, nn.Conv2d, nn.Conv3d}
BATCH_NORM = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}
CLAMP: dict[Operation, tuple[float, float | None]] = {  # the lowest and the highest value
    nn.ReLU: (0.0, None),
    functional.relu: (0.0, None),
    torch.relu: (0.0, None),
    "relu": (0.0, None),
    nn.ReLU6: (0.0, 6.0),
    functional.relu6: (0.0, 6.0),
}
ELEMENTWISE = {
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    functional.leaky_relu,
    functional.elu,
    functional.selu,
    functional.celu,
    functional.gelu,
    functional.silu,
    functional.mish,
    functional.softplus,
    functional.hardswish,
    functional.hardsigmoid,
    functional.hardtanh,
    torch.sigmoid,
    functional.sigmoid,
    torch.tanh,
    functional.tanh,
    "sigmoid",
    "tanh",
}
ADD = {operator.add, torch.add, "add"}
MULTIPLY = {operator.mul, torch.mul, "mul"}
DIVIDE = {operator.truediv, torch.div, "div"}
MATMUL = {operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"}
ATTENTION = {functional.scaled_dot_product_attention, nn.MultiheadAttention} | MATMUL
STRUCTURE = {
    torch.permute,
    torch.transpose,
    torch.unsqueeze,
    torch.chunk,
    torch.split,
    operator.getitem,
    operator.neg,
    "permute",
    "transpose",
    "unsqueeze",
    "chunk",
    "split",
    "sum",
    torch.sum,
    torch.unbind,
    torch.select,
    torch.narrow,
    "unbind",
    "select",
    "narrow",
}
PERMUTE = {torch.permute, "permute"}
INTERPOLATE = {nn.Upsample, functional.interpolate}
# f(x + d) - f(x) = f(d) for these.
LINEAR_IN_ITS_INPUT = IDENTITY | RESHAPE | MEAN | AVERAGE_POOL | STRUCTURE | INTERPOLATE
SHAPE_ONLY = {"size", "dim", getattr, len}


def is_output(name: object) -> bool:
    """Return True if an operation is the module that follows the logits, which has a `difference`
    of its own.

    It computes its differences in float64, since a probability near 1 changes by less than float32
    can hold.
    """
    return isinstance(name, type) and issubclass(name, OutputModule)


def clamp_difference(
    x: Tensor, difference: Tensor, low: float, high: float | None, out: Tensor | None = None
) -> Tensor:
    """Compute clamp(x + d) - clamp(x) without subtracting two large numbers. x broadcasts to d.

    With y = clamp(x), the result is d + (x - y), kept between low - y and high - y. For ReLU this
    is max(d + min(x, 0), -max(x, 0)). `out` is the memory of the result, which may be d itself: new
    memory takes longer than the sum.
    """
    y = x.clamp(low, high)
    moved = torch.add(difference, x - y, out=out)
    torch.maximum(moved, low - y, out=moved)
    return moved if high is None else torch.minimum(moved, high - y, out=moved)


def batch_norm_scale(norm: Any, values: Tensor) -> Tensor | None:
    """Return the factor (K, 1, ...) of a batch norm of values (n, K, *space) in eval mode.

    It is None if the batch norm keeps no running statistics.
    """
    if norm.running_var is None:
        return None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    return over_space(scale, values)


def argument(node: fx.Node, place: int, name: str, default: object = None) -> Value:
    """Return the argument that a call passes at a place or by a name.

    torch.fx records a call as the user's code writes it.
    """
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def is_reshape(node: fx.Node) -> bool:
    """Return True if a node makes tokens of the maps."""
    return isinstance(getattr(node.target, "__self__", None), Tokens | ChannelsLast)


def permuted_axes(node: fx.Node) -> list[int]:
    """Return the axes of a permutation, in their new order; [] for another operation."""
    if node.target not in PERMUTE:
        return []
    dims: Value = node.args[1:]
    return list(dims[0] if isinstance(dims[0], list | tuple) else dims)


def spatial_mean(node: fx.Node, values: Tensor) -> bool:
    """Return True if a mean of values (B, K, *space) runs over all spatial axes and no other."""
    dims = argument(node, 1, "dim")
    listed = [dims] if isinstance(dims, int) else dims
    if not isinstance(listed, (list, tuple)):
        return False
    space = set(axes(values))
    return {int(dim) % values.ndim for dim in listed} == space != set()


@dataclass(frozen=True)
class HeadGraph:
    """The head as a graph, with the facts about it that are found once.

    Ablations follow it node by node, and pass differences instead of values where they can.
    """

    module: fx.GraphModule
    # the layer whose rows are the classes, if a score needs only its own row
    class_layer: fx.Node | None = None
    # the nodes from the class layer to the logits, which keep classes apart
    tail: tuple[fx.Node, ...] = ()
    bytes_per_image: int = 0  # the bytes of all values together
    widest: int = 0  # the bytes of the largest value
    # The steps that ablations need only for few tokens: FewTokens, whose module imports this one.
    few: Any = None
    rows: HeadGraph | None = None  # the graph of these steps

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
        """The values that no node needs any more, by the last node that uses them.

        They are freed there, since a row's values take as much memory as a whole image's.
        """
        freed: dict[fx.Node, list[fx.Node]] = {}
        order = {node: place for place, node in enumerate(self.nodes)}
        for node in self.nodes:
            if node.users:
                freed.setdefault(max(node.users, key=order.__getitem__), []).append(node)
        return freed

    @cached_property
    def has_attention(self) -> bool:
        """True if tokens are mixed with weights that are computed from them."""
        return any(operation in ATTENTION for operation in self._operations.values())

    @cached_property
    def has_tokens(self) -> bool:
        """True if the head makes tokens of the maps, or mixes tokens by attention."""
        return self.has_attention or any(is_reshape(node) for node in self.nodes)

    @cached_property
    def logits(self) -> fx.Node:
        """The node that the graph returns: the logits, or the outputs made from them."""
        (returned,) = self.nodes[-1].args
        assert isinstance(returned, fx.Node)
        return returned

    def evaluate(self, activations: Tensor, sides: Sides) -> Values:
        """Compute the value of every node. Nothing is overwritten, whatever the graph does in
        place.
        """
        inputs = iter((activations, *sides))
        values: Values = {}
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = next(inputs)
            elif node.op != "output":
                values[node] = self.apply(node, values.__getitem__)
        return values

    def apply(self, node: fx.Node, value_of: Callable[[fx.Node], Value]) -> Value:
        """Apply a node's operation to the values that `value_of` returns for its inputs."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        args: Value
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
        """Apply a node's operation at x + d and at x, and subtract.

        This is the way for operations that aren't linear. It has the rounding of x, not that of d.
        """
        moved = x + difference
        change: Tensor = self.apply(node, lambda source: moved) - self.apply(node, lambda source: x)
        return change

    def layer(self, node: fx.Node) -> Any:
        """Return the module that a call_module node calls."""
        return self._layers[node]

    def operation(self, node: fx.Node) -> Operation:
        """Return a node's operation as the tables above name it; None for a module altered by hooks
        or a forward of its own.
        """
        return self._operations[node]

    @cached_property
    def _layers(self) -> dict[fx.Node, Any]:
        return {
            node: self.module.get_submodule(str(node.target))
            for node in self.nodes
            if node.op == "call_module"
        }

    @cached_property
    def _operations(self) -> dict[fx.Node, Operation]:
        return {node: self._operation(node) for node in self.nodes}

    def _operation(self, node: fx.Node) -> Operation:
        """Return the entry of `_operations`."""
        target = node.target
        if node.op == "call_module":
            module = self.layer(node)
            altered = (
                module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            )
            return None if altered or isinstance(module, torch.jit.ScriptModule) else type(module)
        if node.op == "call_method":
            return str(target).removesuffix("_")
        return IN_PLACE_FORMS.get(target, target) if node.op == "call_function" else None

    def _in_place(self, node: fx.Node) -> bool:
        """Return True if a node overwrites its input.

        Its input is then copied first, since other nodes still need it.
        """
        if node.op == "call_module":
            return bool(getattr(self.layer(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        name = getattr(node.target, "__name__", "")
        return (
            bool(node.kwargs.get("inplace"))
            or name in {"iadd", "imul", "isub", "itruediv"}
            or name.endswith("_")
        )


def first_input(node: fx.Node) -> fx.Node | None:
    """Return the node that is a node's first argument, or None if that is no node."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) else None


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute layer(x), (B, inputs) -> (B, outputs), differentiable in x only. The gradient is
    taken in blocks of inputs.

    For a product of few rows with a wide matrix, BLAS libraries take up to twice as long in one
    piece as in blocks. FC 12288 -> 512 took 2.1 ms and 1.4 ms (batch 8, two cores). A head that
    flattens its maps begins with such a layer.
    """
    is_wide = x.ndim == 2 and x.shape[1] >= WIDE and x.shape[1] % BLOCK == 0
    pays = is_wide and x.device.type == "cpu"
    output: Tensor
    if not pays or not x.requires_grad or torch.is_autocast_enabled("cpu"):
        output = layer(x)
    else:
        bias = None if layer.bias is None else layer.bias.detach()
        output = _WideLinear.apply(x, layer.weight.detach(), bias)
    return output


class _WideLinear(torch.autograd.Function):
    """The linear layer of `apply_linear`, whose gradient is taken in blocks."""

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
    """Return True if a layer is a convolution that mixes channels at each position separately."""
    if type(layer) not in CONVOLUTION:
        return False
    ones = {*layer.kernel_size, *layer.stride, layer.groups}
    return ones == {1} and {*layer.padding} == {0}
