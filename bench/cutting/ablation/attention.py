"""Attention over tokens of which each ablation changes one feature, as the first layer of a head.

With d_j the change of feature c in token j, its key moves by W_k[:, c] d_j and its value by W_v[:, c] d_j. So a query's
logits move by (q . W_k[:, c]) d_j / sqrt(e), e the width of an attention head, and its output by
sum_j (p'_j - p_j) v_j + (sum_j p'_j d_j) W_v[:, c], where p and p' are the weights before and after: no row needs a
product of all its tokens with W_k or W_v.
"""

from __future__ import annotations

import math

from torch import Tensor, fx, nn
from torch.nn.functional import linear


def is_plain(node: fx.Node, layer: nn.MultiheadAttention) -> bool:
    """Whether a call is attention of a query over tokens that are keys and values, with no mask and nothing added."""
    if dict(node.kwargs) != {"need_weights": False} or len(node.args) != 3 or node.args[1] is not node.args[2]:
        return False
    return layer.batch_first and layer.in_proj_weight is not None and layer.bias_k is None and not layer.add_zero_attn


def attention_difference(
    layer: nn.MultiheadAttention, query: Tensor, tokens: Tensor, change: Tensor, features: Tensor
) -> Tensor:
    """How each row's output changes: (n, L, K).

    query: (1, L, K), and tokens: (1, N, K), keys and values, before the change. change: (n, N), of the feature that
    `features`, (n,), names for each row.
    """
    of_query, of_keys, of_values = layer.in_proj_weight.chunk(3)
    biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    heads = layer.num_heads

    def by_head(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(0, 1)  # (L, K) -> (heads, L, e)

    q = by_head(linear(query[0], of_query, biases[0])) / math.sqrt(layer.head_dim)
    k, v = by_head(linear(tokens[0], of_keys, biases[1])), by_head(linear(tokens[0], of_values, biases[2]))
    key_steps, value_steps = (weight.t()[features].unflatten(1, (heads, -1)) for weight in (of_keys, of_values))
    slopes = (q.transpose(0, 1) * key_steps[:, None]).sum(-1).transpose(1, 2)[..., None]  # (n, heads, L, 1)
    steps = change[:, None, None]  # (n, 1, 1, N)
    logits = q @ k.mT
    before, after = logits.softmax(-1), (logits + slopes * steps).softmax(-1)
    moved = (after - before) @ v + (after * steps).sum(-1, keepdim=True) * value_steps[:, :, None]
    return linear(moved.transpose(1, 2).flatten(2), layer.out_proj.weight)
