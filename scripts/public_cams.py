"""Public CAM classes of forms that `axiom-bench audit` doesn't recognise, as functions of model,
layer, images and classes. Each calls its library as the library's documentation does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """Return the dotted name of a layer."""
    names = [name for name, module in model.named_modules() if module is layer]
    return str(names[0])


def one_by_one(cam: Any, images: Tensor, targets: Tensor) -> Tensor:
    """Return the maps of `cam(image, class)` for each image."""
    maps = []
    for image, target in zip(images, targets.tolist(), strict=True):
        maps.append(torch.as_tensor(cam(image[None], target)).squeeze())
    return torch.stack(maps)


def pytorch_gradcam(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, name: str = "GradCAM"
) -> Tensor:
    """Call GradCAM of pytorch-gradcam."""
    cam = getattr(import_module("gradcam"), name)(model, layer)
    return one_by_one(lambda image, target: cam(image, target)[0], images, targets)


def pytorch_gradcam_pp(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
) -> Tensor:
    """Call GradCAMpp of pytorch-gradcam."""
    return pytorch_gradcam(model, layer, images, targets, "GradCAMpp")


def monai_grad_cam(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, name: str = "GradCAM"
) -> Tensor:
    """Call GradCAM of MONAI, whose default post-processing is reversed min-max."""
    library = import_module("monai.visualize.class_activation_maps")
    cam = getattr(library, name)(model, target_layers=layer_name(model, layer))
    return one_by_one(lambda image, target: cam(image, class_idx=target), images, targets)


def monai_grad_cam_pp(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
) -> Tensor:
    """Call GradCAMpp of MONAI."""
    return monai_grad_cam(model, layer, images, targets, "GradCAMpp")


def torchray(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Call Grad-CAM of TorchRay."""
    grad_cam = import_module("torchray.attribution.grad_cam").grad_cam
    name = layer_name(model, layer)
    return one_by_one(
        lambda image, target: grad_cam(model, image, target, saliency_layer=name), images, targets
    )
