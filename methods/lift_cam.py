"""LIFT-CAM: Jung and Oh, ICCV 2021, arXiv:2102.05228.

Towards Better Explanations of Class Activation Mapping. The weights are attributions by DeepLIFT
with the Rescale rule: Shrikumar et al., Learning Important Features, ICML 2017, arXiv:1704.02685.

The head runs twice, at the baseline and at the activations. In the second run the derivative of
each nonlinear call is replaced by a ratio: the difference of its outputs between the two runs,
divided by the difference of its inputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.nonlinear import (
    MAX_POOLING,
    PIECEWISE_LINEAR,
    SMOOTH,
    Arguments,
    Call,
    Keywords,
    NonlinearCalls,
    TorchFunction,
    differentiable,
    functions_of_all_dimensions,
)

# Linear in all of their tensors together.
SUMS = {"add", "radd", "iadd", "sub", "rsub", "isub", "cat", "concat", "concatenate", "stack"}
# Linear in one of their tensors, if the others don't depend on the activations.
LINEAR = {
    *functions_of_all_dimensions("conv", "conv_transpose", "avg_pool", "adaptive_avg_pool"),
    *functions_of_all_dimensions("dropout"),
    "linear", "batch_norm", "dropout", "alpha_dropout", "feature_alpha_dropout",
    "mul", "rmul", "imul", "matmul", "mm", "bmm", "neg", "mean", "sum",
    "interpolate", "upsample", "pad",
    "flatten", "unflatten", "view", "view_as", "reshape", "squeeze", "unsqueeze",
    "permute", "transpose", "t", "movedim", "swapaxes",
    "expand", "expand_as", "repeat", "roll", "flip",
    "getitem", "get", "chunk", "split", "unbind", "narrow", "select", "index_select",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "clone", "contiguous", "to", "type", "type_as", "float", "double", "half", "bfloat16",
}  # fmt: skip
QUOTIENTS = {"div", "truediv", "true_divide", "divide", "itruediv"}


def lift_cam(trace: Trace) -> Tensor:
    """w_k = sum of DeepLIFT's attributions of F_k, with all maps zero as baseline -> (B, K, 1, 1).

    The weight estimates map k's Shapley value if players are maps: sum_k w_k = S(F) - S(0).
    As published, a weight, itself a part of the score, multiplies F_k once more. Costs two head
    passes forward and one backward, or only one forward if the baseline's run is cached.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the head has an operation without a DeepLIFT rule.
    """
    return attributions(trace).sum(axes(trace.activations), keepdim=True)


class Baseline(NonlinearCalls):
    """Record every nonlinear call whose input depends on the activations, while active.

    A call that is neither linear nor has a rule raises BenchError.
    """

    names = frozenset(PIECEWISE_LINEAR | SMOOTH | MAX_POOLING)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def other(self, func: TorchFunction, name: str, args: Arguments, kwargs: Keywords) -> object:
        """Return the result of a call that must be linear in the activations."""
        is_linear = _is_linear(name, args, kwargs)  # before the call, which may work in place
        output = func(*args, **kwargs)
        if differentiable(output) and not is_linear:
            raise BenchError(
                f"DeepLIFT has no rule for {name!r}, which the head calls: leave lift_cam out."
            )
        return output

    def replace_call(self, x: Tensor, call: Call) -> Tensor:
        """Return the call's output, with its own gradient."""
        # without the autograd graph, which would take memory
        self.calls.append(replace(call, source=call.x, y=call.y.detach().clone()))
        return call.y


class Rescale(Baseline):
    """Give nonlinear calls the gradient of the Rescale rule, relative to the baseline's run."""

    def __init__(self, baseline: Sequence[Call]) -> None:
        super().__init__()
        self.baseline: Iterator[Call] = iter(baseline)

    def replace_call(self, x: Tensor, call: Call) -> Tensor:
        """Return the call's output, with the rule's gradient in x.

        Raises:
            BenchError: If the two runs make different calls.
        """
        reference = next(self.baseline, None)
        if reference is None or reference.name != call.name or reference.y.shape != call.y.shape:
            raise BenchError(
                "The head makes other calls for activations of zero, DeepLIFT's baseline, than for "
                "the image, so their layers can't be compared; leave lift_cam out."
            )
        if call.winners is None:
            return _rescaled(x, call, reference)
        return _max_pooled(x, call, reference)


