"""What the libraries compute where it isn't our formula, from a trace: raw maps (B, h, w) as their sources read.

Each was written from the library's source. Where its maps agree with the library's, nothing else differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

import axiom_bench as ab
from axiom_bench.cutting.numerics import XY
from axiom_bench.methods.finer_cam import nearest_classes
from axiom_bench.methods.full_grad import full_gradients
from axiom_bench.methods.guided import guided_gradient

Reading = Callable[[ab.Trace], Tensor]


def _weighted(trace: ab.Trace, weights: Tensor) -> Tensor:
    """sum_k w_k F_k of weights (B, K)."""
    return (weights[..., None, None] * trace.activations).sum(1)


def _scaled(maps: Tensor, epsilon: float) -> Tensor:
    """Min-max scaling over the last two dimensions, with the library's epsilon in the divisor."""
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (maps.amax((-2, -1), keepdim=True) + epsilon)


def _first_component(maps: Tensor) -> Tensor:
    """Centred maps (B, K, H, W) on their first right singular vector, with the sign that numpy's SVD returns."""
    matrices = maps.flatten(2).mT
    matrices = matrices - matrices.mean(1, keepdim=True)
    vectors = [np.linalg.svd(matrix.numpy(), full_matrices=True)[2][0] for matrix in matrices]
    return torch.einsum("bnk,bk->bn", matrices, torch.from_numpy(np.stack(vectors))).unflatten(1, maps.shape[2:])


def eigen_cam(trace: ab.Trace) -> Tensor:
    """grad-cam: F centred, the sign as the SVD returns it."""
    return _first_component(trace.activations)


def eigen_grad_cam(trace: ab.Trace) -> Tensor:
    """grad-cam: g F centred, the sign as the SVD returns it."""
    return _first_component(trace.gradients * trace.activations)


def seg_eigen_cam(trace: ab.Trace) -> Tensor:
    """grad-cam: |g| F centred, turned where its minimum is further from 0 than its maximum."""
    maps = _first_component(trace.gradients.abs() * trace.activations)
    turned = maps.amin((1, 2), keepdim=True).abs() > maps.amax((1, 2), keepdim=True).abs()
    return torch.where(turned, -maps, maps)


def kpca_cam(trace: ab.Trace) -> Tensor:
    """grad-cam, by scikit-learn: our map with its entry of largest absolute value positive."""
    maps = ab.methods.get("kpca_cam")(trace).raw
    largest = maps.flatten(1).gather(1, maps.flatten(1).abs().argmax(1, keepdim=True))
    return maps * largest.sign()[..., None]


def fem(trace: ab.Trace) -> Tensor:
    """grad-cam: w_k is the share of positions where F_k > mean + 2 deviations."""
    F = trace.activations
    threshold = F.mean(XY, keepdim=True) + 2 * F.std(XY, correction=0, keepdim=True)
    return _weighted(trace, (threshold < F).to(F).mean(XY))


def finer_cam(trace: ab.Trace) -> Tensor:
    """grad-cam: Grad-CAM of sum_d p_d (S_c - S_d) / sum_d p_d, p the classes' softmax, differentiated too."""
    references = nearest_classes(trace, 3)
    with torch.enable_grad():
        F = trace.activations.clone().requires_grad_()
        logits = trace.head(F)
        share = logits.softmax(1).gather(1, references)
        difference = logits.gather(1, trace.targets[:, None]) - logits.gather(1, references)
        compared = (share * difference).sum(1) / (share.sum(1) + 1e-9)
        (gradient,) = torch.autograd.grad(compared.sum(), F)
    return _weighted(trace, gradient.mean(XY))


def full_grad(trace: ab.Trace) -> Tensor:
    """grad-cam: every channel scaled to [0, 1] on its own."""
    size = trace.images.shape[-2:]

    def saliency(term: Tensor) -> Tensor:
        if term.ndim != 4:
            return term.new_zeros(len(term), *size)
        scaled = _scaled(term.abs(), 1e-7)
        return functional.interpolate(scaled, size, mode="bilinear", align_corners=False).sum(1)

    return full_gradients(trace, saliency)


