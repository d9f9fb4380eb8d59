"""SS-CAM: Wang et al., 2020, arXiv:2006.14255.

SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter, invalid_choice
from axiom_bench.methods.score_cam import score_cam_weights
from axiom_bench.methods.shared.masking import masked_scores, minmax, score_index, varying_channels

NOISE_PLACES = ("map", "input")
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
    """w_k = softmax_k of the mean over noise n of f(X (H_k + n)) - f(X_0) -> (B, K, 1, 1).

    n ~ N(0, sigma²). A sample's noise is the same for all channels, seeded by the original image
    and `seed`. See `score_cam` for X, H_k and the forms. In the authors' code relative=True, and
    for noise="map" also mask="raw". Costs `samples` forward passes per varying channel.

    Args:
        trace: The traced batch, with images X (B, 3, H', W') and activations (B, K, H, W).
        samples: The number of noisy copies, at least 1.
        sigma: The standard deviation of the noise, at least 0.
        noise: "map": the paper's first form, noise on the scaled mask at the image's size, one
            value per pixel. "input": the second form, f(X H_k + n), one value per pixel and colour.
        seed: The seed of the noise.
        score: f: "logit" or "probability".
        baseline: Subtract f(X_0).
        channel_softmax: Apply the softmax over channels.
        relative: The standard deviation is (sigma / range)^2, with the range of what the noise is
            added to.
        mask: "scaled": H_k. "raw": the upsampled map in place of H_k.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If score, noise or mask is unknown, if samples < 1, or if sigma is negative.
    """
    if noise not in NOISE_PLACES:
        raise invalid_choice("noise", noise, NOISE_PLACES)
    if mask not in MASKS:
        raise invalid_choice("mask of SS-CAM", mask, MASKS)
    if samples < 1:
        raise InvalidParameter(
            f"Invalid samples={samples}; give the number of noisy copies, at least 1."
        )
    if not sigma >= 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the standard deviation of the noise, at least 0."
        )
    # The form is the key, so that variants which differ only in the score share their passes.
    form = Noise(samples, sigma, relative, noise, mask, seed)
    scores = trace.once(form, lambda: _scores(trace, form))[..., score_index(trace, score)]
    channels = varying_channels(trace.activations)
    return score_cam_weights(trace, scores, channels, score, baseline, channel_softmax)


@dataclass(frozen=True)
class Noise:
    """The noisy masks of an image; see the parameters of `ss_cam` for the fields."""

    samples: int
    sigma: float
    relative: bool
    noise: str
    mask: str
    seed: int

    def draws(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the noise of an image; relative noise still has to be multiplied by its spread.

        Args:
            image: The image, (C, H', W').
            generator: The image's random generator.

        Returns:
            The noise, (samples, 1 or C, H', W').
        """
        shape = (self.samples, 1 if self.noise == "map" else len(image), *image.shape[1:])
        unit = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (unit if self.relative else self.sigma * unit).to(image)

    def masked(self, image: Tensor, maps: Tensor, draws: Tensor) -> Tensor:
        """Return the image under maps with noise.

        Args:
            image: The image, (C, H', W').
            maps: The layer's maps, (n, H, W).
            draws: The noise, (n, 1 or C, H', W').

        Returns:
            The masked images, (n, C, H', W').
        """
        upsampled = resized(maps, image.shape[1:])
        mask = (minmax(upsampled) if self.mask == "scaled" else upsampled)[:, None]
        noiseless = mask if self.noise == "map" else image * mask
        noisy = noiseless + (self._spread(noiseless) * draws if self.relative else draws)
        return image * noisy if self.noise == "map" else noisy

    def _spread(self, values: Tensor) -> Tensor:
        """Return (sigma / range)^2 of each of (n, C, H', W'), 0 if constant: (n, 1, 1, 1)."""
        dims = axes(values, 1)
        extent = values.amax(dims, keepdim=True) - values.amin(dims, keepdim=True)
        return torch.where(extent > 0, self.sigma / extent, 0).square()


@torch.inference_mode(False)
@torch.no_grad()
def _scores(trace: Trace, form: Noise) -> Tensor:
    """Return logit and probability of the class, means over the samples: (B, K, 2).

    The scores of constant channels are 0.
    """
    channels = varying_channels(trace.activations)

    def image_scores(row: int) -> Tensor:
        image = trace.images[row]
        maps = trace.activations[row, channels[row]]
        (generator,) = trace.generators(form.seed, slice(row, row + 1))
        draws = form.draws(image, generator)

        def masked(copies: slice) -> Tensor:
            index = torch.arange(copies.start, copies.stop, device=maps.device)
            return form.masked(image, maps[index % len(maps)], draws[index // len(maps)])

        table = maps.new_zeros(channels.shape[1], 2)
        copy_scores = masked_scores(trace, row, form.samples * len(maps), masked)
        table[channels[row]] = copy_scores.unflatten(0, (form.samples, -1)).mean(0)
        return table

    return trace.per_image(image_scores)
