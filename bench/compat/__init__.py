"""The CAM classes of pytorch-grad-cam with its signatures, computed by this package.

Change `from pytorch_grad_cam import GradCAM` to `from axiom_bench.compat import GradCAM`.
"""

from axiom_bench.compat.base import BaseCAM
from axiom_bench.compat.cams import (
    FEM,
    KPCA_CAM,
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    FinerCAM,
    FullGrad,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    RandomCAM,
    ScoreCAM,
    ShapleyCAM,
    XGradCAM,
)

__all__ = [
    "FEM",
    "KPCA_CAM",
    "AblationCAM",
    "BaseCAM",
    "EigenCAM",
    "EigenGradCAM",
    "FinerCAM",
    "FullGrad",
    "GradCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "RandomCAM",
    "ScoreCAM",
    "ShapleyCAM",
    "XGradCAM",
]  # fmt: skip
