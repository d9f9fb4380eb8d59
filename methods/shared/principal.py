"""The first principal direction from the smaller Gram matrix, with a sign that is fixed."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-12  # float64: eigenvalues this close, relative to the largest, are one; a cosine below it has no sign


def principal_direction(maps: Tensor) -> Tensor:
    """The unit vector v that maximises sum_xy (sum_k v_k A_k(x, y))^2: A (B, K, H, W) -> v (B, K), float64.

    It is the first right singular vector of the H W x K matrix, not centred, with sum_k v_k > 0. That sign makes the
    projection sum_k v_k A_k correlate positively with sum_k A_k; see `leading_vector` for ties. Zero maps give v = 0.
    The eigenproblem is that of the smaller of the two Gram matrices, K x K and H W x H W.
    """
    A = maps.double().flatten(2)  # (B, K, H W)
    if A.shape[1] <= A.shape[2]:
        return leading_vector(A @ A.mT, A.new_ones(A.shape[:2]))
    projection = leading_vector(A.mT @ A, A.sum(1))  # the unit vector along A^T v
    return _unit(torch.einsum("bkn,bn->bk", A, projection))


def leading_vector(symmetric: Tensor, towards: Tensor) -> Tensor:
    """The unit vector nearest to `towards` among the eigenvectors of the largest eigenvalue.

    symmetric: (B, n, n), float64. towards: (B, n). Returns (B, n): the eigenvector with the sign that makes a positive
    product with `towards`, and where eigenvalues tie the one choice that doesn't depend on the solver. Zero where the
    eigenvalue isn't positive, and where `towards` is orthogonal to the eigenvectors, so that none has a sign. NaN for
    a matrix that isn't finite.
    """
    finite = symmetric.isfinite().flatten(1).all(1)[:, None]
    values, vectors = torch.linalg.eigh(symmetric.where(finite[..., None], 0))
    largest = values[:, -1:]
    leading = (values > 0) & (values >= largest - ROUNDING * values.abs().amax(1, keepdim=True))
    along = torch.einsum("bni,bn->bi", vectors, towards).where(leading, 0)
    nearest = torch.einsum("bni,bi->bn", vectors, along)
    without_sign = nearest.norm(dim=1, keepdim=True) <= ROUNDING * towards.norm(dim=1, keepdim=True)
    return _unit(nearest.where(~without_sign, 0)).where(finite, torch.nan)


def _unit(vectors: Tensor) -> Tensor:
    """(B, n) divided by their lengths; zero vectors stay zero."""
    length = vectors.norm(dim=1, keepdim=True)
    return vectors / length.where(length > 0, 1)
