"""KPCA-CAM: Karmani et al., 2024, arXiv:2410.00267.

KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.eigen_cam import leading_vector

# At this number the kernel matrix takes 128 MiB per image, and its eigenvectors many seconds.
MAX_POSITIONS = 4096


def kpca_cam(trace: Trace, kernel: str = "sigmoid", gamma: float | None = None) -> Map:
    """sqrt(lambda) u, the first kernel principal component of the positions -> (B, H, W).

    lambda and u are the largest eigenvalue and its unit eigenvector of the H W x H W kernel matrix
    of the K-vectors at the positions, centred in feature space. Kernels and defaults are those of
    the authors' code (in pytorch-grad-cam, by scikit-learn), which also centres each channel
    first: the sigmoid and the polynomial kernel depend on it. The sign, undefined in that code,
    makes the map correlate positively with sum_k F_k. The linear kernel gives centred Eigen-CAM.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).
        kernel: "sigmoid" tanh(gamma x.y + 1), "rbf" exp(-gamma |x - y|^2), "polynomial"
            (gamma x.y + 1)^3, or "linear" x.y.
        gamma: The kernel's factor. None: 1 / K.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If the kernel is unknown, or if the layer has more than 4096 positions.
    """
    F = trace.activations
    K, *space = F.shape[1:]
    if kernel not in KERNELS:
        raise invalid_choice("kernel of KPCA-CAM", kernel, KERNELS)
    if prod(space) > MAX_POSITIONS:
        raise BenchError(
            f"KPCA-CAM needs a kernel matrix over all {' x '.join(map(str, space))} positions of "
            f"{trace.layer!r}; choose a layer of at most {MAX_POSITIONS}."
        )
    x = F.double().flatten(2).mT  # (B, H W, K)
    x = x - x.mean(1, keepdim=True)
    similarity = _centred(KERNELS[kernel](x, 1 / K if gamma is None else gamma))
    u = leading_vector(similarity, x.sum(2))
    variance = torch.einsum("bi,bij,bj->b", u, similarity, u).clamp(min=0)
    return Map((variance.sqrt()[:, None] * u).to(F).unflatten(1, space))


def _sigmoid(x: Tensor, gamma: float) -> Tensor:
    return (gamma * (x @ x.mT) + 1).tanh()


def _rbf(x: Tensor, gamma: float) -> Tensor:
    products = x @ x.mT
    squares = products.diagonal(dim1=1, dim2=2)
    distances = (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0)
    return (-gamma * distances).exp()


def _polynomial(x: Tensor, gamma: float) -> Tensor:
    return (gamma * (x @ x.mT) + 1) ** 3


def _linear(x: Tensor, gamma: float) -> Tensor:
    return x @ x.mT


KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": _sigmoid,
    "rbf": _rbf,
    "polynomial": _polynomial,
    "linear": _linear,
}


def _centred(similarity: Tensor) -> Tensor:
    """Return the kernel matrix of the feature vectors minus their mean: (B, n, n)."""
    rows = similarity.mean(2, keepdim=True)
    return similarity - rows - rows.mT + rows.mean(1, keepdim=True)
