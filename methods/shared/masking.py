"""What all methods share that mask the image and run the whole network again: masks, masked passes, weights of scores.

The rows of a pass are masked copies of one image, as many at a time as `trace.cut_model.ablation_memory` (and a CPU's
cache) allows, so an image's values depend on nothing else in its batch, in float32 not by a bit. What scores a set of
channels is kept in the trace (`trace.once`): Score-CAM and IS-CAM's last step run the same masked images once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.division import XY
from axiom_bench.cutting.passes import HELD, pieces, rows_at_once
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown

SCORES = ("logit", "probability")
RANKINGS = ("variance", "mean")


def varying_channels(activations: Tensor) -> Tensor:
    """Channels that aren't the same everywhere, which min-max could not scale: (B, K, H, W) -> bool (B, K)."""
    return activations.amax(XY) != activations.amin(XY)


def top_channels(activations: Tensor, top: int, ranking: str = "variance") -> Tensor:
    """The `top` channels of each image that vary, ranked over positions: (B, K, H, W) -> bool (B, K).

    ranking: "variance" or "mean" of the activations; ties go to the first channel.
    Raises BenchError for another ranking, or for less than one channel.
    """
    if ranking not in RANKINGS:
        raise unknown("ranking of channels", ranking, RANKINGS)
    if top < 1:
        raise BenchError(f"At least one channel must stay, not top={top}.")
    merit = activations.var(XY, correction=0) if ranking == "variance" else activations.mean(XY)
    varying = varying_channels(activations)
    order = merit.masked_fill(~varying, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(varying).scatter(1, order[:, :top], True) & varying


def masks(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps as masks: bilinear at the image's size (align_corners=False), then scaled to [0, 1], a constant one to 0.

    maps: (n, H, W). Returns (n, H', W').
    """
    return minmax(functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0])


def minmax(maps: Tensor) -> Tensor:
    """(maps - minimum) / (maximum - minimum), each its own; a constant map becomes 0. (n, H, W) -> (n, H, W)."""
    low = maps.amin(XY, keepdim=True)
    span = maps.amax(XY, keepdim=True) - low  # both at once, as aminmax, would take ten times as long
    return (maps - low) / torch.where(span == 0, 1, span)


def masked_scores(trace: Trace, image: int, count: int, masked: Callable[[slice], Tensor]) -> Tensor:
    """The explained class's logit and probability for each of `count` changed copies of one image: (count, 2).

    image: its index in the batch. masked: rows of the copies -> (rows, 3, H', W').
    """
    target = int(trace.targets[image])
    passes = chunks(trace, count, trace.images[image])
    parts = [of_class(trace, trace.forward_logits(masked(rows)), target) for rows in passes]
    return torch.cat(parts) if parts else trace.activations.new_zeros(0, 2)


def chunks(trace: Trace, count: int, row: Tensor, held: int = HELD) -> Iterator[slice]:
    """Slices of range(count), equal but for one row, each small enough for the memory of the cut, and a CPU's cache.

    row, held: see `axiom_bench.cutting.passes.rows_at_once`.
    """
    return pieces(count, rows_at_once(trace, row, held))


@torch.inference_mode(False)
@torch.no_grad()
def channel_scores(trace: Trace, channels: Tensor, strength: float = 1.0) -> Tensor:
    """Logit and probability of the class for the image times `strength` times each channel's mask: (B, K, 2).

    channels: bool (B, K), those to run; all others are 0.
    """
    table = trace.activations.new_zeros(*channels.shape, 2)
    size = (trace.images.shape[-2], trace.images.shape[-1])
    for i, image in enumerate(strength * trace.images[: trace.distinct]):
        maps = trace.activations[i, channels[i]]

        def masked(rows: slice, image: Tensor = image, maps: Tensor = maps) -> Tensor:
            return image * masks(maps[rows], size)[:, None]

        table[i, channels[i]] = masked_scores(trace, i, len(maps), masked)
    return trace.with_repeats(table)


def scores_of_all_channels(trace: Trace, strength: float = 1.0) -> Tensor:
    """`channel_scores` of all channels that vary, computed once for all methods: (B, K, 2)."""
    return trace.once(
        ("masked image", strength), lambda: channel_scores(trace, varying_channels(trace.activations), strength)
    )


@torch.inference_mode(False)
@torch.no_grad()
def baseline_scores(trace: Trace) -> Tensor:
    """Logit and probability of each image's class for an image of zeros, which no mask lets through: (B, 1, 2)."""
    logits = trace.forward_logits(torch.zeros_like(trace.images[:1]))
    return torch.cat([of_class(trace, logits, int(target)) for target in trace.targets])[:, None]


def column(score: str) -> int:
    """Where `masked_scores` keeps a score: 0 for "logit", 1 for "probability". Raises BenchError for another."""
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    return SCORES.index(score)


def softmax_over(scores: Tensor, channels: Tensor) -> Tensor:
    """Softmax over the chosen channels, 0 for the others: (B, K), bool (B, K) -> (B, K)."""
    return scores.masked_fill(~channels, -torch.inf).softmax(1).masked_fill(~channels, 0)


def of_class(trace: Trace, logits: Tensor, target: int) -> Tensor:
    """Logit and probability of one class: (n, C) -> (n, 2); `column` says which is where.

    "Logit" is what the trace explains: where that is another output, as a margin, the class's value of that.
    """
    return torch.stack([trace.explained(logits)[:, target], logits.softmax(1)[:, target]], 1)
