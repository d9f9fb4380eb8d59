"""AttnLRP: Achtibat et al., ICML 2024, arXiv:2402.05602.

AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, invalid_choice
from axiom_bench.methods.shared.nonlinear import (
    SMOOTH,
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
    differentiable,
)
from axiom_bench.methods.shared.relevance import pass_relevance_unchanged

ATTENTION_PATHS = ("all", "values")
ATTENTIONS = (functional.multi_head_attention_forward, functional.scaled_dot_product_attention)
PRODUCTS = frozenset({"matmul", "rmatmul", "bmm", "mul", "rmul", "imul", "einsum"})


def attn_lrp(trace: Trace, attention: str = "all") -> Tensor:
    """w_k(x, y) = R_k(x, y) / F_k(x, y), R the relevance at the layer -> (B, K, H, W).

    R starts as the score and goes back through the head by the paper's rules, in the form of the
    authors' code: input times a gradient. In a product of two values, each gets half of the
    relevance. The softmax is expanded at its input. Activation functions and the deviation in a
    norm pass relevance on unchanged. A linear operation divides it among its inputs and biases in
    proportion to their parts of the sum. Costs one head pass, forward and backward.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), are the patch tokens; the relevance of
            the class token isn't shown.
        attention: "all": relevance goes back through queries, keys and values. "values": only
            through values, as in the authors' code for vision transformers.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If `attention` is unknown, or if no attention follows the layer.
    """
    if attention not in ATTENTION_PATHS:
        raise invalid_choice("attention of AttnLRP", attention, ATTENTION_PATHS)
    with torch.inference_mode(False), torch.enable_grad():
        activations = trace.activations.clone().requires_grad_()
        with _Rules(through_scores=attention == "all") as rules:
            scores = trace.head(activations).gather(1, trace.targets[:, None].clone())
        if not rules.num_attentions:
            raise BenchError(
                "AttnLRP needs a layer that a transformer's attention follows: choose one, or "
                "leave attn_lrp out."
            )
        (gradient,) = torch.autograd.grad(scores.sum(), activations)
    # By these rules the relevance is F times the gradient, so the gradient is the weight.
    return gradient


class _Rules(Interceptor):
    """Give operations gradients such that input times gradient is relevance.

    While active, operations keep their values.
    """

    def __init__(self, through_scores: bool) -> None:
        super().__init__()
        self.through_scores = through_scores
        self.num_attentions = 0

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with its rule's gradient."""
        name = getattr(func, "__name__", "").strip("_")
        if func in ATTENTIONS:
            self.num_attentions += 1
            # An attention is two products. Both of them come after queries and keys, which
            # therefore get half of a half.
            shares = (0.25, 0.25, 0.5) if self.through_scores else (0.0, 0.0, 1.0)
            queries_keys_values = map(_scaled, args[:3], shares)
            return func(*queries_keys_values, *args[3:], **kwargs)
        if name in PRODUCTS:
            count = sum(differentiable((arg,)) for arg in args)
            if count > 1:
                share = 1 / count
                args = tuple(
                    _scaled(arg, share) if isinstance(arg, Tensor) else arg for arg in args
                )
            return func(*args, **kwargs)
        if not differentiable(args[:1]):
            return func(*args, **kwargs)
        if name == "softmax":
            self.num_attentions += 1
            output = func(*args, **kwargs)
            return output if self.through_scores else output.detach()
        if name in SMOOTH:
            return pass_relevance_unchanged(func, *args, **kwargs)
        if name in NORMS:
            return NORMS[name](func, *args, **kwargs)
        return func(*args, **kwargs)


def _scaled(value: Tensor, share: float) -> Tensor:
    """Return the value, with this share of its gradient."""
    return value.detach() + share * (value - value.detach())


def _layer_norm(
    func: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: object,
) -> Tensor:
    output = func(input, normalized_shape, weight, bias, eps, *rest)
    axes = _last_axes(normalized_shape)
    centred = input - input.mean(axes, keepdim=True)
    return _constant_deviation(output, centred, axes, weight, eps)


def _rms_norm(
    func: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    output = func(input, normalized_shape, weight, eps)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _constant_deviation(output, input, _last_axes(normalized_shape), weight, eps)


def _last_axes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def _constant_deviation(
    output: Tensor, centred: Tensor, axes: tuple[int, ...], weight: Tensor | None, eps: float
) -> Tensor:
    """Return a norm's output, with the gradient for which its deviation is a constant."""
    scale = (centred.square().mean(axes, keepdim=True) + eps).rsqrt().detach()
    linear = centred * (scale if weight is None else scale * weight)
    return output.detach() + (linear - linear.detach())


NORMS: dict[str, Callable[..., Tensor]] = {"layer_norm": _layer_norm, "rms_norm": _rms_norm}
