"""The kit's networks as Keras models, which TensorFlow, JAX and PyTorch can load.

Keras' own padding isn't symmetric, so a layer of its own adds zeros before a convolution. Linear
layers are convolutions as large as the maps, which need no other order of the channels.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.auditing.case import Case

DTYPE = "float32"  # Keras rounds some layers to it in any case
BACKEND = "KERAS_BACKEND"  # the environment variable that chooses Keras' backend


def write_keras(path: Path, case: Case) -> None:
    """Write one of the audit's networks as a `.keras` file. Raise ImportError if Keras is missing.

    Images are (B, H, W, 3) in float32, and the target layer has its name. The output is the logits,
    (B, C).
    """
    KerasNetwork(case).model().save(path)


def _keras() -> Any:
    """Import Keras, with torch as its backend if nothing else is chosen."""
    chosen = os.environ.get(BACKEND)
    os.environ[BACKEND] = chosen or "torch"
    try:
        return import_module("keras")
    finally:
        if chosen is None:
            del os.environ[BACKEND]


class KerasNetwork:
    """The layers of a case's network, with its weights."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.keras = _keras()

    def model(self) -> Any:
        """Return the Keras model, layer by layer as `cases.SmallNetwork` computes."""
        network: Any = self.case.model
        _, channels, height, width = self.case.images.shape
        images = self.keras.Input((height, width, channels), dtype=DTYPE)
        inputs = self._apply(self._padded_convolution(images, network.stem[0]), "ReLU")
        maps = inputs
        for module in network.target:
            name = self.case.layer if module is network.target[-1] else None
            maps = self._target(maps, module, name)
        if network.has_skip:
            maps = self._apply([maps, inputs], "Add")
        if isinstance(network.after, nn.Sequential):
            norm: Any = network.after[0]
            weights = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            maps = self._apply(maps, "BatchNormalization", weights, epsilon=norm.eps)
            maps = self._apply(maps, "Activation", activation="gelu")
        first, *others = [module for module in network.head if isinstance(module, nn.Linear)]
        if not others:
            maps = self._apply(maps, "GlobalAveragePooling2D", keepdims=True)
        values = self._linear(maps, first)
        for module in others:
            values = self._linear(self._apply(values, "ReLU"), module)
        return self.keras.Model(images, self._apply(values, "Flatten"))

    def _target(self, maps: Any, module: nn.Module, name: str | None) -> Any:
        """Return what a module of the target layer computes: a convolution, a ReLU or `Centred`."""
        if isinstance(module, nn.Conv2d):
            return self._padded_convolution(maps, module, name)
        if isinstance(module, nn.ReLU):
            return self._apply(maps, "ReLU", name=name)
        means = self._apply(maps, "GlobalAveragePooling2D", keepdims=True)
        channels = maps.shape[-1]
        only_first = torch.zeros(channels, channels, 1, 1)
        only_first[0, 0] = 1
        subtracted = self._convolution(means, only_first, torch.zeros(channels))
        return self._apply([maps, subtracted], "Subtract", name=name)

    def _padded_convolution(self, maps: Any, module: nn.Conv2d, name: str | None = None) -> Any:
        padded = self._apply(maps, "ZeroPadding2D", padding=module.padding)
        return self._convolution(padded, module.weight, module.bias, module.stride, name)

    def _linear(self, maps: Any, module: nn.Linear) -> Any:
        """Return a linear layer of all maps (B, h, w, K) as (B, 1, 1, units)."""
        height, width, channels = maps.shape[1:]
        weight = module.weight.unflatten(1, (channels, height, width))
        return self._convolution(maps, weight, module.bias)

    def _convolution(
        self,
        maps: Any,
        weight: Tensor,
        bias: Tensor | None,
        strides: tuple[int, ...] = (1, 1),
        name: str | None = None,
    ) -> Any:
        """Return a convolution without padding. `weight` is (filters, channels, h, w)."""
        filters, _, *kernel_size = weight.shape
        return self._apply(
            maps,
            "Conv2D",
            (weight.permute(2, 3, 1, 0), bias),
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            name=name,
        )

    def _apply(
        self, values: Any, kind: str, weights: tuple[Tensor | None, ...] = (), **settings: Any
    ) -> Any:
        """Return the output of a new layer of Keras, which gets these weights."""
        layer = getattr(self.keras.layers, kind)(dtype=DTYPE, **settings)
        output = layer(values)
        layer.set_weights([tensor.detach().numpy() for tensor in weights if tensor is not None])
        return output
