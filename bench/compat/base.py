"""The base of all CAM classes: checks, passes, resizing and smoothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from axiom_bench.compat.chosen_scores import check_has_classes, check_targets, explained
from axiom_bench.compat.library_values import (
    Array,
    check_no_in_place_operation,
    projected,
    scaled,
)
from axiom_bench.compat.reshaping import InvertedTransform
from axiom_bench.compat.utils.model_targets import Target
from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.cutting.images import checked_images
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.passes import full_precision
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, type_name, unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import note_non_finite, note_silence
from axiom_bench.explanation.explanation import Map, heatmap, weighted

Reading = Literal["papers", "grad-cam"]
Transform = Callable[[Tensor], Tensor]
FACTORS = (0.9, 1.0, 1.1)  # of the pixels, for aug_smooth


@dataclass(eq=False, repr=False)
class BaseCAM:
    """A CAM of a model at target layers.

    The model keeps its mode, hooks and gradients. Maps are computed in eval mode.
    """

    model: nn.Module
    """Any network."""
    target_layers: Sequence[nn.Module]
    """Modules of the model. Several layers give the mean of their maps."""
    reshape_transform: Transform | None = None
    """A function from the output of a transformer's layer to maps (B, K, H, W), which only moves
    values."""
    reading: Reading = field(default="papers", kw_only=True)
    """"papers" for the formulas of docs/methods.md, "grad-cam" for the values of pytorch-grad-cam
    1.5.7."""
    outputs: Tensor = field(init=False)
    """The network's output of the last call, without a gradient."""
    method: ClassVar[str]  # the method's name or printed title
    reads_layer: ClassVar[bool] = True  # False if the map has layers of its own

    def __post_init__(self) -> None:
        if self.reading not in get_args(Reading):
            raise unknown_name("reading", self.reading, get_args(Reading))
        self.is_library_reading = self.reading == "grad-cam"
        self.layer_names = self._layer_names()
        self._cuts: dict[str, CutModel] = {}  # by layer
        self._cut_key: object = None  # the targets and weights of the cuts

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[Target] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> Array:
        """Compute a map for each image.

        Args:
            input_tensor: The images, (B, C, H', W'), or volumes (B, C, D', H', W').
            targets: A function for each image, from its output to a score. None: the predicted
                class.
            aug_smooth: True for the mean over six versions of each image: flipped or not, with
                pixels times 0.9, 1 and 1.1.
            eigen_smooth: True for the first principal component of the contributions instead of
                their sum.

        Returns:
            The maps in [0, 1], (B, H', W') or (B, D', H', W'), float32.

        Raises:
            BenchError: If images, targets or layers don't fit the model.
        """
        images = checked_images(input_tensor, self.model)
        images = images.to(next(self.model.parameters(), images).device)
        check_targets(targets, len(images))
        if not aug_smooth:
            return self._maps(images, targets, eigen_smooth).numpy()
        axis = min(3, images.ndim - 1)  # pytorch-grad-cam flips this axis also of volumes
        maps = []
        for factor in FACTORS:
            maps.append(self._maps(images * factor, targets, eigen_smooth))
            flipped = self._maps(images.flip(axis) * factor, targets, eigen_smooth)
            maps.append(flipped.flip(axis - 1))
        return torch.stack(maps).mean(0).numpy()

    @full_precision()
    def _maps(self, images: Tensor, targets: Sequence[Target] | None, eigen_smooth: bool) -> Tensor:
        """Return the maps on the CPU, (B, *size), float32."""
        size = images.shape[2:]
        maps = []
        for layer in self.layer_names:
            raw_map = self._raw_map(self._trace(images, targets, layer), eigen_smooth)
            if self.is_library_reading:
                # a spline of volumes may be negative
                maps.append(scaled(raw_map.clamp(min=0), size).clamp(min=0))
            else:
                maps.append(heatmap(raw_map, size))
        mean = torch.stack(maps).mean(0)
        result = scaled(mean, size) if self.is_library_reading else heatmap(mean, size)
        return result.float().cpu()

    def _raw_map(self, trace: Trace, eigen_smooth: bool) -> Tensor:
        if self.is_library_reading:
            if self.reads_layer:
                check_no_in_place_operation(trace)
            answer = self.library_answer(trace)
        else:
            answer = self.method_answer(trace)
        if isinstance(answer, Map):
            return answer.raw
        contributions = weighted(answer, trace.activations)
        raw_map = contributions.sum(1)
        if not eigen_smooth:
            return raw_map
        component = projected(contributions)
        if self.is_library_reading:
            return component
        # a principal component has no sign of its own
        agreement = (component * raw_map).flatten(1).sum(1).sign()
        return torch.einsum("b,b...->b...", agreement, component)

    def params(self) -> dict[str, object]:
        """Return the parameters of the method that differ from its defaults."""
        return {}

    def method_answer(self, trace: Trace) -> Tensor | Map:
        """Return the weights or the map of the method."""
        name = plugins.matching("method", self.method)
        method = plugins.with_params("method", name, self.params())
        answer: Tensor | Map = method(trace)
        note_non_finite(method, trace, answer)
        return answer

    def library_answer(self, trace: Trace) -> Tensor | Map:
        """Return the weights or the map of pytorch-grad-cam. They are the method's own in most
        classes.
        """
        return self.method_answer(trace)

    def _trace(self, images: Tensor, targets: Sequence[Target] | None, layer: str) -> Trace:
        """Trace the images at a layer, with a cut that is kept while targets and weights stay."""
        output, classes = explained(targets)
        weights = [parameter.data_ptr() for parameter in self.model.parameters()]
        # the kept cut holds the user's functions, so that no other function gets their ids
        functions = [id(target) for target in targets or ()] if isinstance(output, Output) else []
        key = (output if isinstance(output, str) else functions, weights)
        if key != self._cut_key:
            self._cuts.clear()
            self._cut_key = key
        if layer not in self._cuts:
            transform = self.reshape_transform
            reshape = None if transform is None else InvertedTransform(transform)
            self._cuts[layer] = cut(self.model, layer, output=output, reshape=reshape)
        cut_model = self._cuts[layer]
        trace = cut_model.trace(images, None if classes is None else torch.tensor(classes))
        if targets is None:
            check_has_classes(trace)
        note_silence(trace)
        self.outputs = trace.logits
        if isinstance(output, Output):  # the trace has the targets' scores instead
            with torch.no_grad():
                self.outputs = cut_model.model(images)
        return trace

    def _layer_names(self) -> list[str]:
        """Return the dotted names of the target layers. Raise BenchError for an unknown layer."""
        layers = self.target_layers
        if not isinstance(layers, list | tuple) or not layers:
            kind = "an empty list" if layers == [] else f"{type_name(layers)}, not a list"
            raise BenchError(
                f"target_layers is {kind}; give a list of the model's modules, such as "
                "target_layers=[model.layer4[-1]]."
            )
        name_by_id = {id(module): name for name, module in self.model.named_modules()}
        unknown = [layer for layer in layers if id(layer) not in name_by_id]
        if unknown:
            raise BenchError(
                f"target_layers has {type_name(unknown[0])} that isn't a module of this model; "
                "give modules of the model itself, such as model.layer4[-1]."
            )
        return [name_by_id[id(layer)] for layer in layers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cuts.clear()
        self._cut_key = None
