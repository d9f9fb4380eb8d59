"""Masks, masked forward passes and weights from scores, for methods that mask the image.

The rows of a pass are masked copies of one image, as many at once as fit into memory and a
CPU's cache. So an image's values don't depend on the rest of its batch, in float32 not even by a
bit. The trace keeps the scores of channels (`trace.once`): Score-CAM and the last step of IS-CAM
share their masked images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace, rows_of_images
from axiom_bench.errors import BenchError, InvalidParameter, invalid_choice

SCORES = ("logit", "probability")
RANKINGS = ("variance", "mean")


def varying_channels(activations: Tensor) -> Tensor:
    """Return which channels aren't constant, so that min-max can scale them.

    Args:
        activations: The layer's maps, (B, K, H, W).

    Returns:
        True for channels with two different values, bool (B, K).
    """
    return activations.amax(axes(activations)) != activations.amin(axes(activations))


def top_channels(activations: Tensor, top: int, ranking: str = "variance") -> Tensor:
    """Return the `top` varying channels of each image by their ranking.

    Args:
        activations: The layer's maps, (B, K, H, W).
        top: The number of channels, at least 1.
        ranking: "variance" or "mean" of the activations over positions. Of equal channels, the
            first one is taken.

    Returns:
        True for the chosen channels, bool (B, K).

    Raises:
        BenchError: If the ranking is unknown or top < 1.
    """
    if ranking not in RANKINGS:
        raise invalid_choice("ranking of channels", ranking, RANKINGS)
    if top < 1:
        raise InvalidParameter(
            f"Invalid top={top}; give the number of channels to keep, at least 1."
        )
    space = axes(activations)
    rank = (
        activations.var(space, correction=0) if ranking == "variance" else activations.mean(space)
    )
    # Constant channels come last, and aren't chosen even if fewer than `top` others exist.
    varying = varying_channels(activations)
    order = rank.masked_fill(~varying, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(varying).scatter(1, order[:, :top], True) & varying


def masks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps resized to the image and scaled to [0, 1]; a constant map becomes 0.

    Args:
        maps: The maps, (n, H, W).
        size: The image's sides, (H', W').

    Returns:
        The masks, (n, H', W'), resized bilinearly with align_corners=False.
    """
    return minmax(resized(maps, size))


def minmax(maps: Tensor) -> Tensor:
    """Return (map - minimum) / (maximum - minimum) of each map; a constant map becomes 0.

    Args:
        maps: The maps, (n, H, W).

    Returns:
        The scaled maps, (n, H, W).
    """
    space = axes(maps, 1)
    low = maps.amin(space, keepdim=True)
    span = maps.amax(space, keepdim=True) - low  # torch.aminmax takes ten times as long
    return (maps - low) / torch.where(span == 0, 1, span)


def masked_scores(
    trace: Trace, image: int, count: int, masked: Callable[[slice], Tensor]
) -> Tensor:
    """Return logit and probability of the explained class for masked copies of one image.

    Args:
        trace: The trace of the batch.
        image: The image's index in the batch.
        count: The number of masked copies.
        masked: Given a slice of range(count), returns these copies, (rows, 3, H', W').

    Returns:
        The logit and the probability of each copy, (count, 2).
    """
    parts = [
        scores_of_copies(trace, [image], masked(rows))[0] for rows in pass_slices(trace, count)
    ]
    return torch.cat(parts) if parts else trace.activations.new_zeros(0, 2)


def scores_of_copies(trace: Trace, rows: Sequence[int], copies: Tensor) -> Tensor:
    """Return logit and probability of the explained class of each row for copies of their image.

    Args:
        trace: The trace of the batch.
        rows: The rows of one image, each with a class of its own.
        copies: Masked copies of this image, (n, 3, H', W'), as many as fit into one pass.

    Returns:
        The logit and the probability of each copy, (rows, n, 2).
    """
    logits = trace.network[rows[0] : rows[0] + 1].forward_logits(copies)
    return torch.stack([class_scores(trace, logits, int(trace.targets[row])) for row in rows])


def maps_of_images(trace: Trace, compute: Callable[[list[int]], Tensor]) -> Tensor:
    """Call a function for the rows of one image at a time, and return the maps of all rows.

    An image may have one row for each of its labels. These rows share the image's masked copies.

    Args:
        trace: The trace of the batch.
        compute: A function from the valid rows of one image to their maps, (n, H', W').

    Returns:
        The maps, (B, H', W'). Padded rows repeat the last valid row's map.
    """
    numbers = rows_of_images(trace).numbers[: trace.num_valid]
    _, counts = numbers.unique_consecutive(return_counts=True)
    rows_by_image = torch.arange(trace.num_valid).split(counts.tolist())
    maps = torch.cat([compute(rows.tolist()) for rows in rows_by_image])
    padding = maps[-1:].expand(trace.num_padding, *maps.shape[1:])
    return torch.cat([maps, padding])


