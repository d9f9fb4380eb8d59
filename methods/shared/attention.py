"""A transformer's self-attention as it runs, so that a method can read the score's gradient in its
probabilities.

A = softmax(Z), Z = scale Q K', and a head's output is O = A V. So dS/dA = (dS/dO) V', and nothing
needs to keep A.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import Interceptor

# Of torch's multi_head_attention_forward: what a plain self-attention leaves at its default.
SPECIAL = (
    "bias_k",
    "bias_v",
    "key_padding_mask",
    "attn_mask",
    "q_proj_weight",
    "static_k",
    "static_v",
)


@dataclass(frozen=True, eq=False)
class Attention:
    """One call: Q, K and V, detached, and O, a leaf of the autograd graph; (B, heads, N, d) of N
    tokens each.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float

    @property
    def scores(self) -> Tensor:
        """Z, before the softmax: (B, heads, N, N), of a query to each key."""
        return self.scale * self.query @ self.key.mT


class Attentions(Interceptor):
    """While active, keeps each self-attention in `calls`, whose output becomes a leaf: no gradient
    passes through one.

    So a score's gradient in an output runs through residual connections and the layers between
    attentions alone. nn.MultiheadAttention and scaled_dot_product_attention are read. Raises
    BenchError for a mask, and other forms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Attention] = []

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The call's output, as a leaf where it is an attention's."""
        if func is functional.multi_head_attention_forward:
            return self._multi_head(inspect.signature(func).bind(*args, **kwargs).arguments)
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _multi_head(self, given: Mapping[str, Any]) -> tuple[Tensor, None]:
        """Of tokens (N, B, heads d); the weights, which plain networks don't read, aren't
        returned.
        """
        tokens, heads = given["query"], given["num_heads"]
        is_special = given["add_zero_attn"] or any(given.get(name) is not None for name in SPECIAL)
        if is_special or given["key"] is not tokens or given["value"] is not tokens:
            raise BenchError(REFUSED)
        projected = functional.linear(tokens, given["in_proj_weight"], given["in_proj_bias"])
        output = self._attend(*projected.unflatten(2, (3, heads, -1)).permute(2, 1, 3, 0, 4))
        joined = output.permute(2, 0, 1, 3).flatten(2)
        return functional.linear(joined, given["out_proj_weight"], given["out_proj_bias"]), None

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if (
            attn_mask is not None
            or is_causal
            or query.ndim != 4
            or not query.shape == key.shape == value.shape
        ):
            raise BenchError(REFUSED)
        output = (
            functional.scaled_dot_product_attention(query, key, value, scale=scale)
            .detach()
            .requires_grad_()
        )
        scale = query.shape[3] ** -0.5 if scale is None else scale
        self.calls.append(Attention(query.detach(), key.detach(), value.detach(), output, scale))
        return output


REFUSED = (
    "This needs a vision transformer whose tokens all attend to each other, by "
    "nn.MultiheadAttention or scaled_dot_product_attention without a mask; leave the method out "
    "for this network."
)


def probability_gradients(scores: Tensor, calls: list[Attention]) -> list[Tensor]:
    """dS/dA of each attention, (B, heads, N, N), from the scores of its images; 0 where they don't
    depend on it.
    """
    gradients = torch.autograd.grad(
        scores.sum(), [each.output for each in calls], materialize_grads=True
    )
    # In the scores' type: a trunk in bf16 has tensors of that.
    pairs = (
        (gradient.to(scores), each.value.to(scores))
        for gradient, each in zip(gradients, calls, strict=True)
    )
    return [gradient @ value.mT for gradient, value in pairs]


def maps_of_keys(trace: Trace, values: Tensor) -> Tensor:
    """Values of each key (B, N) -> those of the patches, the last tokens, (B, H, W) as the trace's
    layer has them.

    Raises BenchError where the network has fewer tokens.
    """
    height, width = trace.activations.shape[2:]
    if values.shape[1] < height * width:
        raise BenchError(
            f"The network's attentions have {values.shape[1]} tokens, and the layer "
            f"{trace.layer!r} {height}x{width} positions; choose a layer whose maps are the patch "
            "tokens."
        )
    return values[:, values.shape[1] - height * width :].unflatten(1, (height, width))
