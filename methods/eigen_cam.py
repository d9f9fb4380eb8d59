"""Eigen-CAM: Muhammad and Yeasin, IJCNN 2020, arXiv:2008.00299.

Eigen-CAM: Class Activation Map using Principal Components.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.threads import in_threads
from axiom_bench.cutting.trace import Trace

# In float64, eigenvalues that differ by less, relative to the largest, count as equal, and a
# cosine below it has no sign.
EIGENVALUE_TOLERANCE = 1e-12


def principal_direction(maps: Tensor) -> Tensor:
    """Return the unit vector v that maximises sum_xy (sum_k v_k A_k(x, y))^2.

    It is the first right singular vector of the H W x K matrix, which isn't centred. Its sign is
    sum_k v_k > 0, so that the projection sum_k v_k A_k correlates positively with sum_k A_k; see
    `leading_vector` for ties. It is computed from the smaller of the two Gram matrices, K x K and
    H W x H W.

    Args:
        maps: The maps A, (B, K, H, W).

    Returns:
        The vector v, (B, K), float64. Zero maps give v = 0.
    """
    A = maps.double().flatten(2)  # (B, K, H W)
    if A.shape[1] <= A.shape[2]:
        return leading_vector(A @ A.mT, A.new_ones(A.shape[:2]))
    # the unit vector along A^T v
    projection = leading_vector(A.mT @ A, A.sum(1))
    return _unit(torch.einsum("bkn,bn->bk", A, projection))


def leading_vector(symmetric: Tensor, towards: Tensor) -> Tensor:
    """Return the unit eigenvector of the largest eigenvalue that is nearest to `towards`.

    If several eigenvalues are the largest, this is the projection of `towards` on their space,
    which doesn't depend on the solver.

    Args:
        symmetric: Symmetric matrices, (B, n, n), float64.
        towards: The vectors that decide the sign, (B, n).

    Returns:
        The eigenvectors, (B, n), whose product with `towards` is positive. A vector is zero if the
        eigenvalue isn't positive, and if `towards` is orthogonal to the eigenvectors, so that the
        sign is undefined. It is NaN if the matrix isn't finite.
    """
    is_finite = symmetric.isfinite().flatten(1).all(1)[:, None]
    values, vectors = _eigh(symmetric.where(is_finite[..., None], 0))
    largest = values[:, -1:]
    tolerance = EIGENVALUE_TOLERANCE * values.abs().amax(1, keepdim=True)
    is_leading = (values > 0) & (values >= largest - tolerance)
    coordinates = torch.einsum("bni,bn->bi", vectors, towards).where(is_leading, 0)
    nearest = torch.einsum("bni,bi->bn", vectors, coordinates)
    shortest = EIGENVALUE_TOLERANCE * towards.norm(dim=1, keepdim=True)
    has_no_sign = nearest.norm(dim=1, keepdim=True) <= shortest
    return _unit(nearest.where(~has_no_sign, 0)).where(is_finite, torch.nan)


def _eigh(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rising eigenvalues (B, n) and the eigenvectors (B, n, n)."""
    if symmetric.device.type != "cpu":
        decomposition: tuple[Tensor, Tensor] = torch.linalg.eigh(symmetric)
        return decomposition
    # On a CPU each matrix has a call and a thread of its own. LAPACK's own threads wait for each
    # other at every step, on busy cores fifty times as long as they work. Its last bits depend on
    # their number, and on a matrix's place in memory.
    values, vectors = zip(*in_threads(torch.linalg.eigh, symmetric), strict=True)
    return torch.stack(values), torch.stack(vectors)


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors (B, n) divided by their lengths; zero vectors stay zero."""
    length = vectors.norm(dim=1, keepdim=True)
    unit_vectors: Tensor = vectors / length.where(length > 0, 1)
    return unit_vectors


def eigen_cam(trace: Trace) -> Tensor:
    """w_k = v_k, the first right singular vector of F as an H W x K matrix -> (B, K, 1, 1).

    The map sum_k v_k F_k is the paper's projection of F on its first principal component. As in
    the paper F isn't centred (pytorch-grad-cam centres it). The sign, undefined in an SVD, is the
    one with sum_k v_k > 0; after a ReLU all v_k >= 0.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).

    Returns:
        The weights, (B, K, 1, 1).
    """
    F = trace.activations
    return over_space(principal_direction(F).to(F), F)


def eigen_grad_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k g_k(x, y), v the first right singular vector of g F -> (B, K, H, W).

    A variant of pytorch-grad-cam's without a paper: Eigen-CAM of g F, which depends on the class.
    That project centres g F first and leaves the sign undefined. Here, as in `eigen_cam`, g F
    isn't centred and sum_k v_k > 0, so that the map correlates positively with HiResCAM's,
    sum_k g_k F_k.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, H, W).
    """
    F = trace.activations
    g = trace.gradients
    return over_space(principal_direction(g.double() * F.double()).to(F), F) * g


def seg_eigen_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k |g_k(x, y)|, v the first right singular vector of |g| F -> (B, K, H, W).

    Chung and Ying, Seg-Eigen-CAM, Applied Sciences 15(13), 2025, doi:10.3390/app15137562,
    equation 10. The paper explains segmentations; here a class's score is explained. As in
    `eigen_cam`, |g| F isn't centred and sum_k v_k > 0, while pytorch-grad-cam centres. The paper
    flips maps whose minimum is further from 0 than their maximum; after a ReLU no value is
    negative here.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.

    Returns:
        The weights, (B, K, H, W).
    """
    F = trace.activations
    g = trace.gradients.abs()
    return over_space(principal_direction(g.double() * F.double()).to(F), F) * g