def grad_cam_pp(trace: ab.Trace) -> Tensor:
    """grad-cam: 1e-6 in alpha's denominator."""
    F, g = trace.activations, trace.gradients
    alpha = g**2 / (2 * g**2 + g**3 * F.sum(XY, keepdim=True) + 1e-6)
    return _weighted(trace, (g.relu() * alpha).sum(XY))


def undivided_grad_cam_pp(trace: ab.Trace) -> Tensor:
    """torchcam: alpha is g^2, not divided."""
    g = trace.gradients
    return _weighted(trace, (g**2 * g.relu()).sum(XY))


def smooth_grad_cam_pp(trace: ab.Trace) -> Tensor:
    """torchcam, without noise: the denominator is 2 g^2 + sum(g^3 F)."""
    F, g = trace.activations, trace.gradients
    alpha = g**2 / (2 * g**2 + (g**3 * F).sum(XY, keepdim=True) + 1e-8)
    return _weighted(trace, (alpha * g.relu()).sum(XY))


def guided_grad_cam(trace: ab.Trace) -> Tensor:
    """captum: Grad-CAM's map enlarged without interpolation."""
    raw = _weighted(trace, trace.gradients.mean(XY)).relu()
    nearest = functional.interpolate(raw[:, None], trace.images.shape[-2:], mode="nearest")[:, 0]
    return guided_gradient(trace).abs().sum(1) * nearest


@torch.no_grad()
def _masked_softmax(trace: ab.Trace, masks: Callable[[Tensor], Tensor], factors: Sequence[float] = (1.0,)) -> Tensor:
    """Softmax over channels of the mean score of factor * image * mask: (B, K)."""
    rows = []
    for image, activations, target in zip(trace.images, trace.activations, trace.targets, strict=True):
        masked = image * masks(activations)[:, None]
        rows.append(torch.stack([trace.forward(factor * masked)[:, target] for factor in factors]).mean(0).softmax(0))
    return torch.stack(rows)


def _resized(trace: ab.Trace, maps: Tensor, align_corners: bool) -> Tensor:
    size = trace.images.shape[-2:]
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=align_corners)[:, 0]


def aligned_score_cam(trace: ab.Trace) -> Tensor:
    """grad-cam: masks resized with align_corners=True; a constant channel is a mask of zeros, not skipped."""
    return _weighted(trace, _masked_softmax(trace, lambda maps: _scaled(_resized(trace, maps, True), 1e-8)))


def scaled_first_score_cam(trace: ab.Trace) -> Tensor:
    """torchcam: masks scaled to [0, 1] before they are resized; a constant channel is a mask of zeros, not skipped."""
    return _weighted(trace, _masked_softmax(trace, lambda maps: _resized(trace, _scaled(maps, 1e-8), False)))


def is_cam(trace: ab.Trace) -> Tensor:
    """torchcam, 2 steps: factors 1/2 and 1/2 + 2/2 of the mask, which is scaled before it is resized."""
    weights = _masked_softmax(trace, lambda maps: _resized(trace, _scaled(maps, 1e-8), False), factors=(0.5, 1.5))
    return _weighted(trace, weights)


READINGS: dict[str, Reading] = {
    "eigen_cam@pytorch_grad_cam": eigen_cam,
    "eigen_grad_cam@pytorch_grad_cam": eigen_grad_cam,
    "seg_eigen_cam@pytorch_grad_cam": seg_eigen_cam,
    "kpca_cam@pytorch_grad_cam": kpca_cam,
    "fem@pytorch_grad_cam": fem,
    "finer_cam@pytorch_grad_cam": finer_cam,
    "full_grad@pytorch_grad_cam": full_grad,
    "grad_cam_pp@pytorch_grad_cam": grad_cam_pp,
    "grad_cam_pp@torchcam": undivided_grad_cam_pp,
    "smooth_grad_cam_pp@torchcam": smooth_grad_cam_pp,
    "guided_grad_cam@captum": guided_grad_cam,
    "score_cam@pytorch_grad_cam": aligned_score_cam,
    "score_cam@torchcam": scaled_first_score_cam,
    "ss_cam@torchcam": scaled_first_score_cam,
    "is_cam@torchcam": is_cam,
}
