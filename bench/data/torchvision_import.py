"""The import of torchvision, which also works with a CPU-only build of torch.

torchvision's wheel on PyPI is built against CUDA. With a CPU-only torch its compiled operators
can't be loaded, and its import then fails at the shape functions of the two that it expects. This
project uses none of the compiled operators, so declaring those two without an implementation is
enough. Calling them would still be an error.
"""

from __future__ import annotations

import torch

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    torch.library.define(
        "torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )
    torch.library.define(
        "torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )
    import torchvision

__all__ = ["torchvision"]
