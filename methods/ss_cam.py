"""SS-CAM: Wang et al., Smoothed Score-CAM for Sharper Visual Feature Localization, 2020, arXiv:2006.14255."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.methods.score_cam import weights_of
from axiom_bench.methods.shared.masking import masked_scores, masks, score_index, varying_channels

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

    noise: "map" is the paper's first form, noise on the mask, one value per pixel; "input" the second, f(X H_k + n),
    one value per pixel and colour. As in torchcam n is added to the scaled mask at the image's size, without clipping;
    N = 10 and sigma = 2 are the paper's, torchcam takes 35 samples. A sample's noise is the same for all channels, so
    that they are compared under equal conditions; it is seeded by the image's pixels and `seed`. X, H_k and the forms:
    see `score_cam`. Costs `samples` forward passes per varying channel. Raises BenchError for another score or noise,
    for samples < 1 and for a negative sigma.
    """
    if noise not in PLACES:
        raise unknown("noise", noise, PLACES)
    if samples < 1:
        raise BenchError(f"Invalid samples={samples}; give the number of noisy copies, at least 1.")
    if not sigma >= 0:
        raise BenchError(f"Invalid sigma={sigma}; give the standard deviation of the noise, at least 0.")
    table = trace.once(
        ("noisy masks", samples, sigma, noise, seed), lambda: _scores(trace, samples, sigma, noise, seed)
    )
    channels = varying_channels(trace.activations)
    return weights_of(trace, table[..., score_index(score)], channels, score, baseline, channel_softmax)


@torch.inference_mode(False)
@torch.no_grad()
def _scores(trace: Trace, samples: int, sigma: float, noise: str, seed: int) -> Tensor:
    """Logit and probability of the class, means over the samples, 0 for constant channels: (B, K, 2)."""
    channels = varying_channels(trace.activations)
    size = (trace.images.shape[-2], trace.images.shape[-1])
    shape = (samples, 1, *size) if noise == "map" else (samples, *trace.images.shape[1:])

    def scores(row: int) -> Tensor:
        image, maps = trace.images[row], trace.activations[row, channels[row]]
        (generator,) = generators(image[None], seed)
        draws = sigma * torch.randn(shape, generator=generator, dtype=torch.float64).to(image)

        def masked(copies: slice) -> Tensor:
            index = torch.arange(copies.start, copies.stop, device=maps.device)
            mask, n = masks(maps[index % len(maps)], size)[:, None], draws[index // len(maps)]
            return image * (mask + n) if noise == "map" else image * mask + n

        table = maps.new_zeros(channels.shape[1], 2)
        table[channels[row]] = (
            masked_scores(trace, row, samples * len(maps), masked).unflatten(0, (samples, -1)).mean(0)
        )
        return table

    return trace.per_image(scores)
