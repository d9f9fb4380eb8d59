"""Eigen-CAM: Muhammad and Yeasin, Class Activation Map using Principal Components, IJCNN 2020, arXiv:2008.00299."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.principal import principal_direction


def eigen_cam(trace: Trace) -> Tensor:
    """w_k = v_k, the first right singular vector of F as an H W x K matrix -> (B, K, 1, 1).

    The map sum_k v_k F_k is the paper's projection of F on its first principal component. As in the paper F isn't
    centred (pytorch-grad-cam centres it). The sign, undefined in an SVD, makes sum_k v_k > 0; behind a ReLU all
    v_k >= 0.
    """
    F = trace.activations
    return principal_direction(F).to(F)[..., None, None]


def eigen_grad_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k g_k(x, y), v the first right singular vector of g F -> (B, K, H, W).

    A variant of pytorch-grad-cam's without a paper: Eigen-CAM of g F, which depends on the class. That project centres
    g F first and leaves the sign undefined; here, as in `eigen_cam`, g F isn't centred and sum_k v_k > 0, so that the
    map correlates positively with HiResCAM's, sum_k g_k F_k.
    """
    F, g = trace.activations, trace.gradients
    return principal_direction(g.double() * F.double()).to(F)[..., None, None] * g


def seg_eigen_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = v_k |g_k(x, y)|, v the first right singular vector of |g| F -> (B, K, H, W).

    Chung and Ying, Seg-Eigen-CAM, Applied Sciences 15(13), 2025, doi:10.3390/app15137562, equation 10; made for
    segmentation, here for a class's score. Not centred and with sum_k v_k > 0, as above; pytorch-grad-cam centres. The
    paper flips maps whose minimum is further from 0 than their maximum; behind a ReLU no value is negative here.
    """
    F, g = trace.activations, trace.gradients.abs()
    return principal_direction(g.double() * F.double()).to(F)[..., None, None] * g
