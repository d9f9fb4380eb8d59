"""Eigen-CAM: Muhammad and Yeasin, Class Activation Map using Principal Components, IJCNN 2020,
arXiv:2008.00299.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.threads import in_threads
from axiom_bench.cutting.trace import Trace

# float64: eigenvalues closer than this, relative to the largest, are equal; a cosine below it has
# no sign.
EIGENVALUE_TOLERANCE = 1e-12


def principal_direction(maps: Tensor) -> Tensor:
    """The unit vector v that maximises sum_xy (sum_k v_k A_k(x, y))^2: A (B, K, H, W) -> v (B, K),
    float64.

    It is the first right singular vector of the H W x K matrix, not centred. Its sign is sum_k v_k
    > 0, by which the projection sum_k v_k A_k correlates positively with sum_k A_k; see
    `leading_vector` for ties. Zero maps give v = 0. Computed from the smaller of the two Gram
    matrices, K x K and H W x H W.
    """
    A = maps.double().flatten(2)  # (B, K, H W)
    if A.shape[1] <= A.shape[2]:
        return leading_vector(A @ A.mT, A.new_ones(A.shape[:2]))
    projection = leading_vector(A.mT @ A, A.sum(1))  # the unit vector along A^T v
    return _unit(torch.einsum("bkn,bn->bk", A, projection))


def leading_vector(symmetric: Tensor, towards: Tensor) -> Tensor:
    """The unit eigenvector of the largest eigenvalue that is nearest to `towards`.

    symmetric: (B, n, n), float64. towards: (B, n). Returns (B, n): its product with `towards` is
    positive; where the largest eigenvalues are equal, the projection of `towards` on their space,
    which doesn't depend on the solver. Zero where the eigenvalue isn't positive, and where
    `towards` is orthogonal to the eigenvectors, so that the sign is undefined. NaN for a matrix
    that isn't finite.
    """
    finite = symmetric.isfinite().flatten(1).all(1)[:, None]
    values, vectors = _eigh(symmetric.where(finite[..., None], 0))
    largest = values[:, -1:]
    leading = (values > 0) & (
        values >= largest - EIGENVALUE_TOLERANCE * values.abs().amax(1, keepdim=True)
    )
    along = torch.einsum("bni,bn->bi", vectors, towards).where(leading, 0)
    nearest = torch.einsum("bni,bi->bn", vectors, along)
    without_sign = nearest.norm(dim=1, keepdim=True) <= EIGENVALUE_TOLERANCE * towards.norm(
        dim=1, keepdim=True
    )
    return _unit(nearest.where(~without_sign, 0)).where(finite, torch.nan)


def _eigh(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, n), rising, and eigenvectors (B, n, n). On a CPU each matrix has a call and a
    thread of its own.

    LAPACK's own threads wait for each other at every step, on busy cores fifty times as long as
    they work. Its last bits depend on their number, and on a matrix's place in memory.
    """
    if symmetric.device.type != "cpu":
        return torch.linalg.eigh(symmetric)
    values, vectors = zip(*in_threads(torch.linalg.eigh, symmetric), strict=True)
    return torch.stack(values), torch.stack(vectors)


def _unit(vectors: Tensor) -> Tensor:
    """(B, n) divided by their lengths; zero vectors stay zero."""
    length = vectors.norm(dim=1, keepdim=True)
    return vectors / length.where(length > 0, 1)


def eigen_cam(trace: Trace) -> Tensor:
    """w_k = v_k, the first right singular vector of F as an H W x K matrix -> (B, K, 1, 1).

    The map sum_k v_k F_k is the paper's projection of F on its first principal component. As in the
    paper F isn't centred (pytorch-grad-cam centres it). The sign, undefined in an SVD, makes sum_k
    v_k > 0; behind a ReLU all v_k >= 0.
    """
    F = trace.activations
    return over_space(principal_direction(F).to(F), F)


def eigen_grad_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k g_k(x, y), v the first right singular vector of g F -> (B, K, H, W).

    A variant of pytorch-grad-cam's without a paper: Eigen-CAM of g F, which depends on the class.
    That project centres g F first and leaves the sign undefined; here, as in `eigen_cam`, g F isn't
    centred and sum_k v_k > 0, so that the map correlates positively with HiResCAM's, sum_k g_k F_k.
    """
    F, g = trace.activations, trace.gradients
    return over_space(principal_direction(g.double() * F.double()).to(F), F) * g


def seg_eigen_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k |g_k(x, y)|, v the first right singular vector of |g| F -> (B, K, H, W).

    Chung and Ying, Seg-Eigen-CAM, Applied Sciences 15(13), 2025, doi:10.3390/app15137562, equation
    10; made for segmentation, here for a class's score. Not centred and with sum_k v_k > 0, as
    above; pytorch-grad-cam centres. The paper flips maps whose minimum is further from 0 than their
    maximum; behind a ReLU no value is negative here.
    """
    F, g = trace.activations, trace.gradients.abs()
    return over_space(principal_direction(g.double() * F.double()).to(F), F) * g
