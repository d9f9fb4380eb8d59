"""Metrics of quantus, called as its documentation says on the maps that ours is given.

A call is a function of a Sample. The library is imported in the call, after the command has checked that it is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy, nn

from .samples import Peer, Sample, peer

GRID, GROUPS = 2, 12  # cells a side and groups of pixels: quantus takes equal ones alone
ZEROS = {"perturb_baseline": 0.0, "abs": False, "normalise": False}  # signed raw maps; what is removed becomes 0
SAMPLES = 50  # the default of explanation_sensitivity


def quantus(name: str, region: str = "", softmax: bool = True, **settings: Any) -> Peer:
    """A metric of quantus on the heatmaps. region: "masks" or "boxes", what it gets as s_batch."""

    def call(sample: Sample) -> Any:
        regions = {"masks": sample.masks, "boxes": sample.box_masks}[region][:, None].astype(int) if region else None
        maps = sample.heatmaps[:, None].copy()
        return of_quantus(name, sample, maps, settings, softmax=softmax, s_batch=regions)

    return Peer("quantus", name, call)


def of_quantus(
    name: str, sample: Sample, maps: np.ndarray | None, settings: dict[str, Any], softmax: bool = False, **call: Any
) -> Any:
    """A metric of quantus on maps (B, 1, H', W'). call: more arguments of it. The global generators stay as before."""
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


def sensitivity(name: str) -> Peer:
    """MaxSensitivity or AvgSensitivity with our draws, of our raw maps, enlarged to the image as it requires."""

    def call(sample: Sample) -> Any:
        draws = iter(sample.noise(SAMPLES).flatten(2).unbind(1))

        def perturb(arr: np.ndarray, indices: object, **_: object) -> np.ndarray:
            return arr + next(draws).numpy()

        def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
            return enlarged(sample.maps_of(from_numpy(inputs).float()))

        def enlarged(maps: Tensor) -> np.ndarray:
            return nn.functional.interpolate(maps[:, None], sample.heatmaps.shape[1:], mode="nearest").numpy()

        settings = {"nr_samples": SAMPLES, "perturb_func": perturb}
        return of_quantus(name, sample, enlarged(sample.raw_maps), settings, explain_func=explain)

    return Peer("quantus", name, call)


def curve_area(sample: Sample, curves: np.ndarray) -> np.ndarray:
    """The area over [0, 1] under curves of the probability (B, steps), with the unchanged image as first point."""
    points = np.concatenate([sample.probability[:, None], curves], axis=1)
    return np.trapezoid(points, dx=1 / curves.shape[1], axis=1)


@peer("quantus", "PixelFlipping")
def pixel_flipping(sample: Sample) -> np.ndarray:
    """The area of PixelFlipping in 4 steps of equal numbers of pixels; it flips values, three a pixel."""
    made = quantus("PixelFlipping", features_in_step=sample.heatmaps[0].size // 4, perturb_baseline=0.0)
    return curve_area(sample, np.stack(made.call(sample))[:, 2::3])


@peer("quantus", "RegionPerturbation")
def region_perturbation(sample: Sample) -> np.ndarray:
    """The area of RegionPerturbation, whose curve is p - p', in regions of one pixel, all channels together."""
    pixels = sample.heatmaps[0].size
    made = quantus("RegionPerturbation", patch_size=1, regions_evaluation=pixels, perturb_baseline=0.0)
    return curve_area(sample, sample.probability[:, None] - np.stack(made.call(sample)))


@peer("quantus", "RegionPerturbation")
def relevance_gain(sample: Sample) -> np.ndarray:
    """The area between RegionPerturbation's curves of both orders, of p - p', with 0 as first point."""
    settings = {**ZEROS, "patch_size": sample.heatmaps.shape[1] // GRID, "regions_evaluation": GRID**2}
    highest, lowest = (
        np.stack(of_quantus("RegionPerturbation", sample, sample.resized(), {**settings, "order": order}, softmax=True))
        for order in ("morf", "lerf")
    )
    gain = np.concatenate([np.zeros((len(highest), 1)), highest - lowest], axis=1)
    return np.trapezoid(gain, dx=1 / GRID**2, axis=1)


@peer("quantus", "FaithfulnessEstimate")
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
