"""Other libraries' metrics that explain again, with our method and, where they can be given, our draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from metric_peers import QUIET, Sample, Values
from torch import Tensor, nn

from axiom_bench.metrics.explanation_sensitivity import nearby
from axiom_bench.metrics.shared.similarity import spearman


def nearby_noise(sample: Sample, radius: float, samples: int) -> Tensor:
    """The draws of explanation_sensitivity: (B, samples, 3, H', W')."""
    moved = [nearby(sample.images.double(), radius, f"0 nearby {one}") for one in range(samples)]
    return torch.stack([images - sample.images for images in moved], dim=1).float()


def raw_maps(sample: Sample, images: Tensor, targets: Sequence[int] | None = None, model: Any = None) -> Tensor:
    """Our raw maps of other images, classes or of another model: (R, h, w)."""
    classes = torch.tensor(sample.targets if targets is None else targets)
    again = sample.explanation.again(images, classes.repeat_interleave(len(images) // len(classes)), model)
    assert again.raw_map is not None
    return again.raw_map


def captum_sensitivity(sample: Sample) -> Any:
    """captum.metrics.sensitivity_max with our draws."""
    from captum.metrics import sensitivity_max

    def explained(images: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:  # it asks for the form that it gives
        return (raw_maps(sample, images[0]),) if isinstance(images, tuple) else raw_maps(sample, images)

    noise = nearby_noise(sample, 0.02, 10).flatten(0, 1)
    return sensitivity_max(explained, sample.images, perturb_func=lambda images: images + noise, n_perturb_samples=10)


def enlarged(sample: Sample, maps: Tensor) -> np.ndarray:
    """Raw maps (B, h, w) with each pixel repeated to the image's size, which quantus asks for: (B, 1, H', W')."""
    return torch.nn.functional.interpolate(maps[:, None], sample.maps.shape[1:], mode="nearest").numpy()


def quantus_sensitivity(name: str) -> Callable[[Sample], Any]:
    """quantus.MaxSensitivity or AvgSensitivity with our draws."""

    def call(sample: Sample) -> Any:
        import quantus

        draws = iter(nearby_noise(sample, 0.02, 10).flatten(2).unbind(1))

        def explained(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
            return enlarged(sample, raw_maps(sample, torch.as_tensor(inputs)))

        perturb = lambda arr, indices, **_: arr + next(draws).numpy()  # noqa: E731
        metric = getattr(quantus, name)(nr_samples=10, perturb_func=perturb, **QUIET)
        return _explaining(metric, sample, enlarged(sample, sample.raw), explained)

    return call


def quantus_mprt(sample: Sample) -> Any:
    """quantus.MPRT, the mean over its own randomised models."""
    import quantus

    def explained(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        return enlarged(sample, raw_maps(sample, torch.as_tensor(inputs), model=model))

    metric = quantus.MPRT(abs=False, return_average_correlation=True, **QUIET)
    with torch.random.fork_rng():
        return _explaining(metric, sample, enlarged(sample, sample.raw), explained)


def predicted_mprt(sample: Sample, _: Values) -> Values:
    """Our correlation of the raw maps on quantus's randomised models, and 1 for the network itself."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    wrapped = PyTorchModel(sample.model, channel_first=True, softmax=False)
    found = [torch.ones(len(sample.images), dtype=torch.float64)]
    with torch.random.fork_rng():
        for _, other in wrapped.get_random_layer_generator("top_down", 42):
            found.append(spearman(sample.raw, raw_maps(sample, sample.images, model=other)))
    return torch.stack(found).mean(0).numpy()


def quantus_random_logit(sample: Sample) -> Any:
    """quantus.RandomLogit, which draws the classes itself."""
    import quantus

    def explained(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        return _heatmaps_of(sample, targets)[:, None]

    metric = quantus.RandomLogit(num_classes=sample.trace.logits.shape[1], **QUIET)
    return _explaining(metric, sample, sample.maps[:, None].copy(), explained)


def predicted_random_logit(sample: Sample, _: Values) -> Values:
    """scikit-image's SSIM of the flattened maps, a line of pixels, of the classes that quantus draws by place."""
    from skimage.metrics import structural_similarity

    classes = sample.trace.logits.shape[1]
    steps = np.random.RandomState(42).randint(0, classes - 1, len(sample.targets))
    others = [
        [c for c in range(classes) if c != target][step] for target, step in zip(sample.targets, steps, strict=True)
    ]
    seen = _heatmaps_of(sample, np.array(others))
    return np.array([
        structural_similarity(a.ravel(), b.ravel(), data_range=float(max(a.max(), b.max()) - min(a.min(), b.min())))
        for a, b in zip(sample.maps, seen, strict=True)
    ])  # fmt: skip


def _explaining(metric: Any, sample: Sample, maps: np.ndarray, explained: Callable[..., np.ndarray]) -> Any:
    """A metric of quantus that explains again."""
    state = np.random.get_state()
    try:
        return metric(
            model=sample.model,
            x_batch=sample.images.numpy(),
            y_batch=np.array(sample.targets),
            a_batch=maps,
            explain_func=explained,
            channel_first=True,
            softmax=False,
            device="cpu",
        )
    finally:
        np.random.set_state(state)


def _heatmaps_of(sample: Sample, targets: np.ndarray) -> np.ndarray:
    other = sample.explanation.again(targets=torch.as_tensor(targets)).heatmap
    assert other is not None
    return other.numpy()
