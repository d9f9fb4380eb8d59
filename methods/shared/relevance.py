"""Propagate relevance through a network's operations, by a rule for each.

Each operation gets a gradient such that input times gradient is the input's relevance, so that
autograd carries the relevance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
    functions_of_all_dimensions,
)

Rule = Callable[..., Tensor]


def z_plus(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: object = None,
    *rest: object,
    **named: object,
) -> Tensor:
    """Return a weighted sum whose relevance goes to the inputs by the z+ rule.

    Args:
        func: A linear layer or a convolution.
        input: Its input x.
        weight: Its weight w.
        bias: Its bias, which gets no relevance.
        *rest: Its further arguments.
        **named: Its keyword arguments.

    Returns:
        The output.
    """
    output = func(input, weight, bias, *rest, **named)
    if not output.requires_grad:
        return output
    positive = func(input.clamp(min=0), weight.clamp(min=0), None, *rest, **named)
    if (input < 0).any():  # not behind a ReLU
        positive = positive + func(input.clamp(max=0), weight.clamp(max=0), None, *rest, **named)
    return with_gradient_of(output, positive)


def pass_relevance_unchanged(
    func: Callable[..., Tensor], input: Tensor, *rest: object, **named: object
) -> Tensor:
    """Return the output of a function of each unit, through which relevance passes unchanged.

    Args:
        func: The function, whose output has the shape of its input.
        input: Its first argument.
        *rest: Its further arguments.
        **named: Its keyword arguments.

    Returns:
        The output, with the gradient for which input times gradient is the output's relevance.
    """
    output = func(input.clone(), *rest, **named)  # a copy: it may work in place
    return with_gradient_of(output, input) if output.requires_grad else output


def with_gradient_of(output: Tensor, share: Tensor) -> Tensor:
    """Return y with the gradient y / s ds/dx in its inputs x, where s is the share.

    So the relevance x dy/dx of an input is (x ds/dx) / s of y.

    Args:
        output: The output y of an operation.
        share: The part s of the output that decides the inputs' relevances.

    Returns:
        The values y.
    """
    scale = ratio(output.detach(), share.detach())
    return output.detach() + (share - share.detach()) * scale


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, or 0 if the denominator is so small that it may not be finite.

    Args:
        numerator: Any tensor.
        denominator: A tensor that broadcasts with it.

    Returns:
        The quotient, or 0.
    """
    smallest = torch.finfo(denominator.dtype).tiny ** 0.5
    is_usable = denominator.abs() > smallest
    return (numerator / denominator.where(is_usable, 1)).where(is_usable, 0)


def _is_differentiated(output: object) -> bool:
    parts = output if isinstance(output, tuple | list) else (output,)
    return any(isinstance(part, Tensor) and part.requires_grad for part in parts)


def _is_scaling_by_number(name: str, args: Arguments) -> bool:
    return name in SCALINGS and sum(isinstance(part, Tensor) for part in args) == 1


UNIT_BY_UNIT = (
    "batch_norm", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "mish",
)  # fmt: skip
WEIGHTED_SUMS = ("linear", *functions_of_all_dimensions("conv", "conv_transpose"))
RULES: dict[str, Rule] = {
    **dict.fromkeys(WEIGHTED_SUMS, z_plus),
    **dict.fromkeys(UNIT_BY_UNIT, pass_relevance_unchanged),
}
# Input times gradient of these is their relevance without a rule.
PROPORTIONAL = frozenset({
    *functions_of_all_dimensions("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"),
    "relu", "threshold", "dropout", "neg", "mean", "sum", "add", "iadd", "radd",
    "cat", "concat", "stack", "chunk", "split", "getitem", "get",
    "clone", "contiguous", "to", "float", "double",
    "flatten", "unflatten", "view", "reshape", "permute", "transpose",
    "squeeze", "unsqueeze", "expand", "select", "index_select", "narrow", "unbind",
})  # fmt: skip
SCALINGS = frozenset({"mul", "rmul", "imul", "div", "truediv", "itruediv"})


class RelevanceRules(Interceptor):
    """Give operations gradients such that input times gradient is relevance.

    While active, operations keep their values.
    """

    def __init__(self, no_rule: str, rules: Mapping[str, Rule] = RULES) -> None:
        """Set the rules.

        Args:
            no_rule: The message for an operation without a rule, with a place for its `{name}`.
            rules: The rule of each operation. Operations of PROPORTIONAL need none.
        """
        super().__init__()
        self.no_rule = no_rule
        self.rules = rules

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with its rule's gradient.

        Raises:
            BenchError: If the operation has no rule.
        """
        name = getattr(func, "__name__", "").strip("_")
        if name in self.rules:
            return self.rules[name](func, *args, **kwargs)
        output = func(*args, **kwargs)
        is_allowed = name in PROPORTIONAL or _is_scaling_by_number(name, args)
        if _is_differentiated(output) and not is_allowed:
            raise BenchError(self.no_rule.format(name=name))
        return output
