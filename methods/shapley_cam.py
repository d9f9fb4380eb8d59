"""ShapleyCAM: Cai, CAMs as Shapley Value-based Explainers, 2025, arXiv:2501.06261."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.nonlinear import (
    MAX_POOLING,
    PIECEWISE_LINEAR,
    Arguments,
    Call,
    Keywords,
    NonlinearCalls,
    TorchFunction,
)


def shapley_cam(trace: Trace) -> Tensor:
    """w_k = mean(g_k - (H F)_k / 2), H the score's Hessian in F -> (B, K, 1, 1).

    This is the Shapley value of each activation under the score's second-order expansion, in
    closed form, averaged over x and y as in Grad-CAM. The utility is the logit; with
    `model.output=rest` it is the paper's other one, ReST, which adds the log-softmax. H F is the
    derivative of g along F.

    A head of linear layers, ReLUs and max pooling has H = 0. There the method equals Grad-CAM, and
    costs only one image's head pass for the whole network. Other heads cost one head pass, forward,
    backward and the gradient's gradient.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, 1, 1).
    """
    is_zero = trace.cut_model.once(
        "shapley_cam: H is 0", lambda: _hessian_product(trace[:1]) is None
    )
    product = None if is_zero else _hessian_product(trace)
    g = trace.gradients if product is None else trace.gradients - product / 2
    return g.mean(axes(g), keepdim=True)


class ConstantSlopes(NonlinearCalls):
    """Differentiate piecewise linear functions as linear ones, with the slope at their input.

    This saves a second derivative of zeros through the whole head, which torch lacks for
    hardsigmoid.
    """

    names = frozenset(PIECEWISE_LINEAR | MAX_POOLING)

    def other(self, func: TorchFunction, name: str, args: Arguments, kwargs: Keywords) -> object:
        """Return the result, without a pooling that changes nothing.

        torch takes the gradient of such a pooling for a function of its input.
        """
        output = func(*args, **kwargs)
        is_idle = name.startswith("adaptive_avg_pool") and output.shape == args[0].shape
        return args[0].view_as(output) if is_idle else output

    def replace_call(self, x: Tensor, call: Call) -> Tensor:
        """Return the output as a linear function of x."""
        if call.winners is not None:
            return x.flatten(2).gather(2, call.winners.flatten(2)).view_as(call.y)
        (slope,) = torch.autograd.grad(call.y.sum(), call.source)
        return call.y.detach() + slope * (x - call.x)


def _hessian_product(trace: Trace) -> Tensor | None:
    """Return H F, the Hessian of S in the activations times the activations: (B, K, H, W).

    Return None if torch finds no path from g to F. Then, apart from its slopes, the score is linear
    in F.
    """
    # Only the plain one of torch's attention kernels has a second derivative.
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        F = trace.activations.clone().requires_grad_()
        with ConstantSlopes():
            logits = trace.head(F)
        scores = logits.gather(1, trace.targets[:, None].clone())
        (g,) = torch.autograd.grad(scores.sum(), F, create_graph=True)
        if not g.requires_grad:
            return None
        (product,) = torch.autograd.grad(g, F, grad_outputs=F.detach(), allow_unused=True)
    return product
