"""Tests of the Eigen-CAM family: a full SVD, scikit-learn's kernel PCA, signs, ties, zero maps."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.decomposition import KernelPCA
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.eigen_cam import leading_vector, principal_direction
from axiom_bench.methods.kpca_cam import KERNELS, kpca_cam
from axiom_bench.testing import CASES, Case
from tests.methods.plain import Row, assert_formula, linear, normal

# 30 channels at 12 positions: the Gram matrix is that of the positions.
WIDE = Case(channels=30, size=(6, 8))
ALL = {**CASES, "wide": WIDE, "wide and signed": replace(WIDE, layer="features.2")}
# An eigenvector's rounding is that of its matrix, 1e-15, over the relative gap of its eigenvalue.
ROUNDING = 1e-10


@pytest.fixture(params=ALL.values(), ids=ALL)
def case(request) -> Case:
    return request.param


def direction(maps: Tensor) -> Tensor:
    """Return the first right singular vector of maps (K, H, W) as an H W x K matrix."""
    v = np.linalg.svd(maps.flatten(1).T.numpy(), full_matrices=True)[2][0]
    return torch.from_numpy(v if v.sum() > 0 else -v)


def eigen_cam(row: Row) -> Tensor:
    return direction(row.F)


def eigen_grad_cam(row: Row) -> Tensor:
    return direction(row.F * row.g)[:, None, None] * row.g


def seg_eigen_cam(row: Row) -> Tensor:
    return direction(row.F * row.g.abs())[:, None, None] * row.g.abs()


@pytest.mark.parametrize("formula", [eigen_cam, eigen_grad_cam, seg_eigen_cam])
def test_weights_are_of_the_first_right_singular_vector(formula, case):
    assert_formula(case, methods.get(formula.__name__), formula, rtol=0, atol=ROUNDING)


def kernel_pca(row: Row, kernel: str, gamma: float | None) -> Tensor:
    """Return scikit-learn's first kernel principal component of the positions."""
    x = row.F.flatten(1).T.numpy()
    x = x - x.mean(0)
    name = {"polynomial": "poly"}.get(kernel, kernel)
    component = KernelPCA(1, kernel=name, gamma=gamma, eigen_solver="dense").fit_transform(x)[:, 0]
    component = component if component @ x.sum(1) > 0 else -component
    return torch.from_numpy(component).view(row.F.shape[1:])


@pytest.mark.parametrize("gamma", [None, 0.3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kpca_cam_is_kernel_pca(kernel, gamma, case):
    method = partial(kpca_cam, kernel=kernel, gamma=gamma)
    formula = partial(kernel_pca, kernel=kernel, gamma=gamma)
    assert_formula(case, method, formula, rtol=0, atol=1e-9)  # the root of an eigenvalue


def raw_map(name: str, trace) -> Tensor:
    return (methods.get(name)(trace) * trace.activations).sum(1)


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        # F_k = a_k P has v = a / |a|. Two and five positions choose different Gram matrices.
        (
            [[3.0, -1, 2], [6.0, -2, 4]],
            [3 / 14**0.5, -1 / 14**0.5, 2 / 14**0.5],
        ),
        (
            [[3.0, -1, 2], [6.0, -2, 4], [9.0, -3, 6], [12.0, -4, 8], [15.0, -5, 10]],
            [3 / 14**0.5, -1 / 14**0.5, 2 / 14**0.5],
        ),
        # Two maps have the same norm and don't overlap. Every mixture of them is an eigenvector,
        # and the even mixture is nearest to the sum.
        ([[1.0, 0.0], [0.0, 1.0]], [0.5**0.5, 0.5**0.5]),
        ([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.5**0.5, 0.5**0.5]),
        # F_1 = -F_2: v and -v are the same explanation with the channels renamed.
        ([[1.0, -1]], [0, 0]),
        ([[1.0, -1], [2.0, -2], [3.0, -3], [4.0, -4]], [0, 0]),
    ],
)
def test_principal_direction_by_hand(maps, expected):
    """Check maps by hand. `maps` has the channels' values at each position."""
    actual = principal_direction(torch.tensor(maps, dtype=torch.float64).T[None, :, None])
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual[0], expected, rtol=0, atol=1e-14)


def test_non_finite_image_does_not_affect_the_others():
    maps = CASES["dense"].trace().activations
    with_nan = maps.clone()
    with_nan[1, 0, 0, 0] = torch.nan
    actual = principal_direction(with_nan)
    assert actual[1].isnan().all()
    expected = principal_direction(maps)
    torch.testing.assert_close(actual[[0, 2]], expected[[0, 2]], rtol=0, atol=ROUNDING)


def test_no_positive_eigenvalue_gives_zero():
    """Check a matrix without a positive eigenvalue. The sigmoid's kernel matrix may be such."""
    negative = -torch.eye(3, dtype=torch.float64)[None]
    assert not leading_vector(negative, torch.ones(1, 3, dtype=torch.float64)).any()


def test_threads_and_batches_move_no_bit(request):
    """Check an odd number of rows. LAPACK's own threads change bits from about 50 rows on, and so
    does the position of an odd number of rows in memory.
    """
    maps = normal(3, 101, 104)
    symmetric = maps @ maps.mT
    towards = torch.ones(3, 101, dtype=torch.float64)
    expected = leading_vector(symmetric, towards)
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(2)
    assert torch.equal(leading_vector(symmetric, towards), expected)
    assert torch.equal(leading_vector(symmetric[1:], towards[1:]), expected[1:])
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", ["eigen_cam", "eigen_grad_cam", "seg_eigen_cam"])
def test_float32_matches_float64(name, case):
    """Check a float32 trace. Products and eigenvectors are computed in float64, so only the trace's
    own rounding of about 1e-6 remains.
    """
    expected = raw_map(name, case.trace())
    rounded = replace(case, dtype=torch.float32).trace()
    actual = raw_map(name, rounded).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("kernel", KERNELS)
def test_constant_maps_have_no_component(kernel, readout):
    trace = readout(linear([1.0] * 18), torch.full((2, 3, 2, 3), 0.7))
    assert kpca_cam(trace, kernel).raw.abs().max() < 1e-7  # the root of an eigenvalue of 1e-16


def test_kpca_cam_of_too_many_positions(readout):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), linear([1.0] * 3))
    with pytest.raises(BenchError, match="at most 4096"):
        kpca_cam(readout(head, torch.rand(1, 3, 80, 60)))
