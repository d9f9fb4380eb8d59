"""Attention rollout: Abnar and Zuidema, ACL 2020, arXiv:2005.00928.

Quantifying Attention Flow in Transformers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    HEADS,
    check_choices,
    decoder_attentions,
    key_maps,
    query_rows,
    self_attentions,
    word_tokens,
)


def rollout(trace: Trace, heads: str = "mean", query: str = "class") -> Map:
    """Product over blocks of (A_l + I) / 2, from the class token to the patches -> (B, H, W).

    A_l are the attention probabilities of block l, averaged over heads, and the identity is
    the residual connection. The last block's matrix comes first. Each row of a factor is
    divided by its sum, which is 1 for the mean over heads. The map doesn't depend on the class.
    In a network that says words, the blocks are the decoder's, and the product goes from the token
    that predicts the word's last token to the image's tokens. Costs one forward pass.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), must be the patch tokens; only their
            size is used.
        heads: "mean", as in the paper, "max" or "min" over the heads.
        query: "class": the first token. "mean": the mean of all patches, for a network that pools
            them. A network of only patches always has "mean".

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If a parameter is unknown, or if the network's attentions aren't all of the same
            tokens.
    """
    check_choices("rollout", query, heads)

    def with_residual(probabilities: Tensor) -> Tensor:
        """Return the factor of one block, (B, N, N)."""
        attention = HEADS[heads](probabilities.to(trace.dtype), 1)
        identity = torch.eye(attention.shape[2]).to(attention)
        factor = (attention + identity) / 2
        return factor / factor.sum(2, keepdim=True)

    with torch.inference_mode(False), torch.enable_grad():
        tokens = word_tokens(trace)
        calls = self_attentions(trace) if tokens is None else decoder_attentions(trace, tokens)
        factors = [with_residual(call.probabilities) for call in calls]
        num_tokens = factors[0].shape[2]
        if tokens is None:
            row = query_rows(trace, num_tokens, query)
        else:
            row = tokens.start(num_tokens, factors[0])
        for factor in reversed(factors):
            row = row @ factor
        return Map(key_maps(trace, row[:, 0]) if tokens is None else tokens.maps(row[:, 0]))
