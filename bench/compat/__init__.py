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
from axiom_bench.evaluation.other_names import unknown_plugin

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


def __getattr__(name: str) -> object:
    """Raise ImportError for a name that this module doesn't have, with the name to use here."""
    if name.startswith("_"):
        raise AttributeError(name)
    raise ImportError(
        f"axiom_bench.compat has no {name}. {unknown_plugin('method', name, __all__)}"
    )