def pass_slices(trace: Trace, count: int, with_gradient: bool = False) -> Iterator[slice]:
    """Divide range(count) into slices of almost equal length, each small enough for one pass.

    Args:
        trace: The trace whose network runs the passes.
        count: The number of rows to run.
        with_gradient: True if the passes are differentiated, which takes more memory; see
            `axiom_bench.cutting.passes.Limits`.

    Returns:
        The slices, whose lengths differ by at most one.
    """
    return pieces(count, trace.cut_model.rows_at_once(trace.images[0], with_gradient))


# Tensors of inference mode can't be part of an autograd graph, and other methods use the same ones.
@torch.inference_mode(False)
@torch.no_grad()
def channel_scores(trace: Trace, channels: Tensor, strength: float = 1.0) -> Tensor:
    """Return logit and probability of the class for the image under each channel's mask.

    Args:
        trace: The trace of the batch.
        channels: The channels to run, bool (B, K).
        strength: The factor of the masked image.

    Returns:
        The logit and the probability per channel, (B, K, 2), 0 for channels that don't run.
    """
    size = trace.images.shape[2:]

    def image_scores(row: int) -> Tensor:
        image = strength * trace.images[row]
        maps = trace.activations[row, channels[row]]
        table = maps.new_zeros(channels.shape[1], 2)
        table[channels[row]] = masked_scores(
            trace, row, len(maps), lambda rows: image * masks(maps[rows], size)[:, None]
        )
        return table

    return trace.per_image(image_scores)


def scores_of_all_channels(trace: Trace, strength: float = 1.0) -> Tensor:
    """Return the `channel_scores` of all varying channels, computed once for all methods.

    Args:
        trace: The trace of the batch.
        strength: The factor of the masked image.

    Returns:
        The logit and the probability per channel, (B, K, 2), 0 for constant channels.
    """
    return trace.once(
        ("masked image", strength),
        lambda: channel_scores(trace, varying_channels(trace.activations), strength),
    )


@torch.inference_mode(False)
@torch.no_grad()
def baseline_scores(trace: Trace) -> Tensor:
    """Return logit and probability of each image's class for an image of zeros.

    Args:
        trace: The trace of the batch.

    Returns:
        The logit and the probability, (B, 1, 2).
    """
    # without other inputs, the output for zeros is the same for all images
    rows = torch.arange(len(trace) if trace.other_inputs else 1)
    zeros = torch.zeros_like(trace.images[rows])
    logits = trace.network.forward_logits(zeros, rows).expand_as(trace.logits)
    scores = [
        class_scores(trace, image_logits, target)
        for image_logits, target in zip(logits.split(1), trace.targets.tolist(), strict=True)
    ]
    return torch.cat(scores)[:, None]


def class_scores(trace: Trace, logits: Tensor, target: int) -> Tensor:
    """Return logit and probability of one class, in the order of SCORES.

    Args:
        trace: The trace whose output is explained. If this is another output than the logits,
            such as a margin, "logit" is its value for the class.
        logits: The network's logits, (n, C).
        target: The index of the class.

    Returns:
        The logit and the probability, (n, 2).
    """
    logit = trace.network.explained(logits)[:, target]
    probability = logits.softmax(1)[:, target]
    return torch.stack([logit, probability], 1)


def score_index(trace: Trace, score: str) -> int:
    """Return the index of a score in SCORES, and so in the last dimension of `class_scores`.

    Args:
        trace: The trace whose output is explained.
        score: "logit" or "probability".

    Returns:
        The index, 0 or 1.

    Raises:
        BenchError: If the score is unknown, or if it is "probability" and the trace has none.
    """
    if score not in SCORES:
        raise invalid_choice("score", score, SCORES)
    if score == "probability" and not trace.has_probability:
        if trace.logits.shape[1] == 1:
            reason = "the network has one logit"
        else:
            reason = f"those of the output {trace.cut_model.output.name} don't"
        raise BenchError(
            "score=probability needs scores of two or more classes that exclude each other, and "
            f"{reason}; set score=logit in the method's params."
        )
    return SCORES.index(score)


def softmax_over(scores: Tensor, channels: Tensor) -> Tensor:
    """Compute the softmax over the chosen channels; the other channels get 0.

    Args:
        scores: A score per channel, (B, K).
        channels: The chosen channels, bool (B, K).

    Returns:
        The softmax, (B, K).
    """
    return scores.masked_fill(~channels, -torch.inf).softmax(1).masked_fill(~channels, 0)
