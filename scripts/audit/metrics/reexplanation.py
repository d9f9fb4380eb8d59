"""Metrics that explain again, by captum and quantus, with our method and, where they can be passed in, our draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from axiom_bench.metrics.explanation_sensitivity import with_noise
from axiom_bench.metrics.model_parameter_randomisation_efficient import histogram_entropy
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.similarity import spearman

from .calls import Call, Explain, Values, of_quantus
from .samples import Sample

RADIUS, SAMPLES = 0.2, 50  # the defaults of explanation_sensitivity
SMOOTHED = 5  # noisy images of smooth MPRT; 50 take ten times as long


def _noise(sample: Sample) -> Tensor:
    """What explanation_sensitivity adds to the images: (B, samples, 3, H', W')."""
    moved = [with_noise(sample.images.double(), RADIUS, f"0 nearby {number}") for number in range(SAMPLES)]
    return torch.stack([images - sample.images for images in moved], dim=1).float()


def _raw_maps(sample: Sample, images: Tensor, model: nn.Module | None = None) -> Tensor:
    """Our raw maps (R, h, w) of other images, or of another model; R is a multiple of the sample's images."""
    copies = len(images) // len(sample.images)
    again = sample.explanation.again(images, sample.trace.targets.repeat_interleave(copies), model)
    assert again.raw_map is not None
    return again.raw_map


def _heatmaps_of(sample: Sample, targets: np.ndarray) -> np.ndarray:
    """Our heatmaps (B, H', W') of other classes."""
    heatmap = sample.explanation.again(targets=torch.as_tensor(targets)).heatmap
    assert heatmap is not None
    return heatmap.numpy()


def _enlarged(sample: Sample, maps: Tensor) -> np.ndarray:
    """Raw maps (B, h, w) with each pixel repeated to the image's size, as quantus requires: (B, 1, H', W')."""
    return torch.nn.functional.interpolate(maps[:, None], sample.heatmaps.shape[1:], mode="nearest").numpy()


def captum_sensitivity(sample: Sample) -> Any:
    """captum.metrics.sensitivity_max with our draws."""
    from captum.metrics import sensitivity_max

    def explain(images: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:  # captum passes a tuple or a tensor
        return (_raw_maps(sample, images[0]),) if isinstance(images, tuple) else _raw_maps(sample, images)

    noise = _noise(sample).flatten(0, 1)
    return sensitivity_max(
        explain, sample.images, perturb_func=lambda images: images + noise, n_perturb_samples=SAMPLES
    )


def quantus_sensitivity(name: str) -> Call:
    """quantus.MaxSensitivity or AvgSensitivity with our draws."""

    def call(sample: Sample) -> Any:
        draws = iter(_noise(sample).flatten(2).unbind(1))

        def perturb(arr: np.ndarray, indices: object, **_: object) -> np.ndarray:
            return arr + next(draws).numpy()

        settings = {"nr_samples": SAMPLES, "perturb_func": perturb}
        return of_quantus(
            name, sample, _enlarged(sample, sample.raw_maps), settings, explain=_explain(sample, _enlarged)
        )

    return call


def quantus_mprt(sample: Sample) -> Any:
    """quantus.MPRT, the mean over its own randomised models."""
    settings = {"abs": False, "return_average_correlation": True}
    return of_quantus("MPRT", sample, _enlarged(sample, sample.raw_maps), settings, explain=_explain(sample, _enlarged))


def predicted_mprt(sample: Sample, _: Values) -> Values:
    """Our correlation of the raw maps on quantus's randomised models, and 1 for the network itself."""
    correlations = [torch.ones(len(sample.images), dtype=torch.float64)]
    for randomised in _randomised(sample, "top_down"):
        correlations.append(spearman(sample.raw_maps, _raw_maps(sample, sample.images, randomised)))
    return torch.stack(correlations).mean(0).numpy()


def quantus_efficient_mprt(sample: Sample) -> Any:
    """quantus.EfficientMPRT, of its own randomised model."""
    maps = _resized(sample, sample.raw_maps)
    return of_quantus("EfficientMPRT", sample, maps, {}, softmax=True, explain=_explain(sample, _resized))


def predicted_efficient_mprt(sample: Sample, _: Values) -> Values:
    """Our rise in entropy on quantus's randomised model."""
    other = sample.explanation.again(model=_all_randomised(sample))
    trained, randomised = (histogram_entropy(each, 100).numpy() for each in (sample.explanation, other))
    return (randomised - trained) / trained


def quantus_smooth_mprt(sample: Sample) -> Any:
    """quantus.SmoothMPRT after full randomisation, of SMOOTHED noisy images that it draws itself.

    It explains by captum's Grad-CAM, resized to the image, since it doesn't call the explain_func that it is given.
    """
    import quantus

    settings = {"nr_samples": SMOOTHED, "abs": False, "skip_layers": True, "return_last_correlation": True}
    layer = {"method": "LayerGradCam", "gc_layer": f"model.get_submodule({sample.trace.layer!r})"}
    resize = {"interpolate": sample.heatmaps.shape[1:], "interpolate_mode": "bilinear"}
    np.random.seed(0)
    return of_quantus(
        "SmoothMPRT", sample, None, settings, explain=quantus.explain, explain_func_kwargs={**layer, **resize}
    )


def predicted_smooth_mprt(sample: Sample, _: Values) -> Values:
    """Our correlation of mean maps of quantus's noisy images, drawn anew for each model, on quantus's random model."""
    draws, images = np.random.RandomState(0), sample.images.numpy()
    spread = 0.1 * (images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True))

    def mean_map(model: nn.Module | None) -> Tensor:
        noisy = [images + draws.randn(*images.shape) * spread for _ in range(SMOOTHED - 1)]
        maps = [_raw_maps(sample, torch.as_tensor(each).float(), model) for each in (*noisy, images)]
        return torch.stack(maps).mean(0)

    trained = mean_map(None)
    mean_map(None)  # of a check of the unchanged network, which isn't returned
    randomised = mean_map(_all_randomised(sample))
    return spearman(*(torch.from_numpy(_resized(sample, each))[:, 0] for each in (trained, randomised))).numpy()


