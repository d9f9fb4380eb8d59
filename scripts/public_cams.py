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


def torchray(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Call Grad-CAM of TorchRay."""
    library = import_module("torchray.attribution.grad_cam")
    maps: Tensor = library.grad_cam(model, images, targets, saliency_layer=layer_name(model, layer))
    return maps


def medcam(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    backend: str = "gcam",
) -> Tensor:
    """Call a backend of M3d-CAM, which replaces the output of the model with the map."""
    library = import_module("medcam.medcam")
    maps = []
    for image, target in zip(images, targets.tolist(), strict=True):
        injected = library.inject(
            model,
            backend=backend,
            layer=layer_name(model, layer),
            label=target,
            replace=True,
        )
        maps.append(injected(image[None])[0, 0])
    return torch.stack(maps)


def monai(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    name: str = "GradCAM",
) -> Tensor:
    """Call a class of MONAI without its default post-processing, which reverses the map."""
    library = import_module("monai.visualize")
    cam = getattr(library, name)(
        model, target_layers=layer_name(model, layer), postprocessing=unchanged
    )
    maps = []
    for image, target in zip(images, targets.tolist(), strict=True):
        maps.append(cam(image[None], class_idx=target)[0, 0])
    return torch.stack(maps)


def unchanged(maps: Tensor) -> Tensor:
    """Return the maps."""
    return maps


def omnixai(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    name: str = "GradCAM",
) -> Tensor:
    """Call a class of OmniXAI, whose preprocessing returns the images unchanged."""
    library = import_module("omnixai.explainers.vision.specific.gradcam")
    image_class = import_module("omnixai.data.image").Image
    explainer = getattr(library, name)(
        model=model, target_layer=layer, preprocess_function=lambda _: images
    )
    pictures = image_class(images.detach().numpy(), batched=True, channel_last=False)
    explanations = explainer.explain(pictures, y=targets.tolist()).get_explanations()
    return torch.stack([torch.as_tensor(entry["scores"]) for entry in explanations]).squeeze(-1)


def openvino_recipro_cam(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    embed_scaling: bool = True,
) -> Tensor:
    """Call Recipro-CAM of OpenVINO XAI for PyTorch, which computes the maps of all classes."""
    library = import_module("openvino_xai.methods.white_box.torch")
    explainer = library.TorchReciproCAM(
        model, target_layer=layer_name(model, layer), embed_scaling=embed_scaling
    )
    maps: Any = explainer.generate_saliency_map(images.detach().numpy())
    return torch.as_tensor(maps)[torch.arange(len(targets)), targets]
