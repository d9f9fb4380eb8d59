"""Relevance-CAM: Lee et al., Your Model Already Knows Where to Look, CVPR 2021."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
    functions_of_all_dimensions,
)


def relevance_cam(trace: Trace) -> Tensor:
    """w_k = sum_xy R_k, R_k the relevance that propagation brings to map k -> (B, K, 1, 1).

    The propagation is layer-wise and contrastive; see `relevances` for the rules. The explained
    class starts with relevance 1, and each of the N - 1 others with -1 / (N - 1), so that
    relevance common to all classes cancels. (In the authors' code the others start with -1 / 1000,
    the convolution rule counts the bias twice and the batch norm squares the variance.) Costs one
    head pass, forward and backward.

    Args:
        trace: The traced batch, with logits (B, N).

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the head has an operation without a rule.
    """
    logits = trace.logits
    other_relevance = -1 / max(logits.shape[1] - 1, 1)
    start = torch.full_like(logits, other_relevance).scatter(1, trace.targets[:, None], 1)
    return relevances(trace, start).sum(axes(trace.activations), keepdim=True)


def relevances(trace: Trace, start: Tensor) -> Tensor:
    """Return the relevance at the layer, given the relevance at the logits.

    Linear layers and convolutions have the z+ rule,
    R_j = sum_i (x_j w_ji)+ / sum_j' (x_j' w_j'i)+ R_i. It keeps the total as long as each unit with
    relevance has a positive input. Batch norms and activation functions pass relevance on unit by
    unit. Pooling and sums divide it in proportion to each input's contribution.

    Args:
        trace: The traced batch.
        start: The relevance at the logits, (B, N).

    Returns:
        The relevance R, (B, K, H, W).

    Raises:
        BenchError: If the head has an operation without a rule.
    """
    with torch.inference_mode(False), torch.enable_grad():
        F = trace.activations.clone().requires_grad_()
        with RelevanceRules():
            logits = trace.head(F)
        seeds = _ratio(start.to(logits), logits.detach())
        (gradient,) = torch.autograd.grad(logits, F, seeds)
    return gradient * F.detach()


class RelevanceRules(Interceptor):
    """Give operations gradients such that input times gradient is relevance.

    While active, operations keep their values.
    """

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with its rule's gradient.

        Raises:
            BenchError: If the operation has no rule.
        """
        name = getattr(func, "__name__", "").strip("_")
        if name in RULES:
            return RULES[name](func, *args, **kwargs)
        output = func(*args, **kwargs)
        is_allowed = name in PROPORTIONAL or _is_scaling_by_number(name, args)
        if _is_differentiated(output) and not is_allowed:
            raise BenchError(
                f"Relevance-CAM has no rule for {name!r}, which the head calls; choose a layer "
                "behind it, or leave relevance_cam out."
            )
        return output


def _z_plus(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: object = None,
    *rest: object,
    **named: object,
) -> Tensor:
    output = func(input, weight, bias, *rest, **named)
    if not output.requires_grad:
        return output
    positive = func(input.clamp(min=0), weight.clamp(min=0), None, *rest, **named)
    if (input < 0).any():  # not behind a ReLU
        positive = positive + func(input.clamp(max=0), weight.clamp(max=0), None, *rest, **named)
    return _with_gradient_of(output, positive)


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
    return _with_gradient_of(output, input) if output.requires_grad else output


def _with_gradient_of(output: Tensor, share: Tensor) -> Tensor:
    """Return y with the gradient y / s ds/dx in its inputs x, where s is the share.

    So the relevance x dy/dx of an input is (x ds/dx) / s of y.
    """
    ratio = _ratio(output.detach(), share.detach())
    return output.detach() + (share - share.detach()) * ratio


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, or 0 if the denominator is so small that it may not be finite."""
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
RULES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(WEIGHTED_SUMS, _z_plus),
    **dict.fromkeys(UNIT_BY_UNIT, pass_relevance_unchanged),
}
# Input times gradient of these is their relevance without a rule.
PROPORTIONAL = frozenset({
    *functions_of_all_dimensions("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"),
    "relu", "threshold", "dropout", "mean", "sum", "add", "iadd", "radd",
    "cat", "concat", "stack", "chunk", "split", "getitem", "get",
    "clone", "contiguous", "to", "float", "double",
    "flatten", "unflatten", "view", "reshape", "permute", "transpose",
    "squeeze", "unsqueeze", "expand",
})  # fmt: skip
SCALINGS = frozenset({"mul", "rmul", "imul", "div", "truediv", "itruediv"})
