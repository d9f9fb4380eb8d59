"""Raw attention: the attention of a vision transformer's class token to the patches.

Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021,
arXiv:2104.14294, show such maps.
"""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    HEADS,
    check_choices,
    chosen_block,
    decoder_attentions,
    key_maps,
    query_rows,
    self_attentions,
    word_tokens,
)


def raw_attention(trace: Trace, block: int = -1, heads: str = "mean", query: str = "class") -> Map:
    """Mean over heads of A_l, class token to patches, A_l the last attention -> (B, H, W).

    The map doesn't depend on the class. In a network that says words, A_l is the decoder's last
    attention, from the token that predicts the word's last token to the image's tokens. Costs one
    forward pass.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), must be the patch tokens; only their
            size is used.
        block: The index l of the attention: 0 is the first one, -1 the last.
        heads: "mean", "max" or "min" over the heads.
        query: "class": the first token. "mean": the mean of all patches, for a network that pools
            them. A network of only patches always has "mean".

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If a parameter is unknown, or if the network's attentions aren't all of
            the same tokens.
    """
    check_choices("raw attention", query, heads)
    with torch.inference_mode(False), torch.enable_grad():
        tokens = word_tokens(trace)
        calls = self_attentions(trace) if tokens is None else decoder_attentions(trace, tokens)
        probabilities = chosen_block(calls, block).probabilities.to(trace.dtype)
        matrix = HEADS[heads](probabilities, 1)
        if tokens is not None:
            row = tokens.start(matrix.shape[2], matrix) @ matrix
            return Map(tokens.maps(row[:, 0]))
        row = query_rows(trace, matrix.shape[2], query) @ matrix
        return Map(key_maps(trace, row[:, 0]))
