"""Contributions that are known by construction: a network may tell its own.

Any nn.Module may have the method

    true_contributions(activations (B, K, H, W), targets (B,)) -> (B, K, H, W)

the exact contribution of every channel and position of the target layer to the logit of its row's class, and, where
they hold at one layer only, the attribute `truth_layer` with that layer's dotted name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from axiom_bench.cutting.precision import arithmetic
from axiom_bench.errors import BenchError, type_name


@torch.inference_mode(False)
@torch.no_grad()
def true_contributions(model: nn.Module, layer: str, activations: Tensor, targets: Tensor) -> Tensor | None:
    """What the model's method of this name gives, (B, K, H, W) in the activations' type; None where it has none.

    None too where the model's `truth_layer` is another layer. The method gets copies, and runs without TF32 and
    autocast. Raises BenchError for anything but a tensor of the activations' shape.
    """
    method = getattr(model, "true_contributions", None)
    if not callable(method) or getattr(model, "truth_layer", layer) != layer:
        return None
    with arithmetic("fp32", activations.device):
        truth = method(activations.clone(), targets.clone())
    if not isinstance(truth, Tensor) or truth.shape != activations.shape or not truth.is_floating_point():
        given = f"{truth.dtype} {tuple(truth.shape)}" if isinstance(truth, Tensor) else type_name(truth)
        raise BenchError(
            f"{type(model).__name__}.true_contributions must return a floating-point tensor of the activations' shape "
            f"{tuple(activations.shape)} at the layer {layer!r}, not {given}; where it holds at another layer, name "
            "that one in the attribute truth_layer."
        )
    return truth.to(activations)
