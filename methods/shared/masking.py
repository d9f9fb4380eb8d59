"""Methods that mask the image and run the whole network again: masks, masked passes, weights from
scores.

The rows of a pass are masked copies of one image, as many at once as memory and a CPU's cache hold.
So an image's values don't depend on the rest of its batch, in float32 not by a bit. Scores of
channels are kept in the trace (`trace.once`): Score-CAM and the last step of IS-CAM share their
masked images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown

SCORES = ("logit", "probability")
RANKINGS = ("variance", "mean")


def varying_channels(activations: Tensor) -> Tensor:
    """Channels that aren't constant, so that min-max can scale them: (B, K, H, W) -> bool (B,
    K).
    """
    return activations.amax(axes(activations)) != activations.amin(axes(activations))


def top_channels(activations: Tensor, top: int, ranking: str = "variance") -> Tensor:
    """The `top` varying channels of each image by their ranking: (B, K, H, W) -> bool (B, K).

    ranking: "variance" or "mean" of the activations over positions; ties go to the first channel.
    Raises BenchError for another ranking and for top < 1.
    """
    if ranking not in RANKINGS:
        raise unknown("ranking of channels", ranking, RANKINGS)
    if top < 1:
        raise BenchError(f"Invalid top={top}; give the number of channels to keep, at least 1.")
    space = axes(activations)
    rank = (
        activations.var(space, correction=0) if ranking == "variance" else activations.mean(space)
    )
    varying = varying_channels(activations)
    order = rank.masked_fill(~varying, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(varying).scatter(1, order[:, :top], True) & varying


def masks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps resized to the image (bilinear, align_corners=False) and scaled to [0, 1]; a constant
    map becomes 0.

    maps: (n, H, W). Returns (n, H', W').
    """
    return minmax(resized(maps, size))


def minmax(maps: Tensor) -> Tensor:
    """(map - minimum) / (maximum - minimum) of each map; a constant map becomes 0. (n, H, W) -> (n,
    H, W).
    """
    space = axes(maps, 1)
    low = maps.amin(space, keepdim=True)
    span = maps.amax(space, keepdim=True) - low  # torch.aminmax takes ten times as long
    return (maps - low) / torch.where(span == 0, 1, span)


def masked_scores(
    trace: Trace, image: int, count: int, masked: Callable[[slice], Tensor]
) -> Tensor:
    """Logit and probability of the explained class for `count` masked copies of one image: (count,
    2).

    image: its index in the batch. masked: slice of range(count) -> these copies, (rows, 3, H', W').
    """
    target, network = int(trace.targets[image]), trace.network[image : image + 1]
    slices = pass_slices(trace, count)
    parts = [class_scores(trace, network.forward_logits(masked(rows)), target) for rows in slices]
    return torch.cat(parts) if parts else trace.activations.new_zeros(0, 2)


def pass_slices(trace: Trace, count: int, with_gradient: bool = False) -> Iterator[slice]:
    """Slices of range(count), their lengths equal or one apart, each small enough for one pass.

    with_gradient: see `axiom_bench.cutting.passes.Limits`.
    """
    return pieces(count, trace.cut_model.rows_at_once(trace.images[0], with_gradient))


@torch.inference_mode(False)
@torch.no_grad()
def channel_scores(trace: Trace, channels: Tensor, strength: float = 1.0) -> Tensor:
    """Logit and probability of the class for the image times `strength` times each channel's mask:
    (B, K, 2).

    channels: bool (B, K), the channels to run; the scores of all others are 0.
    """
    size = trace.images.shape[2:]

    def scores(row: int) -> Tensor:
        image, maps = strength * trace.images[row], trace.activations[row, channels[row]]
        table = maps.new_zeros(channels.shape[1], 2)
        table[channels[row]] = masked_scores(
            trace, row, len(maps), lambda s: image * masks(maps[s], size)[:, None]
        )
        return table

    return trace.per_image(scores)


def scores_of_all_channels(trace: Trace, strength: float = 1.0) -> Tensor:
    """`channel_scores` of all channels that vary, computed once for all methods: (B, K, 2)."""
    return trace.once(
        ("masked image", strength),
        lambda: channel_scores(trace, varying_channels(trace.activations), strength),
    )


@torch.inference_mode(False)
@torch.no_grad()
def baseline_scores(trace: Trace) -> Tensor:
    """Logit and probability of each image's class for an image of zeros: (B, 1, 2)."""
    rows = torch.arange(len(trace) if trace.other_inputs else 1)
    logits = trace.network.forward_logits(torch.zeros_like(trace.images[rows]), rows).expand_as(
        trace.logits
    )
    pairs = zip(logits.split(1), trace.targets.tolist(), strict=True)
    return torch.cat([class_scores(trace, of_image, target) for of_image, target in pairs])[:, None]


def class_scores(trace: Trace, logits: Tensor, target: int) -> Tensor:
    """Logit and probability of one class: (n, C) -> (n, 2), in the order of SCORES.

    "Logit" is the output that the trace explains: where that is another one, such as a margin, its
    value for the class.
    """
    return torch.stack(
        [trace.network.explained(logits)[:, target], logits.softmax(1)[:, target]], 1
    )


def score_index(trace: Trace, score: str) -> int:
    """The index of a score in SCORES, and so in the last dimension of `class_scores`.

    Raises BenchError for another score, and for "probability" where the trace has none.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    if score == "probability" and not trace.has_probability:
        name, columns = trace.cut_model.output.name, trace.logits.shape[1]
        reason = (
            "the network has one logit" if columns == 1 else f"those of the output {name} don't"
        )
        raise BenchError(
            "score=probability needs scores of two or more classes that exclude each other, and "
            f"{reason}; set score=logit in the method's params."
        )
    return SCORES.index(score)


def softmax_over(scores: Tensor, channels: Tensor) -> Tensor:
    """Softmax over the chosen channels, 0 for the others: (B, K), bool (B, K) -> (B, K)."""
    return scores.masked_fill(~channels, -torch.inf).softmax(1).masked_fill(~channels, 0)
