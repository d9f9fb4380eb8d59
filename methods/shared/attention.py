"""Read a transformer's self-attention as it runs, and the score's gradient in its probabilities.

A = softmax(Z), Z = scale Q K', and a head's output is O = A V. So dS/dA = (dS/dO) V', and A
doesn't have to be kept.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
)

# Arguments of torch's multi_head_attention_forward that a plain self-attention doesn't set.
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
    """One call of an attention over N tokens.

    Q, K and V are detached, and the output O is a leaf of the autograd graph. All four are
    (B, heads, N, d).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float

    @property
    def scores(self) -> Tensor:
        """The scores Z before the softmax, of each query for each key: (B, heads, N, N)."""
        return self.scale * self.query @ self.key.mT


class Attentions(Interceptor):
    """Append each self-attention to `calls` and make its output a leaf, while active.

    No gradient passes through a leaf, so the score's gradient in an output runs only through
    residual connections and the layers between attentions. The class reads
    nn.MultiheadAttention and scaled_dot_product_attention. It raises BenchError for a mask and
    for other forms of attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Attention] = []

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, as a leaf if the call is an attention."""
        if func is functional.multi_head_attention_forward:
            return self._multi_head(inspect.signature(func).bind(*args, **kwargs).arguments)
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _multi_head(self, arguments: Keywords) -> tuple[Tensor, None]:
        """Return the output for tokens (N, B, heads d), and None for the attention weights.

        Plain networks don't read the weights.
        """
        tokens = arguments["query"]
        heads = arguments["num_heads"]
        is_special = arguments["add_zero_attn"] or any(
            arguments.get(name) is not None for name in SPECIAL
        )
        if is_special or arguments["key"] is not tokens or arguments["value"] is not tokens:
            raise BenchError(UNSUPPORTED_ATTENTION)
        projected = functional.linear(
            tokens, arguments["in_proj_weight"], arguments["in_proj_bias"]
        )
        query, key, value = projected.unflatten(2, (3, heads, -1)).permute(2, 1, 3, 0, 4)
        output = self._attend(query, key, value)
        joined = output.permute(2, 0, 1, 3).flatten(2)
        result = functional.linear(joined, arguments["out_proj_weight"], arguments["out_proj_bias"])
        return result, None

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
        """Append the call to `calls` and return its output as a leaf."""
        if (
            attn_mask is not None
            or is_causal
            or query.ndim != 4
            or not query.shape == key.shape == value.shape
        ):
            raise BenchError(UNSUPPORTED_ATTENTION)
        output = functional.scaled_dot_product_attention(query, key, value, scale=scale)
        output = output.detach().requires_grad_()
        scale = query.shape[3] ** -0.5 if scale is None else scale
        self.calls.append(Attention(query.detach(), key.detach(), value.detach(), output, scale))
        return output


UNSUPPORTED_ATTENTION = (
    "This needs a vision transformer whose tokens all attend to each other, by "
    "nn.MultiheadAttention or scaled_dot_product_attention without a mask; leave the method out "
    "for this network."
)


def probability_gradients(scores: Tensor, calls: list[Attention]) -> list[Tensor]:
    """Compute dS/dA = (dS/dO) V' of each attention.

    Args:
        scores: The scores S of the images, any shape, with an autograd graph.
        calls: The attentions that ran in the forward pass of these images.

    Returns:
        A tensor (B, heads, N, N) per attention, 0 if the scores don't depend on the attention.
    """
    outputs = [call.output for call in calls]
    gradients = torch.autograd.grad(scores.sum(), outputs, materialize_grads=True)
    # A trunk in bf16 has tensors of that type, and the scores' type is more precise.
    return [
        gradient.to(scores) @ call.value.to(scores).mT
        for gradient, call in zip(gradients, calls, strict=True)
    ]


def key_maps(trace: Trace, values: Tensor) -> Tensor:
    """Return the values of the patch tokens, the last ones, as maps of the trace's layer.

    Args:
        trace: The trace whose layer has maps of H x W positions.
        values: A value for each key, (B, N).

    Returns:
        The maps, (B, H, W).

    Raises:
        BenchError: If the network has fewer than H W tokens.
    """
    height, width = trace.activations.shape[2:]
    num_tokens = values.shape[1]
    if num_tokens < height * width:
        raise BenchError(
            f"The network's attentions have {num_tokens} tokens, and the layer "
            f"{trace.layer!r} {height}x{width} positions; choose a layer whose maps are the patch "
            "tokens."
        )
    grid: Tensor = values[:, num_tokens - height * width :].unflatten(1, (height, width))
    return grid