def attributions(trace: Trace) -> Tensor:
    """Return DeepLIFT's attribution of each activation; they add up to S(F) - S(0).

    Args:
        trace: The traced batch, with activations F (B, K, H, W).

    Returns:
        The attributions, (B, K, H, W).

    Raises:
        BenchError: If the head has an operation that is neither linear in the activations, nor
            elementwise, nor max pooling.
    """
    with torch.inference_mode(False), torch.enable_grad():
        F = trace.activations.clone().requires_grad_()
        with Rescale(_baseline(trace)):
            logits = trace.head(F)
        scores = logits.gather(1, trace.targets[:, None].clone())
        (multipliers,) = torch.autograd.grad(scores.sum(), F)
    return multipliers * trace.activations


def _baseline(trace: Trace) -> list[Call]:
    """Return the nonlinear calls of the head's run on maps of zeros, cached if possible."""
    F = trace.activations
    network = trace.network
    model = trace.cut_model.model

    def run() -> list[Call]:
        zeros = torch.zeros_like(F).requires_grad_()
        with Baseline() as baseline:
            trace.head(zeros)
        calls: list[Call] = baseline.calls
        return calls

    # If only the maps cross the cut, the run is the same for all batches of a size. The cut model
    # caches the last one until somebody writes to its weights.
    weights = [*model.parameters(), *model.buffers()]
    depends_on_images = any(isinstance(side, Tensor) for side in pytree.tree_leaves(network.sides))
    has_no_versions = any(weight.is_inference() for weight in weights)
    if depends_on_images or network.head_values is None or has_no_versions:
        return run()
    cache: dict[Hashable, list[Call]] = trace.cut_model.once("lift_cam: baseline", dict)
    key = (F.shape, F.dtype, F.device, *(weight._version for weight in weights))
    if key not in cache:
        cache.clear()
        cache[key] = run()
    return cache[key]


def _rescaled(x: Tensor, call: Call, reference: Call) -> Tensor:
    """Return y, with the gradient (y - y0) / (x - x0), or the derivative if x is almost x0."""
    change = call.x - reference.x
    # If x and x0 are within sqrt(eps), derivative and ratio differ by no more than the rounding
    # of the ratio.
    threshold = torch.finfo(x.dtype).eps ** 0.5 * torch.maximum(call.x.abs(), reference.x.abs())
    is_same = change.abs() <= threshold
    ratio = (call.y.detach() - reference.y) / change.masked_fill(is_same, 1)
    return torch.where(is_same, call.y, call.y.detach() + ratio * (x - call.x))


def _max_pooled(x: Tensor, call: Call, reference: Call) -> Tensor:
    """Return y, with the gradient of a max pooling in the Rescale rule.

    A rise over y0 is attributed to the maximum's position, and a fall below y0 to the position of
    the baseline's maximum.
    """
    assert call.winners is not None
    assert reference.winners is not None
    y = call.y.detach()
    highest = torch.maximum(call.y.detach(), reference.y)
    moved = (x - call.x).flatten(2)
    change = (call.x - reference.x).flatten(2)
    for part, winners in ((highest - reference.y, call.winners), (y - highest, reference.winners)):
        positions = winners.flatten(2)
        ratio = part.flatten(2) / change.gather(2, positions).masked_fill(part.flatten(2) == 0, 1)
        y = y + (ratio * moved.gather(2, positions)).view_as(part)
    return y


def _is_linear(name: str, args: Arguments, kwargs: Keywords) -> bool:
    if name == "batch_norm" and kwargs.get("training"):
        return False
    if name in QUOTIENTS:
        return not differentiable(args[1:])
    num_differentiable = sum(
        differentiable(value) for value in pytree.tree_leaves((args, dict(kwargs)))
    )
    return name in SUMS or (name in LINEAR and num_differentiable <= 1)
