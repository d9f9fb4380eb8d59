"""AttnLRP: Achtibat et al., Attention-Aware Layer-Wise Relevance Propagation for Transformers, ICML
2024, arXiv:2402.05602.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.methods.relevance_cam import unit_by_unit
from axiom_bench.methods.shared.nonlinear import SMOOTH, Interceptor, differentiable

THROUGH = ("all", "values")
PRODUCTS = frozenset({"matmul", "rmatmul", "bmm", "mul", "rmul", "imul", "einsum"})


def attn_lrp(trace: Trace, attention: str = "all") -> Tensor:
    """w = R / F, the relevance R of each channel and position of the layer relative to F -> (B, K,
    H, W).

    R starts as the score and goes back through the head by the paper's rules, in their authors'
    form: input times a gradient. A product of two values gives each half of the relevance, and the
    softmax is expanded at its input. Activation functions and the deviation in a norm pass
    relevance on as it is. All that is linear gives each input, and biases, their part of the sum.
    attention "all": through queries, keys and values; "values": through values alone, as the
    authors' code has it for vision transformers. (H, W): the patch tokens; what the class token has
    of the relevance isn't shown. Costs one head pass, forward and backward. Raises BenchError for
    another `attention`, and for a layer that no attention follows.
    """
    if attention not in THROUGH:
        raise unknown("attention of AttnLRP", attention, THROUGH)
    with torch.inference_mode(False), torch.enable_grad():
        activations = trace.activations.clone().requires_grad_()
        with _Rules(attention == "all") as rules:
            scores = trace.head(activations).gather(1, trace.targets[:, None].clone())
        if not rules.num_attentions:
            raise BenchError(
                "AttnLRP needs a layer that a transformer's attention follows: choose one, or "
                "leave attn_lrp out."
            )
        (gradient,) = torch.autograd.grad(scores.sum(), activations)
    return gradient


class _Rules(Interceptor):
    """While active, operations keep their values, and get gradients such that input times gradient
    is relevance.
    """

    def __init__(self, through_scores: bool) -> None:
        super().__init__()
        self.through_scores = through_scores
        self.num_attentions = 0

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The call's output, with its rule's gradient."""
        name = getattr(func, "__name__", "").strip("_")
        if func in (
            functional.multi_head_attention_forward,
            functional.scaled_dot_product_attention,
        ):
            self.num_attentions += (
                1  # two products, of which queries and keys have both before them
            )
            shares = (0.25, 0.25, 0.5) if self.through_scores else (0.0, 0.0, 1.0)
            return func(*map(_scaled, args[:3], shares), *args[3:], **kwargs)
        if name in PRODUCTS:
            count = sum(differentiable((arg,)) for arg in args)
            args = tuple(
                _scaled(arg, 1 / count) if count > 1 and isinstance(arg, Tensor) else arg
                for arg in args
            )
        elif differentiable(args[:1]):
            if name == "softmax":
                self.num_attentions += 1
                return (
                    func(*args, **kwargs) if self.through_scores else func(*args, **kwargs).detach()
                )
            if name in SMOOTH:
                return unit_by_unit(func, *args, **kwargs)
            if name in NORMS:
                return NORMS[name](func, *args, **kwargs)
        return func(*args, **kwargs)


def _scaled(value: Tensor, share: float) -> Tensor:
    """The value, with that share of its gradient."""
    return value.detach() + share * (value - value.detach())


def _layer_norm(
    func: Callable[..., Tensor], input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, *rest: Any,
) -> Tensor:  # fmt: skip
    output, axes = (
        func(input, normalized_shape, weight, bias, eps, *rest),
        _last_axes(normalized_shape),
    )
    return _constant_deviation(output, input - input.mean(axes, keepdim=True), axes, weight, eps)


def _rms_norm(
    func: Callable[..., Tensor], input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:  # fmt: skip
    output = func(input, normalized_shape, weight, eps)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _constant_deviation(output, input, _last_axes(normalized_shape), weight, eps)


def _last_axes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def _constant_deviation(
    output: Tensor, centred: Tensor, axes: tuple[int, ...], weight: Tensor | None, eps: float
) -> Tensor:
    """A norm's output, with the gradient for which its deviation is a constant."""
    scale = (centred.square().mean(axes, keepdim=True) + eps).rsqrt().detach()
    linear = centred * (scale if weight is None else scale * weight)
    return output.detach() + (linear - linear.detach())


NORMS: dict[str, Callable[..., Tensor]] = {"layer_norm": _layer_norm, "rms_norm": _rms_norm}