def _randomised(sample: Sample, order: str) -> Iterator[nn.Module]:
    """quantus's models, one layer more randomised each, all drawn with one seed; the last of all layers."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    model = PyTorchModel(sample.model, channel_first=True, softmax=False)
    with torch.random.fork_rng():
        yield from (randomised for _name, randomised in model.get_random_layer_generator(order, 42))


def _all_randomised(sample: Sample) -> nn.Module:
    *_, last = _randomised(sample, "bottom_up")
    return last


def _explain(sample: Sample, fitted: Callable[[Sample, Tensor], np.ndarray]) -> Explain:
    """Our raw maps, brought to the image's size as quantus requires."""

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        return fitted(sample, _raw_maps(sample, torch.as_tensor(inputs).float(), model))

    return explain


def _resized(sample: Sample, maps: Tensor) -> np.ndarray:
    """Raw maps (B, h, w) resized bilinearly to the image: (B, 1, H', W')."""
    return enlarged(replace(sample.explanation, raw_map=maps))[:, None].numpy()


def quantus_random_logit(sample: Sample) -> Any:
    """quantus.RandomLogit, which draws the classes itself."""

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        return _heatmaps_of(sample, targets)[:, None]

    settings = {"num_classes": sample.trace.logits.shape[1]}
    return of_quantus("RandomLogit", sample, sample.heatmaps[:, None].copy(), settings, explain=explain)


def predicted_random_logit(sample: Sample, _: Values) -> Values:
    """scikit-image's SSIM of the flattened maps, a line of pixels, of the classes that quantus draws by place."""
    from skimage.metrics import structural_similarity

    classes = sample.trace.logits.shape[1]
    draws = np.random.RandomState(42).randint(0, classes - 1, len(sample.targets))
    others = [draw + (draw >= target) for target, draw in zip(sample.targets, draws, strict=True)]  # not the target
    values = []
    for own, other in zip(sample.heatmaps, _heatmaps_of(sample, np.array(others)), strict=True):
        data_range = float(max(own.max(), other.max()) - min(own.min(), other.min()))
        values.append(structural_similarity(own.ravel(), other.ravel(), data_range=data_range))
    return np.array(values)
