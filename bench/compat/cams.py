"""The CAM classes of pytorch-grad-cam: the method of each, and what that library does otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from axiom_bench.compat.base import BaseCAM
from axiom_bench.compat.library_values import Array, projected, scaled
from axiom_bench.compat.utils.model_targets import ClassifierOutputTarget, Target
from axiom_bench.cutting.images import first_convolution
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.methods.full_grad import full_gradients


class GradCAM(BaseCAM):
    """Grad-CAM: weights are mean gradients."""

    method = "GradCAM"


class HiResCAM(BaseCAM):
    """HiResCAM: the sum of gradients times activations."""

    method = "HiResCAM"


class GradCAMElementWise(BaseCAM):
    """The sum of the positive products of gradients and activations."""

    method = "GradCAMElementWise"


class LayerCAM(BaseCAM):
    """LayerCAM: the sum of positive gradients times activations."""

    method = "LayerCAM"


class ShapleyCAM(BaseCAM):
    """ShapleyCAM: gradients minus half of the Hessian times the activations."""

    method = "ShapleyCAM"


class XGradCAM(BaseCAM):
    """XGrad-CAM: gradients weighted by normalised activations."""

    method = "XGradCAM"

    def library_answer(self, trace: Trace) -> Tensor:
        """Add 1e-7 to the sum of a channel."""
        F = trace.activations
        sums = F.sum(axes(F), keepdim=True) + 1e-7
        return (trace.gradients * F / sums).sum(axes(F), keepdim=True)


class GradCAMPlusPlus(BaseCAM):
    """Grad-CAM++: weights are positive gradients times the paper's alpha."""

    method = "GradCAM++"

    def library_answer(self, trace: Trace) -> Tensor:
        """Add 1e-6 to the denominator of alpha, which can be smaller."""
        F = trace.activations
        g = trace.gradients
        sums = F.sum(axes(F), keepdim=True)
        alpha = g**2 / (2 * g**2 + sums * g**3 + 1e-6)
        return (g.clamp(min=0) * alpha).sum(axes(F), keepdim=True)


@dataclass(eq=False, repr=False)
class AblationCAM(BaseCAM):
    """Ablation-CAM, with exact drops of all channels from one pass."""

    ablation_layer: object = None
    """It has no effect, since no layer is replaced."""
    batch_size: int = 32
    """It has no effect."""
    ratio_channels_to_ablate: float = 1.0
    """It must be 1, since all channels are ablated."""
    method = "AblationCAM"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio_channels_to_ablate != 1:
            raise BenchError(
                "All channels are ablated, in one pass; leave out ratio_channels_to_ablate."
            )

    def library_answer(self, trace: Trace) -> Tensor | Map:
        """Refuse layers where pytorch-grad-cam doesn't set channels to 0."""
        if trace.activations.flatten(1).amin(1).any():
            raise BenchError(
                f"The smallest value of the layer {trace.layer!r} isn't 0, so pytorch-grad-cam "
                "sets channels to about -1e7, and its map depends on its batch size. Leave out "
                'reading="grad-cam" for exact drops.'
            )
        return self.method_answer(trace)


class ScoreCAM(BaseCAM):
    """Score-CAM: weights are the scores of masked images."""

    batch_size = 16  # the number of masked images per pass, if `reading="grad-cam"`
    method = "ScoreCAM"

    def library_answer(self, trace: Trace) -> Tensor:
        """Resize masks with aligned corners, and subtract no baseline."""
        size = trace.images.shape[2:]
        weights = []
        with torch.no_grad():
            for row, target in enumerate(trace.targets.tolist()):
                channels = trace.activations[row : row + 1]
                masks = interpolate(channels, size, mode="bilinear", align_corners=True)[0]
                masks = masks - masks.amin((1, 2), keepdim=True)
                masks = masks / (masks.amax((1, 2), keepdim=True) + 1e-8)
                scores = []
                for part in masks.split(self.batch_size):
                    masked = trace.images[row] * part[:, None]
                    rows = torch.full((len(part),), row, device=masked.device)
                    scores.append(trace.forward(masked, rows)[:, target])
                weights.append(torch.cat(scores).softmax(0))
        return torch.stack(weights)


class EigenCAM(BaseCAM):
    """Eigen-CAM: the first principal component of the activations."""

    method = "EigenCAM"

    def library_answer(self, trace: Trace) -> Map:
        """Centre the activations, and take the sign of LAPACK."""
        return Map(projected(trace.activations))


class EigenGradCAM(BaseCAM):
    """Eigen-CAM of gradients times activations."""

    method = "EigenGradCAM"

    def library_answer(self, trace: Trace) -> Map:
        """Centre the products, and take the sign of LAPACK."""
        return Map(projected(trace.gradients * trace.activations))


