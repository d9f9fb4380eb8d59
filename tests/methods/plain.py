"""The tiny networks run without the engine, and pieces of methods spelled out: float64, one image at a time."""

from __future__ import annotations

import hashlib
import math
from functools import cache

import torch
from torch import Tensor, nn

from axiom_bench.testing import Case
from axiom_bench.testing.cases import TinyNetwork

Lines = list[list[float]]


@cache
def model_of(case: Case) -> TinyNetwork:
    """The case's network, which no test changes."""
    return case.model()


def trunk_of(case: Case) -> nn.Sequential:
    return model_of(case).features[: int(case.layer.split(".")[1]) + 1]


def head_of(case: Case) -> nn.Sequential:
    return nn.Sequential(*model_of(case).features[len(trunk_of(case)) :], *model_of(case).head)


def maps_of(case: Case, images: Tensor | None = None) -> Tensor:
    """Activations (B, K, H, W) of images (B, 3, H', W'); None: the case's."""
    with torch.no_grad():
        return trunk_of(case)(case.images() if images is None else images).clone()


def gradient_of(case: Case, maps: Tensor, row: int, target: int) -> Tensor:
    """dS/dF of one image by autograd: (K, H, W)."""
    leaf = maps[row : row + 1].clone().requires_grad_()
    return torch.autograd.grad(head_of(case)(leaf.clone())[0, target], leaf)[0][0]


def chosen(logits: list[float], target: int, score: str) -> float:
    """The class's logit or probability."""
    return logits[target] if score == "logit" else math.exp(logits[target]) / sum(map(math.exp, logits))


def score_of(case: Case, image: Tensor, target: int, score: str) -> float:
    """The same of one image (3, H', W')."""
    with torch.no_grad():
        return chosen(model_of(case)(image[None])[0].tolist(), target, score)


def generator_of(image: Tensor, seed: int) -> torch.Generator:
    """Seeded by the image's pixels in float32 and a number."""
    digest = hashlib.sha256(f"{seed} ".encode() + image.float().numpy().tobytes()).hexdigest()[:16]
    return torch.Generator().manual_seed(int(digest, 16))


def resized(lines: Lines, height: int, width: int) -> Lines:
    """Bilinear, pixel centres at halves, clamped at the border."""

    def taps(position: int, size: int, source: int) -> tuple[int, int, float]:
        at = min(max((position + 0.5) * source / size - 0.5, 0.0), source - 1)
        low = int(at)
        return low, min(low + 1, source - 1), at - low

    answer = []
    for y in range(height):
        top, bottom, down = taps(y, height, len(lines))
        line = []
        for x in range(width):
            left, right, across = taps(x, width, len(lines[0]))
            upper = lines[top][left] * (1 - across) + lines[top][right] * across
            lower = lines[bottom][left] * (1 - across) + lines[bottom][right] * across
            line.append(upper * (1 - down) + lower * down)
        answer.append(line)
    return answer


def scaled(plane: Tensor) -> Tensor:
    """From 0 to 1; zeros where it is constant."""
    low, high = plane.min().item(), plane.max().item()
    return (plane - low) / (high - low) if high > low else torch.zeros_like(plane)
