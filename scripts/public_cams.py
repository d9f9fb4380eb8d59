"""Public CAM classes of forms that `axiom-bench audit` doesn't recognise, as functions of model,
layer, images and classes. Each calls its library as the library's documentation does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from importlib import import_module

import torch
from torch import Tensor, nn


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """Return the dotted name of a layer."""
    names = [name for name, module in model.named_modules() if module is layer]
    return str(names[0])


def maps_one_by_one(
    explain: Callable[[Tensor, int], Tensor],
    images: Tensor,
    targets: Tensor,
) -> Tensor:
    """Return the maps (B, h, w) of a function that explains one image (1, 3, H', W') of a class."""
    classes = targets.tolist()
    maps = [explain(images[[row]], classes[row]).detach() for row in range(len(images))]
    return torch.stack([image_maps.reshape(image_maps.shape[-2:]) for image_maps in maps])


def as_float32(
    model: nn.Module, layer: nn.Module, images: Tensor
) -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a model of float64, its layer and images in float32, for libraries that convert
    images to float32. Any other model is returned unchanged, so that changes of it are seen.
    """
    if images.dtype != torch.float64:
        return model, layer, images
    name = layer_name(model, layer)
    model = copy.deepcopy(model).float()
    return model, model.get_submodule(name), images.float()


def captum_interpolated(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
) -> Tensor:
    """Call Grad-CAM of Captum, and enlarge its map by Captum's function with its defaults."""
    library = import_module("captum.attr")
    maps = library.LayerGradCam(model, layer).attribute(images, target=targets)
    enlarged: Tensor = library.LayerAttribution.interpolate(maps, images.shape[-2:])
    return enlarged


def captum_guided(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    interpolate_mode: str = "nearest",
) -> Tensor:
    """Call Guided Grad-CAM of Captum, and sum its absolute values over the colours."""
    explainer = import_module("captum.attr").GuidedGradCam(model, layer)
    pictures: Tensor = explainer.attribute(
        images, target=targets, interpolate_mode=interpolate_mode
    )
    return pictures.abs().sum(1)


def pnpxai_guided(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Call Guided Grad-CAM of PnPXAI, and sum its absolute values over the colours."""
    explainer = import_module("pnpxai.explainers").GuidedGradCam(model, layer)
    pictures: Tensor = explainer.attribute(images, targets)
    return pictures.abs().sum(1)


def finer_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Call Finer-CAM of pytorch-grad-cam without targets, with which it would be Grad-CAM."""
    library = import_module("pytorch_grad_cam")
    with library.FinerCAM(model, [layer]) as cam:
        return maps_one_by_one(
            lambda image, target: torch.as_tensor(cam(image, target_idx=target)),
            images,
            targets,
        )


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
    name = layer_name(model, layer)

    def explain(image: Tensor, target: int) -> Tensor:
        injected = library.inject(model, backend=backend, layer=name, label=target, replace=True)
        maps: Tensor = injected(image)
        return maps

    return maps_one_by_one(explain, images, targets)


def monai(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    name: str = "GradCAM",
) -> Tensor:
    """Call a class of MONAI without its default post-processing, which reverses the map."""
    return _monai_maps(model, layer, images, targets, name, {})


def monai_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Call CAM of MONAI, which needs the last linear layer, without its post-processing."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return _monai_maps(model, layer, images, targets, "CAM", {"fc_layers": linear[-1]})


def _monai_maps(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    name: str,
    options: Mapping[str, object],
) -> Tensor:
    library = import_module("monai.visualize")
    cam = getattr(library, name)(
        model,
        target_layers=layer_name(model, layer),
        postprocessing=lambda maps: maps,
        **options,
    )
    return maps_one_by_one(
        lambda image, target: cam(image, class_idx=[target]),
        images,
        targets,
    )


def torchxai(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    name: str = "GradCAM",
) -> Tensor:
    """Call a class of torchxai-explain, which converts images to float32."""
    library = import_module("torchxai.methods")
    model, layer, images = as_float32(model, layer, images)
    cam = getattr(library, name)(model, target_layer=layer)
    return maps_one_by_one(
        lambda image, target: torch.as_tensor(cam(image, target_class=target)),
        images,
        targets,
    )


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
    model, layer, images = as_float32(model, layer, images)
    explainer = library.TorchReciproCAM(
        model, target_layer=layer_name(model, layer), embed_scaling=embed_scaling
    )
    all_maps = torch.as_tensor(explainer.generate_saliency_map(images.detach().numpy()))
    return all_maps[torch.arange(len(targets)), targets]
