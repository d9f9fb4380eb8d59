"""SS-CAM: Wang et al., Smoothed Score-CAM for Sharper Visual Feature Localization, 2020, arXiv:2006.14255."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.methods.score_cam import weights_of
from axiom_bench.methods.shared.masking import column, masked_scores, masks, varying_channels

PLACES = ("map", "input")


def ss_cam(
    trace: Trace,
    samples: int = 10,
    sigma: float = 2.0,
    noise: str = "map",
    seed: int = 0,
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
) -> Tensor:
    """w_k = softmax_k of the mean over samples of f(X (H_k + n)) - f(X_0), n ~ N(0, sigma²) -> (B, K, 1, 1).

    noise: "map" is the paper's first form, noise on the mask, one value a pixel; "input" the second, f(X H_k + n), a
    value for each pixel and colour. As in torchcam n is added to the scaled mask at the image's size, and nothing is
    clipped; N = 10 and sigma = 2 are the paper's, torchcam takes 35 samples. A sample's noise is the same for all
    channels, which compares them under equal conditions and lets no weight depend on a channel's place; it is seeded
    by the image's pixels and `seed`. X, H_k and the forms are `score_cam`'s.
    Raises BenchError for another score or noise, for less than one sample, or a negative sigma.
    """
    if noise not in PLACES:
        raise unknown("noise", noise, PLACES)
    if samples < 1:
        raise BenchError(f"Smoothing needs at least one sample, not samples={samples}.")
    if not sigma >= 0:
        raise BenchError(f"The noise's sigma is 0 or more, not sigma={sigma}.")
    table = trace.once(
        ("noisy masks", samples, sigma, noise, seed), lambda: _scores(trace, samples, sigma, noise, seed)
    )
    channels = varying_channels(trace.activations)
    return weights_of(trace, table[..., column(score)], channels, score, baseline, channel_softmax)


@torch.inference_mode(False)
@torch.no_grad()
def _scores(trace: Trace, samples: int, sigma: float, noise: str, seed: int) -> Tensor:
    """Logit and probability of the class, means over the samples, 0 for constant channels: (B, K, 2)."""
    channels = varying_channels(trace.activations)
    size = (trace.images.shape[-2], trace.images.shape[-1])
    shape = (samples, 1, *size) if noise == "map" else (samples, 3, *size)
    table = trace.activations.new_zeros(*channels.shape, 2)
    images = trace.images[: trace.distinct]
    for i, (image, draw) in enumerate(zip(images, generators(images, seed), strict=True)):
        maps = trace.activations[i, channels[i]]
        draws = sigma * torch.randn(shape, generator=draw, dtype=torch.float64).to(image)

        def noisy(rows: slice, image: Tensor = image, maps: Tensor = maps, draws: Tensor = draws) -> Tensor:
            row = torch.arange(rows.start, rows.stop, device=maps.device)
            mask, n = masks(maps[row % len(maps)], size)[:, None], draws[row // len(maps)]
            return image * (mask + n) if noise == "map" else image * mask + n

        found = masked_scores(trace, i, samples * len(maps), noisy)
        table[i, channels[i]] = found.unflatten(0, (samples, -1)).mean(0)
    return trace.with_repeats(table)
