"""Attention-Guided CAM: Leem and Seo, Visual Explanations of Vision Transformer, AAAI 2024,
arXiv:2402.04563.
"""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    REFUSED,
    Attentions,
    maps_of_keys,
    probability_gradients,
)


def attention_guided_cam(trace: Trace) -> Map:
    """sum over attentions and heads of relu(dS/dA) sigmoid(Z), from the class token to each patch
    -> (B, H, W).

    A = softmax(Z): the attention probabilities. The gradient runs through residual connections and
    the layers between attentions, and through no later attention. (H, W): of the trace's layer,
    whose maps are the patch tokens and aren't used otherwise. Costs one forward and backward pass.
    Raises BenchError for a network without a class token, and for one whose attentions aren't all
    of the same tokens.
    """
    with torch.inference_mode(False), torch.enable_grad():
        with Attentions() as attentions:
            outputs = trace.forward(trace.images)
        calls = attentions.calls
        if len(trace) > 1 and any(
            len(each.output) != len(trace) for each in calls
        ):  # its images run one by one
            return Map(
                torch.cat([attention_guided_cam(trace[i : i + 1]).raw for i in range(len(trace))])
            )
        if len({each.key.shape[2] for each in calls}) != 1:
            raise BenchError(REFUSED)
        gradients = probability_gradients(outputs.gather(1, trace.targets[:, None].clone()), calls)
    positive = (gradient[:, :, 0].relu() for gradient in gradients)
    values = sum(
        (g * each.scores[:, :, 0].sigmoid()).sum(1) for g, each in zip(positive, calls, strict=True)
    )
    maps = maps_of_keys(trace, values)
    if maps[0].numel() == values.shape[1]:
        raise BenchError(
            "Attention-Guided CAM needs a class token: leave attention_guided_cam out for this "
            "network."
        )
    return Map(maps)