@dataclass(eq=False, repr=False)
class KPCA_CAM(BaseCAM):
    """KPCA-CAM: the first kernel principal component of the activations."""

    kernel: str = "sigmoid"
    """"sigmoid", "rbf", "polynomial" or "linear"."""
    gamma: float | None = None
    """The kernel's factor; None: 1 / K."""
    method = "KPCA-CAM"

    def params(self) -> dict[str, object]:
        """Return kernel and gamma."""
        return {"kernel": self.kernel, "gamma": self.gamma}

    def library_answer(self, trace: Trace) -> Map:
        """Take the sign of scikit-learn, which makes the largest value positive."""
        raw_map = Explanation.of(trace, self.method_answer(trace)).required_raw_map
        flat = raw_map.flatten(1)
        largest = flat.gather(1, flat.abs().argmax(1, keepdim=True)).sign()
        return Map((flat * largest).view_as(raw_map))


@dataclass(eq=False, repr=False)
class FEM(BaseCAM):
    """FEM: the positions where a channel is unusually strong."""

    k: float = 2
    """The threshold, in standard deviations above the mean."""
    method = "FEM"

    def params(self) -> dict[str, object]:
        """Return the threshold."""
        return {"deviations": float(self.k)}

    def library_answer(self, trace: Trace) -> Map:
        """Weight activations by the share of strong positions."""
        F = trace.activations
        spread = F.std(axes(F), correction=0, keepdim=True)
        threshold = F.mean(axes(F), keepdim=True) + self.k * spread
        share = (threshold < F).to(F).mean(axes(F), keepdim=True)
        return Map((share * F).sum(1))


class RandomCAM(BaseCAM):
    """Random weights, drawn from the image's own seed."""

    method = "Random"

    def library_answer(self, trace: Trace) -> Tensor:
        """Draw from NumPy's global generator."""
        weights = np.random.uniform(-1, 1, size=trace.activations.shape[:2])
        return torch.as_tensor(weights).to(trace.activations)


class FullGrad(BaseCAM):
    """FullGrad, a map of all layers with biases.

    It ignores the target layers, which may be an empty list, and `eigen_smooth`.
    """

    method = "FullGrad"
    reads_layer = False

    def _layer_names(self) -> list[str]:
        return [first_convolution(self.model)[0]]

    def library_answer(self, trace: Trace) -> Map:
        """Scale every channel on its own."""
        size = trace.images.shape[2:]
        kinds = {type(module).__name__ for module in trace.cut_model.model.modules()}
        if kinds & {"ReLU6", "Hardtanh", "ConvTranspose2d"}:
            raise BenchError(
                "pytorch-grad-cam's FullGrad leaves out biases of ReLU6 and transposed "
                'convolutions; leave out reading="grad-cam" for a map with them.'
            )

        def saliency(term: Tensor) -> Tensor:
            if term.ndim != trace.images.ndim:
                return term.new_zeros(len(term), *size)
            channels = scaled(term.abs().flatten(0, 1), size)
            return channels.view(*term.shape[:2], *size).sum(1)

        return Map(full_gradients(trace, saliency))


@dataclass(eq=False, repr=False)
class FinerCAM(BaseCAM):
    """Finer-CAM: Grad-CAM of the difference from similar classes.

    The paper subtracts 0.6 times their mean score. pytorch-grad-cam subtracts the mean weighted by
    their probabilities.
    """

    base_method: object = GradCAM
    """It must be GradCAM."""
    method = "FinerCAM"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha: float | None = None
        self.num_compared = 3
        if self.base_method is not GradCAM:
            raise BenchError("FinerCAM explains by Grad-CAM only; leave out base_method.")

    def params(self) -> dict[str, object]:
        """Return the strength, number and weighting of the similar classes."""
        is_library = self.is_library_reading
        strength = 1.0 if is_library else 0.6
        return {
            "gamma": strength if self.alpha is None else float(self.alpha),
            "references": self.num_compared,
            "weighting": "probability" if is_library else "equal",
        }

    def __call__(  # type: ignore[override]  # pytorch-grad-cam's arguments differ, too
        self,
        input_tensor: Tensor,
        targets: Sequence[Target] | None = None,
        eigen_smooth: bool = False,
        alpha: float | None = None,
        comparison_categories: Sequence[int] = (1, 2, 3),
        target_idx: int | None = None,
    ) -> Array:
        """Compute a map for each image.

        Args:
            input_tensor: The images, (B, C, H', W').
            targets: A class for each image, as ClassifierOutputTarget. None: the predicted class.
            eigen_smooth: See `BaseCAM`.
            alpha: The strength of the difference; None: 0.6, or 1 if `reading="grad-cam"`.
            comparison_categories: The ranks of the similar classes, (1, ..., n).
            target_idx: The class of all images.

        Returns:
            The maps in [0, 1], (B, H', W'), float32.

        Raises:
            BenchError: For other ranks, or if images or targets don't fit the model.
        """
        self.alpha = alpha
        self.num_compared = len(comparison_categories)
        if list(comparison_categories) != list(range(1, self.num_compared + 1)):
            raise BenchError(
                "Only the most similar classes are compared; give comparison_categories=(1, 2, 3)."
            )
        if target_idx is not None:
            targets = [ClassifierOutputTarget(target_idx)] * len(input_tensor)
        return super().__call__(input_tensor, targets, eigen_smooth=eigen_smooth)
