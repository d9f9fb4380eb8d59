"""Metrics of quantus, called as its documentation says on the maps that ours is given.

A call is a function of a Sample. The library is imported in the call, after the command has checked that it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy, nn

from .samples import Sample

Call = Callable[[Sample], Any]
GRID, GROUPS = 2, 12  # cells a side and groups of pixels: quantus takes equal ones alone
ZEROS = {"perturb_baseline": 0.0, "abs": False, "normalise": False}  # signed raw maps; what is removed becomes 0
SAMPLES = 50  # the default of explanation_sensitivity
SMOOTHED = 5  # noisy images of smooth MPRT; 50 take ten times as long


def quantus(name: str, region: str = "", softmax: bool = True, **settings: Any) -> Call:
    """A metric of quantus on the heatmaps. region: "masks" or "boxes", what it gets as s_batch."""

    def call(sample: Sample) -> Any:
        regions = {"masks": sample.masks, "boxes": sample.box_masks}[region][:, None].astype(int) if region else None
        maps = sample.heatmaps[:, None].copy()
        return of_quantus(name, sample, maps, settings, softmax=softmax, s_batch=regions)

    return call


def of_quantus(
    name: str, sample: Sample, maps: np.ndarray | None, settings: dict[str, Any], softmax: bool = False, **call: Any
) -> Any:
    """A metric of quantus on maps (B, 1, H', W'). call: more arguments of it.

    Torch's and numpy's global generators are as before afterwards.
    """
    import quantus

    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **settings)
    arguments = {
        "model": sample.model, "x_batch": sample.images.numpy().copy(), "y_batch": np.array(sample.targets),
        "a_batch": maps, "channel_first": True, "softmax": softmax, "device": "cpu", **call,
    }  # fmt: skip
    state = np.random.get_state()
    try:
        with torch.random.fork_rng():
            return metric(**arguments)
    finally:
        np.random.set_state(state)


def explaining_again(name: str, fit: Callable[[Sample, Tensor], np.ndarray], **settings: Any) -> Call:
    """A metric of quantus that explains again, by our raw maps, brought to the image's size as it requires."""

    def call(sample: Sample) -> Any:
        def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
            return fit(sample, sample.maps_of(from_numpy(inputs).float(), model))

        softmax = name == "EfficientMPRT"
        return of_quantus(name, sample, fit(sample, sample.raw_maps), settings, softmax, explain_func=explain)

    return call


def quantus_sensitivity(name: str) -> Call:
    """MaxSensitivity or AvgSensitivity with our draws."""

    def call(sample: Sample) -> Any:
        draws = iter(sample.noise(SAMPLES).flatten(2).unbind(1))

        def perturb(arr: np.ndarray, indices: object, **_: object) -> np.ndarray:
            return arr + next(draws).numpy()

        return explaining_again(name, Sample.repeated, nr_samples=SAMPLES, perturb_func=perturb)(sample)

    return call


def quantus_smooth_mprt(sample: Sample) -> Any:
    """SmoothMPRT after full randomisation, of SMOOTHED noisy images that it draws itself.

    It explains by captum's Grad-CAM, resized to the image, since it doesn't call the explain_func that it is given.
    """
    import quantus

    settings = {"nr_samples": SMOOTHED, "abs": False, "skip_layers": True, "return_last_correlation": True}
    layer = {"method": "LayerGradCam", "gc_layer": f"model.get_submodule({sample.trace.layer!r})"}
    resize = {"interpolate": sample.heatmaps.shape[1:], "interpolate_mode": "bilinear"}
    np.random.seed(0)
    explain = {"explain_func": quantus.explain, "explain_func_kwargs": {**layer, **resize}}
    return of_quantus("SmoothMPRT", sample, None, settings, **explain)


