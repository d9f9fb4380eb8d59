"""Capture models whose code depends on the input's shape, or has parts that torch.fx can't follow.

Each proxy carries its values for one image and for two. A value that is equal for both, such as a
height, is a plain number for the model's code, which can then decide by it. A value that counts
images stays a proxy. A submodule that still can't be followed is one node of the graph and is
called whole.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from axiom_bench.cutting.graph_parts import (
    CannotSplit,
    CutPoint,
    GraphParts,
    Tracer,
    divided,
    short_reason,
)
from axiom_bench.cutting.images import joined, other_inputs_for

# The value of an operation of the model's code: a tensor, a number, a shape, or anything else that
# the code hands on. Only the operation knows which, so no type says it.
Value = Any
# Functions of a tensor whose results don't depend on its elements.
ABOUT_TENSORS = {
    *(
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "stride",
        "element_size",
        "get_device",
        "type",
    ),
    *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_inference"),
    *(torch.numel, torch.is_floating_point, torch.is_complex, getattr, len),
}
# Functions that read a tensor's elements: the model's code decides by them, or makes shapes from
# them.
READING = {
    *(
        "item",
        "tolist",
        "numpy",
        "nonzero",
        "argwhere",
        "masked_select",
        "unique",
        "equal",
        "allclose",
        "is_nonzero",
    ),
    *("__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__"),
}
BY_DATA = "control flow by data"


class ReadsData(Exception):
    """The model's code reads the elements of a tensor that depends on the image.

    Another image may then take another path, so the code isn't followed, but called as a whole.
    """


class ReadingMode(TorchFunctionMode):
    """A mode that calls `on_read` whenever elements of a tensor are read in this block, as by `if
    x.max() > 1`.

    A module that reads elements decides by one image's values, so it can't run on a batch.
    """

    def __init__(self, on_read: Callable[[], None]) -> None:
        super().__init__()
        self.on_read = on_read

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if getattr(function, "__name__", "") in READING:
            self.on_read()
        return function(*args, **(kwargs or {}))


class ValuedProxy(fx.Proxy):
    """A proxy with its values for one image and for two."""

    def __init__(
        self, node: fx.Node, tracer: fx.Tracer, values: tuple[Value, Value], is_constant: bool
    ) -> None:
        super().__init__(node, tracer)
        self.values = values
        self.is_constant = is_constant  # True if the values depend on no input

    def __getattr__(self, name: str) -> Value:
        attribute = getattr(self.values[0], name)  # raises AttributeError if the value does
        if callable(attribute):
            return fx.proxy.Attribute(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __len__(self) -> int:
        lengths = {len(value) for value in self.values}
        if len(lengths) > 1:
            raise CannotSplit("the number of images is read")
        return lengths.pop()

    def __iter__(self) -> Iterator[Value]:
        return (
            self.tracer.create_proxy("call_function", operator.getitem, (self, i), {})
            for i in range(len(self))
        )

    def __index__(self) -> int:
        raise CannotSplit("the number of images is read")

    __int__ = __index__


class ShapeTracer(Tracer):
    """The tracer whose proxies know their values. `opaque` are the submodules that are called
    whole.

    Code that asks for a height then gets a number, where torch.fx's own proxy would raise an error.
    """

    def __init__(self, point: CutPoint, opaque: set[nn.Module]) -> None:
        super().__init__(point.module, None)
        self.opaque = opaque
        self.reads_data: set[nn.Module] = set()
        # the innermost submodule in which the last error was raised
        self.failure: nn.Module | None = None
        self._error: Exception | None = None
        self._evaluates = False
        batches = (point.image.clone(), torch.cat([point.image, point.image]))
        others = tuple(other_inputs_for(point.network.model, len(batch)) for batch in batches)
        self._inputs = {"images": batches, "others": others}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True for opaque submodules also."""
        return m in self.opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Record a call of a module, or run it if its values are computed."""
        if self._evaluates:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # a user's code on proxies may raise anything
            if error is not self._error:
                self.failure = m
                self._error = error
            raise

    def getattr(
        self, attr: str, attr_val: object, parameter_proxy_cache: dict[str, fx.Proxy]
    ) -> object:
        """Return a module's attribute: a proxy of a parameter, unless values are computed."""
        return (
            attr_val if self._evaluates else super().getattr(attr, attr_val, parameter_proxy_cache)
        )

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Decide by a number that counts images, if every number of images leads to the same
        decision.
        """
        if isinstance(obj, ValuedProxy) and (
            obj.is_constant or not isinstance(obj.values[0], Tensor)
        ):
            decisions = {bool(value) for value in obj.values}
            if len(decisions) == 1:
                return decisions.pop()
        raise ReadsData(BY_DATA)

    def create_proxy(
        self,
        kind: str,
        target: Value,
        args: tuple[Value, ...],
        kwargs: dict[str, Value],
        name: str | None = None,
        type_expr: object | None = None,
        proxy_factory_fn: Callable[[fx.Node], fx.Proxy] | None = None,
    ) -> Value:
        """Record an operation and compute its values.

        A result that is the same for every number of images is no proxy.
        """
        if kind == "output":
            return super().create_proxy(
                kind, target, args, kwargs, name, type_expr, proxy_factory_fn
            )
        proxies: list[ValuedProxy] = []
        fx.node.map_aggregate((args, kwargs), lambda leaf: _collect(leaf, proxies))
        is_constant = kind != "placeholder" and all(proxy.is_constant for proxy in proxies)
        if kind == "call_module" and self._is_read_by(target, args, kwargs):
            kind = "call_function"
            target = RowByRow(self.root.get_submodule(target), _are_per_image(args, kwargs)).called
        # The operation runs on two numbers of images. A value that is equal for both doesn't depend
        # on the number, so it stays a plain value and may decide the path of the code.
        values = (
            self._value(kind, target, args, kwargs, 0),
            self._value(kind, target, args, kwargs, 1),
        )

        def recorded() -> Value:
            def valued(node: fx.Node) -> ValuedProxy:
                return ValuedProxy(node, self, values, is_constant)

            return super(ShapeTracer, self).create_proxy(
                kind, target, args, kwargs, name, type_expr, valued
            )

        if not kind.startswith("call") or _has_tensors(values[0]):
            return recorded()
        has_tensors = any(_has_tensors(proxy.values[0]) for proxy in proxies)
        if has_tensors and not is_constant and target not in ABOUT_TENSORS:
            raise ReadsData(BY_DATA)
        if values[0] == values[1]:
            return values[0]
        if not isinstance(values[0], tuple) or len(values[0]) != len(values[1]):
            return recorded()
        proxy = recorded()
        return tuple(
            one if one == two else proxy[axis]
            for axis, (one, two) in enumerate(zip(*values, strict=True))
        )

    def _is_read_by(self, target: str, args: tuple[Value, ...], kwargs: dict[str, Value]) -> bool:
        """Return True if an opaque submodule reads its input's elements, so that it is called for
        one row at a time.
        """
        module = self.root.get_submodule(target)
        if module in self.opaque and module not in self.reads_data:
            with ReadingMode(lambda: self.reads_data.add(module)):
                self._value("call_module", target, args, kwargs, 0)
        return module in self.reads_data

    def _value(
        self,
        kind: str,
        target: Value,
        args: tuple[Value, ...],
        kwargs: dict[str, Value],
        number: int,
    ) -> Value:
        """Compute an operation for one image (number 0) or two (1)."""
        if kind == "placeholder":
            return self._inputs[target][number]

        def value_of(leaf: object) -> Value:
            return leaf.values[number] if isinstance(leaf, ValuedProxy) else leaf

        args, kwargs = fx.node.map_aggregate((args, kwargs), value_of)
        self._evaluates = True
        try:
            if kind == "get_attr":
                return operator.attrgetter(target)(self.root)
            if kind == "call_module":
                return self.root.get_submodule(target)(*args, **kwargs)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)
        finally:
            self._evaluates = False


def _collect(leaf: Value, proxies: list[ValuedProxy]) -> Value:
    """Add a leaf of an operation's arguments to the proxies, if it is one."""
    if isinstance(leaf, ValuedProxy):
        proxies.append(leaf)
    elif isinstance(leaf, fx.Proxy):
        raise CannotSplit(f"{leaf} has no value")
    return leaf


