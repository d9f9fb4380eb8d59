"""Compute all K drops of a batch: S - S_k, the loss of score when channel k of the activations is
set to zero.

Operations that keep channels apart come first, for all ablations together. The layers after
them take a closed form, a chain of linear layers, or one row per ablation. A head that can't be
read as a graph runs once per channel, which is exact for any head. If the cut has a budget, such as
for inner layers, only some channels are ablated, and the others get the first-order term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.batched import (
    TENSORS_AT_ONCE,
    Differences,
    channelwise_differences,
    linear_chain_of,
)
from axiom_bench.cutting.ablation.graph import (
    AVERAGE_POOL,
    CLAMP,
    IDENTITY,
    MEAN,
    RESHAPE,
    HeadGraph,
    Values,
    clamp_difference,
    first_input,
    is_pointwise,
)
from axiom_bench.cutting.graph_parts import Sides
from axiom_bench.cutting.numerics import axes, dead_channels
from axiom_bench.cutting.trunk_and_head import SideKind, select

if TYPE_CHECKING:
    from axiom_bench.cutting.ablation.few_tokens import FewTokens
    from axiom_bench.cutting.ablation.rows import AblationRows

# activations (R, K, *space) and their side values -> logits (R, C)
HeadPass = Callable[[Tensor, Sides], Tensor]

# A pass holds several tensors of the image's or the maps' size at once; this many is generous for
# the usual networks.
TENSORS_IN_A_PASS = 32
# the number of channels outside the budget that are also ablated, to estimate the error of the
# others
SAMPLE = 32
# At most one sum in 20 is more than this many standard deviations above its mean, however skewed it
# is (Cantelli).
DEVIATIONS = 19**0.5


def ablation_drops(
    head: HeadGraph | HeadPass,
    kinds: list[SideKind],
    activations: Tensor,
    sides: Sides,
    targets: Tensor,
    memory: int,
    values: Values | None = None,
    channels: Tensor | None = None,
    inner_bytes: int = 0,
) -> Tensor:
    """Compute S - S_k for every channel k set to zero: (B, M, K). A dead channel (F_k = 0) has
    exactly 0.

    M scores of each image share all that the head computes before them.

    Args:
        head: The head's graph, if it can be read: then no two scores are subtracted. Otherwise a
            function that runs a whole pass.
        kinds: The kinds of the side values.
        activations: F, (B, K, *space).
        sides: The values that cross the cut in addition to the activations.
        targets: The explained classes, (B, M).
        memory: The bytes that everything may take in addition to the arguments.
        values: The values of the graph's nodes, if the trace has them.
        channels: The channels to ablate, (B, K) bool; the others get 0. None: all channels.
        inner_bytes: The bytes that a row takes inside a head that isn't a graph.
    """
    live = ~dead_channels(activations)
    if channels is not None:
        live = channels & live
    if not isinstance(head, HeadGraph):
        return brute_force_drops(
            head, kinds, activations, sides, targets, memory, live, inner_bytes
        )
    at_once = max(1, memory // (4 * max(1, head.bytes_per_image)))
    placeholders = [node for node in head.nodes if node.op == "placeholder"][1:]
    side_kinds = dict(zip(placeholders, kinds, strict=True))
    parts = []
    for images in torch.arange(len(activations), device=activations.device).split(at_once):
        # The trace's own values serve if all of its images fit into one group.
        if values is None or len(images) < len(activations):
            group_sides = select(sides, kinds, images, len(activations))
            values = head.evaluate(activations[images], group_sides)
        group = ImageGroup(
            head=head,
            values=values,
            channelwise=channelwise_differences(head, values),
            side_kinds=side_kinds,
            targets=targets[images],
            live=live[images],
            memory=memory,
        )
        parts.append(-_score_differences(group) * group.live[:, None])
    return torch.cat(parts).to(activations.dtype)


@dataclass(frozen=True)
class ImageGroup:
    """The images whose values fit into memory together. G is their number."""

    head: HeadGraph
    values: Values  # by node of the head
    channelwise: Differences  # the differences that keep channels apart, by node of the head
    side_kinds: dict[fx.Node, SideKind]  # by node of the head
    targets: Tensor  # the explained classes, (G, M)
    live: Tensor  # the channels to ablate, (G, K) bool; none of them is all zero
    memory: int  # bytes


def has_closed_form(head: HeadGraph, values: Values) -> bool:
    """Return True if only operations on single channels lie before the class layer, as with global
    average pooling.

    Then a budget of channels saves nothing, and all drops are exact.
    """
    if head.class_layer is None:
        return False
    return first_input(head.class_layer) in channelwise_differences(head, values)


def _score_differences(group: ImageGroup) -> Tensor:
    """Compute S_k - S of a group, (G, M, K), in the fastest way that the head allows."""
    class_layer = group.head.class_layer
    if class_layer is not None and class_layer.all_input_nodes[0] in group.channelwise:
        before = group.channelwise[class_layer.all_input_nodes[0]]

        def score(targets: Tensor) -> Tensor:
            class_difference = _class_row(group, class_layer, before, targets)
            return _tail(group, class_difference, slice(None), targets)

        return torch.stack([score(targets) for targets in group.targets.T], 1)
    chain = linear_chain_of(group.head, group.values, group.channelwise)
    if chain is not None:
        scores = [
            chain.scores(group.values, targets, group.live, group.memory)
            for targets in group.targets.T
        ]
        return torch.stack(scores, 1)
    # imported late: most networks need no rows
    from axiom_bench.cutting.ablation.rows import (
        AblationRows,
    )

    if group.head.few is not None and group.head.rows is not None:
        # Steps that keep tokens apart are computed only for the tokens that the head reads.
        few: FewTokens = group.head.few
        group = replace(
            group,
            head=group.head.rows,
            values=few.copied_values(group.values),
            channelwise=few.renamed(group.channelwise),
            side_kinds=few.copied_side_kinds(group.side_kinds),
        )
    differences = torch.zeros(
        (*group.targets.shape, group.live.shape[1]),
        dtype=group.values[group.head.activations].dtype,
        device=group.live.device,
    )
    # channels in half of the memory
    at_once = max(1, group.memory // (2 * TENSORS_AT_ONCE * group.head.widest))
    for image, live in enumerate(group.live):
        for channels in live.nonzero()[:, 0].split(at_once):
            rows = AblationRows(
                head=group.head,
                values=group.values,
                channelwise=group.channelwise,
                side_kinds=group.side_kinds,
                image=image,
                channels=channels,
            )
            scores_of_rows = _scores_of_rows(group, rows)  # bf16 if the head runs in it
            differences[image, :, channels] = scores_of_rows.to(differences.dtype)
    return differences


def _scores_of_rows(group: ImageGroup, rows: AblationRows) -> Tensor:
    """Compute S_k - S of some of the ablations of one image: (M, n)."""
    targets = group.targets[rows.image]
    class_layer = group.head.class_layer
    if class_layer is None:
        return rows.last_difference(group.head.logits)[:, targets].T
    before = rows.last_difference(class_layer.all_input_nodes[0])
    layer = group.head.layer(class_layer)
    image = slice(rows.image, rows.image + 1)
    is_linear = isinstance(layer, nn.Linear)
    scores = []
    for target in targets.split(1):
        weight = layer.weight[target]
        class_difference = (
            before @ weight[0] if is_linear else layer._conv_forward(before, weight, None)[:, 0]
        )
        scores.append(_tail(group, class_difference[None], image, target)[0])
    return torch.stack(scores)


def _class_row(
    group: ImageGroup, class_layer: fx.Node, difference: Tensor, targets: Tensor
) -> Tensor:
    """Compute the class layer's difference for one class of each image, for all ablations: (G, K,
    ...).

    Each row of the class layer's weight is one class, so the other rows aren't needed.
    """
    layer = group.head.layer(class_layer)
    weight = layer.weight[targets]
    drops: Tensor
    if isinstance(layer, nn.Linear):
        drops = (weight.reshape(difference.shape) * difference).sum(-1)
        return drops
    if is_pointwise(layer):
        drops = weight * difference
        return drops
    # One depthwise convolution: every channel of every image has its own kernel.
    kernels = weight.flatten(0, 1)[:, None]
    maps = difference.flatten(0, 1)[None]
    convolve = getattr(nn.functional, f"conv{maps.ndim - 2}d")
    row = convolve(maps, kernels, None, layer.stride, layer.padding, layer.dilation, len(kernels))
    drops = row[0].unflatten(0, difference.shape[:2])
    return drops


def _tail(group: ImageGroup, difference: Tensor, images: slice, targets: Tensor) -> Tensor:
    """Compute the difference of the score, (G, n), from the difference of the explained class, (G,
    n, ...).

    `images` are the images of the group that the difference belongs to, and `targets` their
    classes, (G,).
    """
    for node in group.head.tail:
        name = group.head.operation(node)
        values = group.values[node.all_input_nodes[0]][images]
        # of the explained class
        x = values[torch.arange(len(values), device=values.device), targets][:, None]
        if name in CLAMP:
            difference = clamp_difference(x, difference, *CLAMP[name])
        elif name in RESHAPE:
            difference = difference.flatten(2).squeeze(2) if difference.ndim > 2 else difference
        elif name in MEAN:
            difference = difference.mean(axes(difference), keepdim=True)
        elif name in AVERAGE_POOL:
            difference = group.head.apply(node, lambda source, pooled=difference: pooled)  # type: ignore[misc]
        elif name not in IDENTITY:
            difference = group.head.evaluated_difference(node, x, difference)
    return difference.reshape(difference.shape[:2])


def brute_force_drops(
    head: HeadPass,
    kinds: list[SideKind],
    activations: Tensor,
    sides: Sides,
    targets: Tensor,
    memory: int,
    live: Tensor | None = None,
    inner_bytes: int = 0,
) -> Tensor:
    """Compute S - S_k by setting each live map to zero in turn: (B, M, K). Rows are batched as
    `memory` (bytes) allows.

    Args:
        head: A function that runs a whole pass of the head.
        kinds: The kinds of the side values.
        activations: F, (B, K, *space).
        sides: The values that cross the cut in addition to the activations.
        targets: The explained classes, (B, M).
        memory: The bytes that a pass may take.
        live: The channels to ablate, (B, K) bool. None: all channels that aren't dead.
        inner_bytes: The bytes that a row takes inside the head.
    """
    batch, num_channels = activations.shape[:2]
    drops = activations.new_zeros(*targets.shape, num_channels)
    scores = head(activations, sides).gather(1, targets)
    if live is None:
        live = ~dead_channels(activations)
    images, channels_of_images = live.nonzero(as_tuple=True)
    row_bytes = TENSORS_IN_A_PASS * activations[0].numel() * activations.element_size()
    side_tensors = [side for side in pytree.tree_leaves(sides) if isinstance(side, Tensor)]
    row_bytes += sum(side.nbytes for side in side_tensors) // batch
    # Rows of several images share a pass, so that the last channels of each image fill it too.
    at_once = max(1, memory // (row_bytes + inner_bytes))
    for start in range(0, len(images), at_once):
        rows = images[start : start + at_once]
        ablated = channels_of_images[start : start + at_once]
        maps = activations[rows]
        maps[torch.arange(len(rows), device=maps.device), ablated] = 0
        logits = head(maps, select(sides, kinds, rows, batch))
        drops[rows, :, ablated] = scores[rows] - logits.gather(1, targets[rows])
    return drops


@dataclass(frozen=True)
class Drops:
    """The drops of a batch.

    Attributes:
        values: The drops, (B, K).
        exact: True for the exact drops, (B, K) bool. The others are first-order terms, sum_xy g F.
        error: A bound of sum_k |error of the drop|, (B,), which holds in 95 % of cases except for
            the sample's error of the variance. 0 if all drops are exact.
    """

    values: Tensor
    exact: Tensor
    error: Tensor

    def __getitem__(self, rows: slice) -> Drops:
        return Drops(self.values[rows], self.exact[rows], self.error[rows])


def within(
    channels: int,
    first_order: Tensor,
    dead: Tensor,
    draws: Sequence[torch.Generator],
    ablate: Callable[[Tensor], Tensor],
) -> Drops:
    """Compute drops within a budget of at most channels + SAMPLE ablations per image.

    The channels of the largest |sum_xy g F| are ablated, and also a random sample of the remaining
    channels. The mean and variance of the sample's |drop - sum_xy g F| bound the sum of this error
    over the channels that aren't ablated.

    Args:
        channels: The number of channels to ablate in addition to the sample.
        first_order: sum_xy g F, (B, K).
        dead: The dead channels, (B, K) bool.
        draws: A generator for each image.
        ablate: A function from the channels to ablate, (B, K) bool, to their drops, (B, K).
    """
    size = first_order.abs().masked_fill(dead, -1)
    ranked = size.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(dead).scatter(1, ranked[:, :channels], True) & ~dead
    remaining = ~(dead | chosen)
    pairs = zip(remaining, draws, strict=True)
    sample = torch.stack([_sample(image_remaining, draw) for image_remaining, draw in pairs])
    values = ablate(chosen | sample)
    exact = chosen | sample | dead
    errors = (values - first_order).abs().double()
    mean = (errors * sample).sum(1) / SAMPLE
    variance = ((errors - mean[:, None]).square() * sample).sum(1) / (SAMPLE - 1)
    num_inexact = (~exact).sum(1)
    # the variance of the sum, and that of the sample's mean, which stands for the sum's own mean
    deviation = (variance * (num_inexact + num_inexact**2 / SAMPLE)).sqrt()
    error = num_inexact * mean + DEVIATIONS * deviation
    return Drops(values.where(exact, first_order), exact, error.to(values))


def _sample(remaining: Tensor, draw: torch.Generator) -> Tensor:
    """Draw SAMPLE of the remaining channels, or take all if there are no more: bool (K,) -> bool
    (K,).

    Their error stands for that of all channels that aren't ablated.
    """
    indices = remaining.nonzero()[:, 0]
    order = torch.randperm(len(indices), generator=draw)
    drawn = indices[order[:SAMPLE].to(remaining.device)]
    return torch.zeros_like(remaining).index_fill(0, drawn, True)