def quantus_random_logit(sample: Sample) -> Any:
    """RandomLogit, which draws the classes itself."""

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        heatmap = sample.explanation.again(targets=torch.as_tensor(targets)).heatmap
        assert heatmap is not None
        return heatmap.numpy()[:, None]

    settings = {"num_classes": sample.trace.logits.shape[1]}
    return of_quantus("RandomLogit", sample, sample.heatmaps[:, None].copy(), settings, explain_func=explain)


def curve_area(sample: Sample, curves: np.ndarray) -> np.ndarray:
    """The area over [0, 1] under curves of the probability (B, steps), with the unchanged image as first point."""
    points = np.concatenate([sample.probability[:, None], curves], axis=1)
    return np.trapezoid(points, dx=1 / curves.shape[1], axis=1)


def pixel_flipping(sample: Sample) -> np.ndarray:
    """The area of PixelFlipping in 4 steps of equal numbers of pixels; it flips values, three a pixel."""
    call = quantus("PixelFlipping", features_in_step=sample.heatmaps[0].size // 4, perturb_baseline=0.0)
    return curve_area(sample, np.stack(call(sample))[:, 2::3])


def region_perturbation(sample: Sample) -> np.ndarray:
    """The area of RegionPerturbation, whose curve is p - p', in regions of one pixel, all channels together."""
    pixels = sample.heatmaps[0].size
    call = quantus("RegionPerturbation", patch_size=1, regions_evaluation=pixels, perturb_baseline=0.0)
    return curve_area(sample, sample.probability[:, None] - np.stack(call(sample)))


def relevance_gain(sample: Sample) -> np.ndarray:
    """The area between RegionPerturbation's curves of both orders, of p - p', with 0 as first point."""
    settings = {**ZEROS, "patch_size": sample.heatmaps.shape[1] // GRID, "regions_evaluation": GRID**2}
    highest, lowest = (
        np.stack(of_quantus("RegionPerturbation", sample, sample.resized(), {**settings, "order": order}, softmax=True))
        for order in ("morf", "lerf")
    )
    gain = np.concatenate([np.zeros((len(highest), 1)), highest - lowest], axis=1)
    return np.trapezoid(gain, dx=1 / GRID**2, axis=1)


def faithfulness_of_groups(sample: Sample) -> Any:
    """FaithfulnessEstimate with SaCo's algorithm 1 in the place of its correlation."""
    settings = {**ZEROS, "features_in_step": sample.images[0].numel() // GROUPS, "similarity_func": _pairs}
    return of_quantus("FaithfulnessEstimate", sample, sample.resized(), settings, softmax=True)


def _pairs(a: np.ndarray, b: np.ndarray, **_: object) -> np.ndarray:
    """Algorithm 1 of groups' salience a and drops b, both (B, K)."""
    first, second = np.triu_indices(a.shape[1], k=1)
    weights = a[:, first].astype(np.float64) - a[:, second]
    faithful = np.where(b[:, first] >= b[:, second], weights, -weights)
    return faithful.sum(1) / np.abs(weights).sum(1)


def quantus_sensitivity_n(sample: Sample) -> Any:
    """The mean of SensitivityN in four steps, each of a twelfth of an image's values."""
    in_step = sample.heatmaps[0].size // 4
    settings: dict[str, Any] = {"features_in_step": in_step, "n_max_percentage": 1.0, "return_aggregate": False}
    call = quantus("SensitivityN", softmax=False, perturb_baseline=0.0, **settings)
    return np.full(len(sample.images), np.mean(call(sample)))  # it has one value for all images


def quantus_correlation(sample: Sample) -> Any:
    """FaithfulnessCorrelation of 100 subsets as large as ours, its generator seeded by us."""
    np.random.seed(0)
    settings: dict[str, Any] = {"nr_runs": 100, "perturb_baseline": 0.0, "return_aggregate": False}
    subset = round(0.0045 * sample.images[0].numel())
    return quantus("FaithfulnessCorrelation", softmax=False, subset_size=subset, **settings)(sample)