def _has_tensors(value: object) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value))


def _are_per_image(args: object, kwargs: object) -> list[bool]:
    """Return one bool for each leaf of a call's arguments: True if the leaf is a tensor with a row
    per image.

    RowByRow divides only these leaves.
    """
    leaves = pytree.tree_leaves((args, kwargs))
    values = [leaf.values if isinstance(leaf, ValuedProxy) else (leaf, leaf) for leaf in leaves]
    return [isinstance(one, Tensor) and one.shape != two.shape for one, two in values]


@dataclass(frozen=True, eq=False)
class RowByRow:
    """A module that reads elements of its input, and is called for one image at a time."""

    module: nn.Module
    are_per_image: list[bool]  # True for each leaf of its arguments that has a row per image

    def called(self, *args: object, **kwargs: object) -> object:
        """Call the module for each row, and join the results."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        pairs = list(zip(leaves, self.are_per_image, strict=True))
        rows = next(len(leaf) for leaf, is_per_image in pairs if is_per_image)
        returned = []
        for row in range(rows):
            row_leaves = [
                leaf[row : row + 1] if is_per_image else leaf for leaf, is_per_image in pairs
            ]
            row_args, row_kwargs = pytree.tree_unflatten(row_leaves, structure)
            returned.append(self.module(*row_args, **row_kwargs))
        return joined(returned)


def captured(point: CutPoint) -> tuple[GraphParts, dict[str, str]]:
    """Cut a network whose graph holds for the shapes of the image only.

    Returns:
        The parts, and why submodules are called whole, by the submodules' names.

    Raises:
        CannotSplit: If the code around the layer itself can't be followed.
    """
    target = point.module
    names = {module: name for name, module in point.network.named_modules()}
    opaque: dict[nn.Module, str] = {}
    for _ in names:
        tracer = ShapeTracer(point, set(opaque))
        try:
            with torch.enable_grad():
                graph = tracer.trace(point.network)
        except Exception as error:  # a user's code on proxies may raise anything
            failed = tracer.failure
            reason = short_reason(error)
            if (
                failed is None
                or failed in opaque
                or (failed is not target and target in failed.modules())
            ):
                place = f"{names[failed]}: " if failed is not None else ""
                raise CannotSplit(f"{place}{reason}") from error
            # All modules of the failed one's type are called whole, since they would fail in the
            # same way.
            for module in names:
                if type(module) is type(failed) and (
                    module is target or target not in module.modules()
                ):
                    opaque[module] = reason
            continue
        reasons = {
            names[module].removeprefix("model."): reason for module, reason in opaque.items()
        }
        return divided(point, tracer, graph), reasons
    raise CannotSplit("a submodule can't be followed")
