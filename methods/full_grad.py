"""FullGrad: Srinivas and Fleuret, Full-Gradient Representation, NeurIPS 2019, arXiv:1905.00780."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import RESIZING, axes, over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.nonlinear import Interceptor, of_layers

Reduction = Callable[[Tensor], Tensor]


def full_grad(trace: Trace, align_corners: bool = False) -> Map:
    """psi(x dS/dx) + sum over layers with H x W maps of psi(b dS/dz), each summed over channels ->
    (B, H', W').

    x: the image. b: a layer's bias, z: its output; see `full_gradients`. psi: absolute value,
    min-max scaling to [0, 1], bilinear resize to the image, in the authors' code with
    align_corners=True. As there each layer is scaled as a whole, and linear layers, which have no
    position in the image, are left out. (pytorch-grad-cam scales each channel, which makes a
    channel without influence equal to the strongest.) The trace's layer isn't used. Costs one
    forward and backward pass. Raises BenchError for a transformer, whose linear layers act on
    tokens.
    """
    size, mode = tuple(trace.images.shape[2:]), RESIZING[trace.dimensions]

    def saliency(term: Tensor) -> Tensor:
        """A term -> (B, H', W'). The resize is linear, so it may follow the sum over channels."""
        if term.ndim != trace.images.ndim:
            return term.new_zeros(len(term), *size)
        layer = _min_max(term.abs()).sum(1, keepdim=True)
        return functional.interpolate(layer, size, mode=mode, align_corners=align_corners)[:, 0]

    return Map(full_gradients(trace, saliency))


def full_gradients(trace: Trace, reduce: Reduction) -> Tensor:
    """reduce(x dS/dx) + sum over layers of reduce(b dS/dz), the paper's equation 3 where reduce
    sums -> (B, ...).

    reduce: term, (B, C, h, w) or for a linear layer (B, n) -> (B, ...), called during the backward
    pass, so that no term is kept. Layers are convolutions, linear layers, batch norms, whose bias
    is beta - gamma mean / sqrt(variance + eps), and ReLU6, whose implicit bias is 6 where it clips.
    Where all other operations are piecewise linear through 0 (ReLU, pooling, sums) the terms add up
    to S. Implicit biases of smooth activation functions are left out.
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = trace.images.clone().requires_grad_()
        with BiasedLayers(reduce) as layers:
            logits = trace.forward(
                images.clone()
            )  # a copy: the network may start with an in-place operation
        if len(trace) > 1 and layers.batches - {len(trace)}:  # the model runs its images one by one
            return torch.cat([full_gradients(trace[i : i + 1], reduce) for i in range(len(trace))])
        scores = logits.gather(1, trace.targets[:, None].clone())
        (gradient,) = torch.autograd.grad(scores.sum(), images)
    return sum(layers.terms, reduce((images * gradient).detach()))


class BiasedLayers(Interceptor):
    """While active, the backward pass appends reduce(b dS/dz) to `terms` for every layer with bias
    b and output z.
    """

    def __init__(self, reduce: Reduction) -> None:
        super().__init__()
        self.reduce = reduce
        self.terms: list[Tensor] = []
        self.batches: set[int] = set()

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The call's output, with a hook on its gradient where the layer has a bias."""
        output = func(*args, **kwargs)
        if func in BIASES and output.requires_grad:
            bias = BIASES[func](output.detach(), *args, **kwargs)
            if bias is not None:
                self.batches.add(len(output))
                # A hook on the tensor z gets dS/dz also where an in-place operation follows.
                output.register_hook(lambda gradient: self._append(bias, gradient))
        return output

    def _append(self, bias: Tensor, gradient: Tensor) -> None:
        term = bias * gradient
        self.terms.append(self.reduce(term if bias.ndim > 1 else term.flatten(1)))


def _convolution(
    z: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any
) -> Tensor | None:
    return None if bias is None else over_space(bias, z)


def _linear(z: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if z.ndim != 2:
        raise BenchError(
            "FullGrad has no rule for linear layers over tokens or positions; leave full_grad out "
            "here."
        )
    return bias


def _clipped(
    z: Tensor, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor | None:
    return z.where((z == min_val) | (z == max_val), 0)


def _relu6(z: Tensor, input: Tensor, inplace: bool = False) -> Tensor | None:
    return _clipped(z, input, 0, 6)


def _batch_norm(
    z: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if (
        training or running_mean is None or running_var is None
    ):  # batch statistics: not linear in the input
        return None
    shift = running_mean / (running_var + eps).sqrt()
    shift = shift if weight is None else shift * weight
    return over_space(-shift if bias is None else bias - shift, z)


# Function -> its bias from its output z and its arguments, in a shape that broadcasts to z.
BIASES: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    **{getattr(functional, name): _convolution for name in of_layers("conv", "conv_transpose")},
    functional.linear: _linear,
    functional.batch_norm: _batch_norm,
    functional.hardtanh: _clipped,
    functional.relu6: _relu6,
}


def _min_max(term: Tensor) -> Tensor:
    """Min-max scaling of each image of (B, C, h, w) to [0, 1]; a constant one becomes 0."""
    of_each = axes(term, 1)
    shifted = term - term.amin(of_each, keepdim=True)
    largest = shifted.amax(of_each, keepdim=True)
    return shifted / largest.where(largest > 0, 1)
