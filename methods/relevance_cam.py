"""Relevance-CAM: Lee et al., Your Model Already Knows Where to Look, CVPR 2021."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.relevance import RelevanceRules, ratio

NO_RULE = (
    "Relevance-CAM has no rule for {name!r}, which the head calls; choose a layer behind it, or "
    "leave relevance_cam out."
)


def relevance_cam(trace: Trace) -> Tensor:
    """w_k = sum_xy R_k, R_k the relevance that propagation brings to map k -> (B, K, 1, 1).

    The propagation is layer-wise and contrastive; see `relevances` for the rules. The explained
    class starts with relevance 1, and each of the N - 1 others with -1 / (N - 1), so that
    relevance common to all classes cancels. (In the authors' code the others start with -1 / 1000,
    the convolution rule counts the bias twice and the batch norm squares the variance.) Costs one
    head pass, forward and backward.

    Args:
        trace: The traced batch, with logits (B, N).

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the head has an operation without a rule.
    """
    logits = trace.logits
    other_relevance = -1 / max(logits.shape[1] - 1, 1)
    start = torch.full_like(logits, other_relevance).scatter(1, trace.targets[:, None], 1)
    return relevances(trace, start).sum(axes(trace.activations), keepdim=True)


def relevances(trace: Trace, start: Tensor) -> Tensor:
    """Return the relevance at the layer, given the relevance at the logits.

    Linear layers and convolutions have the z+ rule,
    R_j = sum_i (x_j w_ji)+ / sum_j' (x_j' w_j'i)+ R_i. It keeps the total as long as each unit with
    relevance has a positive input. Batch norms and activation functions pass relevance on unit by
    unit. Pooling and sums divide it in proportion to each input's contribution.

    Args:
        trace: The traced batch.
        start: The relevance at the logits, (B, N).

    Returns:
        The relevance R, (B, K, H, W).

    Raises:
        BenchError: If the head has an operation without a rule.
    """
    with torch.inference_mode(False), torch.enable_grad():
        F = trace.activations.clone().requires_grad_()
        with RelevanceRules(NO_RULE):
            logits = trace.head(F)
        seeds = ratio(start.to(logits), logits.detach())
        (gradient,) = torch.autograd.grad(logits, F, seeds)
    return gradient * F.detach()
