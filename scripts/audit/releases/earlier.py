"""The calls of earlier releases, where today's didn't exist: they are bridged, so that the same code measures them.

Each bridge changes how a library is called, never what it computes, and is named on the page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

ADAPTERS = "axiom_bench.methods.peers"


def bridged(name: str) -> list[str]:
    """Bridge what a release of a library, by its import name, lacks; what that was."""
    bridges = {"torchcam": _torchcam, "pytorch_grad_cam": _grad_cam}
    return bridges[name]() if name in bridges else []


def _grad_cam() -> list[str]:
    """Until 1.3.6 classes were given as numbers, until 1.3.1 one layer instead of a list."""
    done, base = [], import_module("pytorch_grad_cam").GradCAM.__mro__[-2]  # BaseCAM, before object
    if "target_layer" in signature(base.__init__).parameters:
        _first_layer(base, _one)
        done.append("one layer")
    try:
        import_module("pytorch_grad_cam.utils.model_targets")
    except ImportError:
        targets = ModuleType("pytorch_grad_cam.utils.model_targets")
        targets.ClassifierOutputTarget = int  # type: ignore[attr-defined]
        sys.modules[targets.__name__] = targets
        done.append("numbers of classes")
    return done


def _torchcam() -> list[str]:
    """Until 0.3.2 there was no `with`, until 0.3.1 a call took one image, until 0.3.0 the package was torchcam.cams,
    until 0.2.0 a layer was its name."""
    done: list[str] = []
    library: Any = import_module("torchcam")
    if not hasattr(library, "methods"):
        library.methods = sys.modules["torchcam.methods"] = import_module("torchcam.cams")
        done.append("`torchcam.cams`")
    base = library.methods.GradCAM.__mro__[-2]  # _CAM, before object
    if not hasattr(base, "_resolve_layer_name"):
        _first_layer(base, _name)
        done.append("names of layers")
    if not hasattr(base, "__enter__"):
        base.__enter__ = lambda self: self
        names = [name for name in ("remove_hooks", "clear_hooks") if hasattr(base, name)]  # 0.1.0 has neither
        base.__exit__ = lambda self, *error: [getattr(self, name)() for name in names[:1]] and None
        _first_layer(library.methods.CAM, _one)
        done.append("no `with`")
    if "List" not in str(signature(base.__call__).parameters["class_idx"].annotation):
        _one_image(base)
        done.append("one image")
    return done


def _first_layer(base: Any, of: Callable[[Any, Any], Any]) -> None:
    """Let a class's constructor take a list of one layer."""
    original = base.__init__

    def constructor(self: Any, model: Any, layers: Any, *arguments: Any, **options: Any) -> None:
        original(self, model, of(model, layers), *arguments, **options)

    base.__init__ = constructor


def _one(_: Any, layers: Any) -> Any:
    return layers[0] if isinstance(layers, list) else layers


def _name(model: Any, layers: Any) -> Any:
    layer = _one(model, layers)
    return next((name for name, module in model.named_modules() if module is layer), layer)


def _one_image(base: Any) -> None:
    """Let an extractor of one image and class take a list of one class, and the adapter call it image by image."""
    call, adapter = base.__call__, import_module(f"{ADAPTERS}.torchcam")
    extract: Callable[..., Tensor] = adapter.extract

    def one_class(self: Any, classes: Any, *arguments: Any, **options: Any) -> list[Tensor]:
        maps = call(self, classes[0] if isinstance(classes, list) else classes, *arguments, **options)
        return [each.reshape(1, *each.shape[-2:]) for each in (maps if isinstance(maps, list) else [maps])]

    def each_image(model: Any, layers: Any, images: Tensor, targets: Tensor, *arguments: Any, **options: Any) -> Tensor:
        pairs = zip(images.split(1), targets.split(1), strict=True)
        return torch.cat([extract(model, layers, image, target, *arguments, **options) for image, target in pairs])

    base.__call__ = one_class
    adapter.extract = each_image  # type: ignore[attr-defined]
