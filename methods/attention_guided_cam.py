"""Attention-Guided CAM: Leem and Seo, AAAI 2024, arXiv:2402.04563.

Attention Guided CAM: Visual Explanations of Vision Transformer Guided by Self-Attention.
"""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    Attentions,
    attention_error,
    key_maps,
    probability_gradients,
)


def attention_guided_cam(trace: Trace) -> Map:
    """Sum over attentions of relu(dS/dA) sigmoid(Z), class token to patches -> (B, H, W).

    A = softmax(Z) are the attention probabilities, and the sum also runs over heads. The gradient
    runs through residual connections and the layers between attentions, and through no later
    attention. Costs one forward and backward pass.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), must be the patch tokens; only their
            size is used.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If the network has no class token, or if its attentions aren't all of the same
            tokens.
    """
    with torch.inference_mode(False), torch.enable_grad():
        with Attentions() as attentions:
            outputs = trace.forward(trace.images)
        calls = attentions.calls
        is_batched = all(len(call.output) == len(trace) for call in calls)
        if len(trace) > 1 and not is_batched:  # the network runs its images one by one
            maps = [attention_guided_cam(trace[row : row + 1]).raw for row in range(len(trace))]
            return Map(torch.cat(maps))
        if len({call.key.shape[2] for call in calls}) != 1:
            raise attention_error(trace)
        gradients = probability_gradients(outputs.gather(1, trace.targets[:, None].clone()), calls)
    class_token = 0  # its index among the queries
    terms = []
    for gradient, call in zip(gradients, calls, strict=True):
        positive = gradient[:, :, class_token].relu()
        attention = call.scores[:, :, class_token].sigmoid()
        terms.append((positive * attention).sum(1))
    values = sum(terms)
    patch_maps = key_maps(trace, values)
    if patch_maps[0].numel() == values.shape[1]:
        raise BenchError(
            "Attention-Guided CAM needs a class token: leave attention_guided_cam out for this "
            "network."
        )
    return Map(patch_maps)
