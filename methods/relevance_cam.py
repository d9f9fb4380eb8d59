"""Relevance-CAM: Lee et al., Your Model Already Knows Where to Look, CVPR 2021."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import Interceptor, of_layers


def relevance_cam(trace: Trace) -> Tensor:
    """w_k = sum_xy R_k, the relevance that reaches map k by contrastive layer-wise propagation ->
    (B, K, 1, 1).

    The explained class starts with relevance 1, each of the N - 1 others with -1 / (N - 1), so that
    relevance common to all classes cancels. (In the authors' code the others start with -1 / 1000,
    the convolution rule counts the bias twice and the batch norm squares the variance.) See
    `relevances` for the rules. Costs one head pass, forward and backward.
    """
    logits = trace.logits
    others = -1 / max(logits.shape[1] - 1, 1)
    start = torch.full_like(logits, others).scatter(1, trace.targets[:, None], 1)
    return relevances(trace, start).sum(axes(trace.activations), keepdim=True)


def relevances(trace: Trace, start: Tensor) -> Tensor:
    """Relevance at the layer, from relevance `start` (B, N) at the logits -> (B, K, H, W).

    z+ rule at linear layers and convolutions: R_j = sum_i (x_j w_ji)+ / sum_j' (x_j' w_j'i)+ R_i,
    which keeps the total as long as each unit with relevance has a positive input. Batch norms and
    activation functions pass relevance on unit by unit; pooling and sums divide it in proportion to
    each input's contribution. Raises BenchError where the head has an operation without a rule.
    """
    with torch.inference_mode(False), torch.enable_grad():
        F = trace.activations.clone().requires_grad_()
        with RelevanceRules():
            logits = trace.head(F)
        seeds = _ratio(start.to(logits), logits.detach())
        (gradient,) = torch.autograd.grad(logits, F, seeds)
    return gradient * F.detach()


class RelevanceRules(Interceptor):
    """While active, operations keep their values, and get gradients such that input times gradient
    is relevance.
    """

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The call's output, with its rule's gradient. Raises BenchError for an operation without a
        rule.
        """
        name = getattr(func, "__name__", "").strip("_")
        rule = RULES.get(name)
        output = func(*args, **kwargs) if rule is None else rule(func, *args, **kwargs)
        if (
            rule is None
            and name not in PROPORTIONAL
            and _is_differentiated(output)
            and not _by_a_number(name, args)
        ):
            raise BenchError(
                f"Relevance-CAM has no rule for {name!r}, which the head calls; choose a layer "
                "behind it, or leave relevance_cam out."
            )
        return output


def _z_plus(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    *rest: Any,
    **named: Any,
) -> Tensor:
    output = func(input, weight, bias, *rest, **named)
    if not output.requires_grad:
        return output
    positive = func(input.clamp(min=0), weight.clamp(min=0), None, *rest, **named)
    if (input < 0).any():  # not behind a ReLU
        positive = positive + func(input.clamp(max=0), weight.clamp(max=0), None, *rest, **named)
    return _with_gradient_of(output, positive)


def unit_by_unit(func: Callable[..., Tensor], input: Tensor, *rest: Any, **named: Any) -> Tensor:
    """The output of a function of each unit alone, through which relevance passes as it is."""
    output = func(input.clone(), *rest, **named)  # a copy: it may work in place
    return _with_gradient_of(output, input) if output.requires_grad else output


def _with_gradient_of(output: Tensor, share: Tensor) -> Tensor:
    """The output's value y, and of its inputs x the gradient y / s ds/dx, so that x dy/dx is (x
    ds/dx) / s of y.
    """
    ratio = _ratio(output.detach(), share.detach())
    return output.detach() + (share - share.detach()) * ratio


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient; 0 where the denominator is 0, or so small that the quotient may not be
    finite.
    """
    smallest = torch.finfo(denominator.dtype).tiny ** 0.5
    usable = denominator.abs() > smallest
    return (numerator / denominator.where(usable, 1)).where(usable, 0)


def _is_differentiated(output: Any) -> bool:
    parts = output if isinstance(output, tuple | list) else (output,)
    return any(isinstance(part, Tensor) and part.requires_grad for part in parts)


def _by_a_number(name: str, args: tuple[Any, ...]) -> bool:
    return name in SCALINGS and sum(isinstance(part, Tensor) for part in args) == 1


RULES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(("linear", *of_layers("conv", "conv_transpose")), _z_plus),
    **dict.fromkeys(
        (
            "batch_norm",
            "relu6",
            "hardtanh",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "hardswish",
            "mish",
        ),
        unit_by_unit,
    ),
}
# Input times gradient of these is their relevance without a rule.
PROPORTIONAL = frozenset(
    {
        *("relu", "threshold", "dropout", "mean", "sum", "add", "iadd", "radd"),
        *of_layers("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"),
        *(
            "cat",
            "concat",
            "stack",
            "chunk",
            "split",
            "getitem",
            "get",
            "clone",
            "contiguous",
            "to",
            "float",
            "double",
        ),
        *(
            "flatten",
            "unflatten",
            "view",
            "reshape",
            "permute",
            "transpose",
            "squeeze",
            "unsqueeze",
            "expand",
        ),
    }
)
SCALINGS = frozenset({"mul", "rmul", "imul", "div", "truediv", "itruediv"})
