"""FullGrad: Srinivas and Fleuret, NeurIPS 2019, arXiv:1905.00780.

Full-Gradient Representation for Neural Network Visualization.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import RESIZING, axes, over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
    functions_of_all_dimensions,
)

Reduction = Callable[[Tensor], Tensor]


def full_grad(trace: Trace, align_corners: bool = False) -> Map:
    """psi(x dS/dx) + sum over layers of psi(b dS/dz), each summed over channels -> (B, H', W').

    x is the image, b a layer's bias and z its output; see `full_gradients`. psi takes the absolute
    value, scales it to [0, 1] by min-max, and resizes it bilinearly to the image. As in the
    authors' code each layer is scaled as a whole, and linear layers, which have no position in the
    image, are left out. (pytorch-grad-cam scales each channel, which makes a channel without
    influence equal to the strongest.) The trace's layer isn't used. Costs one forward and backward
    pass.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        align_corners: Resize with aligned corners, as in the authors' code.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the network is a transformer, whose linear layers act on tokens.
    """
    size = tuple(trace.images.shape[2:])
    mode = RESIZING[trace.dimensions]

    def saliency(term: Tensor) -> Tensor:
        """Return psi of a term, summed over channels: (B, H', W')."""
        if term.ndim != trace.images.ndim:
            return term.new_zeros(len(term), *size)
        # The resize is linear, so it may follow the sum over channels.
        layer_map = _min_max(term.abs()).sum(1, keepdim=True)
        return functional.interpolate(layer_map, size, mode=mode, align_corners=align_corners)[:, 0]

    return Map(full_gradients(trace, saliency))


def full_gradients(trace: Trace, reduce: Reduction) -> Tensor:
    """Return reduce(x dS/dx) + sum over layers of reduce(b dS/dz).

    If `reduce` sums, this is the paper's equation 3. Layers are convolutions, linear layers, batch
    norms and ReLU6. A batch norm's bias is beta - gamma mean / sqrt(variance + eps), and the
    implicit bias of a ReLU6 is 6 where it clips. If all other operations are piecewise linear
    through 0 (ReLU, pooling, sums), the terms add up to S. Implicit biases of smooth activation
    functions are left out.

    Args:
        trace: The traced batch, with images x (B, 3, H', W').
        reduce: Maps a term, (B, C, h, w) or for a linear layer (B, n), to (B, ...). It is called
            during the backward pass, so that no term is kept.

    Returns:
        The sum, (B, ...).
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = trace.images.clone().requires_grad_()
        with BiasedLayers(reduce) as layers:
            # a copy: the network may start with an in-place operation
            logits = trace.forward(images.clone())
        if len(trace) > 1 and layers.batches - {len(trace)}:  # the model runs its images one by one
            rows = [trace[row : row + 1] for row in range(len(trace))]
            return torch.cat([full_gradients(row_trace, reduce) for row_trace in rows])
        scores = logits.gather(1, trace.targets[:, None].clone())
        (gradient,) = torch.autograd.grad(scores.sum(), images)
    return sum(layers.terms, reduce((images * gradient).detach()))


class BiasedLayers(Interceptor):
    """Append reduce(b dS/dz) to `terms` for every layer with bias b and output z.

    While active, hooks on the layers' outputs compute the terms in the backward pass. `batches`
    contains the batch sizes of the layers that ran.
    """

    def __init__(self, reduce: Reduction) -> None:
        super().__init__()
        self.reduce = reduce
        self.terms: list[Tensor] = []
        self.batches: set[int] = set()

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with a hook on its gradient if the layer has a bias."""
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
    z: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: object, **__: object
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
    if training or running_mean is None or running_var is None:
        return None  # with batch statistics the layer isn't linear in its input
    shift = running_mean / (running_var + eps).sqrt()
    shift = shift if weight is None else shift * weight
    return over_space(-shift if bias is None else bias - shift, z)


CONVOLUTIONS = [
    getattr(functional, name) for name in functions_of_all_dimensions("conv", "conv_transpose")
]
# Each function returns a layer's bias from its output z and its arguments, in a shape that
# broadcasts to z.
BIASES: dict[TorchFunction, Callable[..., Tensor | None]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    functional.linear: _linear,
    functional.batch_norm: _batch_norm,
    functional.hardtanh: _clipped,
    functional.relu6: _relu6,
}


def _min_max(term: Tensor) -> Tensor:
    """Scale each image of (B, C, h, w) to [0, 1] by min-max; a constant one becomes 0."""
    dims = axes(term, 1)
    shifted = term - term.amin(dims, keepdim=True)
    largest = shifted.amax(dims, keepdim=True)
    return shifted / largest.where(largest > 0, 1)
