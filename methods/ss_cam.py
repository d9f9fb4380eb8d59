"""SS-CAM: Wang et al., Smoothed Score-CAM for Sharper Visual Feature Localization, 2020,
arXiv:2006.14255.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.methods.score_cam import weights_of
from axiom_bench.methods.shared.masking import masked_scores, minmax, score_index, varying_channels

PLACES = ("map", "input")
MASKS = ("scaled", "raw")


def ss_cam(
    trace: Trace,
    samples: int = 10,
    sigma: float = 2.0,
    noise: str = "map",
    seed: int = 0,
    score: str = "logit",
    baseline: bool = True,
    channel_softmax: bool = True,
    relative: bool = False,
    mask: str = "scaled",
) -> Tensor:
    """w_k = softmax_k of the mean over samples of f(X (H_k + n)) - f(X_0), n ~ N(0, sigma²) -> (B,
    K, 1, 1).

    noise: "map" is the paper's first form, noise on the scaled mask at the image's size, one value
    per pixel; "input" the second, f(X H_k + n), one value per pixel and colour. As in the authors'
    code are relative=True, the standard deviation (sigma / range)^2 with the range of what the
    noise is added to, and for "map" mask="raw", the upsampled map in place of H_k. A sample's noise
    is the same for all channels, seeded by the original image and `seed`. X, H_k and the forms: see
    `score_cam`. Costs `samples` forward passes per varying channel. Raises BenchError for another
    score, noise or mask, for samples < 1 and for a negative sigma.
    """
    if noise not in PLACES:
        raise unknown("noise", noise, PLACES)
    if mask not in MASKS:
        raise unknown("mask of SS-CAM", mask, MASKS)
    if samples < 1:
        raise BenchError(f"Invalid samples={samples}; give the number of noisy copies, at least 1.")
    if not sigma >= 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the standard deviation of the noise, at least 0."
        )
    form = Noise(samples, sigma, relative, noise, mask, seed)
    scores = trace.once(form, lambda: _scores(trace, form))[..., score_index(trace, score)]
    return weights_of(
        trace, scores, varying_channels(trace.activations), score, baseline, channel_softmax
    )


@dataclass(frozen=True)
class Noise:
    """The noisy masks of an image; see `ss_cam` for the fields."""

    samples: int
    sigma: float
    relative: bool
    noise: str
    mask: str
    seed: int

    def draws(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for an image (C, H', W'), relative noise without its spread: (samples, 1 or C, H',
        W').
        """
        shape = (self.samples, 1 if self.noise == "map" else len(image), *image.shape[1:])
        unit = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (unit if self.relative else self.sigma * unit).to(image)

    def masked(self, image: Tensor, maps: Tensor, draws: Tensor) -> Tensor:
        """The image (C, H', W') under maps (n, H, W) with noise (n, 1 or C, H', W'): (n, C, H',
        W').
        """
        upsampled = resized(maps, image.shape[1:])
        mask = (minmax(upsampled) if self.mask == "scaled" else upsampled)[:, None]
        noiseless = mask if self.noise == "map" else image * mask
        noisy = noiseless + (self._spread(noiseless) * draws if self.relative else draws)
        return image * noisy if self.noise == "map" else noisy

    def _spread(self, values: Tensor) -> Tensor:
        """(sigma / range)^2 of each of (n, C, H', W'), 0 where it is constant: (n, 1, 1, 1)."""
        of_each = axes(values, 1)
        extent = values.amax(of_each, keepdim=True) - values.amin(of_each, keepdim=True)
        return torch.where(extent > 0, self.sigma / extent, 0).square()


@torch.inference_mode(False)
@torch.no_grad()
def _scores(trace: Trace, form: Noise) -> Tensor:
    """Logit and probability of the class, means over the samples, 0 for constant channels: (B, K,
    2).
    """
    channels = varying_channels(trace.activations)

    def scores(row: int) -> Tensor:
        image, maps = trace.images[row], trace.activations[row, channels[row]]
        (generator,) = trace.generators(form.seed, slice(row, row + 1))
        draws = form.draws(image, generator)

        def masked(copies: slice) -> Tensor:
            index = torch.arange(copies.start, copies.stop, device=maps.device)
            return form.masked(image, maps[index % len(maps)], draws[index // len(maps)])

        table = maps.new_zeros(channels.shape[1], 2)
        copies = masked_scores(trace, row, form.samples * len(maps), masked)
        table[channels[row]] = copies.unflatten(0, (form.samples, -1)).mean(0)
        return table

    return trace.per_image(scores)
