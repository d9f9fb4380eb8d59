"""All K drops of a batch: channelwise operations first, then a closed form, a chain of linear layers, or rows.

A head that can't be read as a graph is run once a channel, which is exact for any head. Where a budget is set, as for
inner layers, some channels are ablated, and the others have the first-order term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.ablation.batched import TENSORS_AT_ONCE, Differences, channelwise_differences, linear_chain_of
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
from axiom_bench.cutting.numerics import axes, dead_channels
from axiom_bench.cutting.trunk_and_head import SideKind, select

if TYPE_CHECKING:
    from axiom_bench.cutting.ablation.few_tokens import FewTokens
    from axiom_bench.cutting.ablation.rows import AblationRows

HeadPass = Callable[[Tensor, Any], Tensor]  # activations (R, K, *space) and their side values -> logits (R, C)

# A pass holds several tensors of the image's or the maps' size at once; this many is generous for the usual networks.
TENSORS_IN_A_PASS = 32
SAMPLE = 32  # of the channels that are left, ablated too
DEVIATIONS = 19**0.5  # no sum is further above its mean in more than one case of 20 (Cantelli), however skewed


def ablation_drops(
    head: HeadGraph | HeadPass,
    kinds: list[SideKind],
    activations: Tensor,
    sides: Any,
    targets: Tensor,
    memory: int,
    values: Values | None = None,
    channels: Tensor | None = None,
    inner_bytes: int = 0,
) -> Tensor:
    """S - S_k for every channel k set to zero: (B, K); exactly 0 for a dead channel (F_k = 0).

    head: its graph, where that can be read: then no two scores are subtracted; else a function that runs a whole pass.
    memory: bytes for everything beside the arguments. values: those of the graph's nodes, where the trace has them.
    channels: (B, K) bool, those to ablate, where not all are: 0 for the others. inner_bytes: of what a row takes inside
    a head that isn't a graph.
    """
    asked = ~dead_channels(activations) if channels is None else channels & ~dead_channels(activations)
    if not isinstance(head, HeadGraph):
        return brute_force_drops(head, kinds, activations, sides, targets, memory, asked, inner_bytes)
    at_once = max(1, memory // (4 * max(1, head.bytes_per_image)))
    placeholders = [node for node in head.nodes if node.op == "placeholder"][1:]
    side_kinds = dict(zip(placeholders, kinds, strict=True))
    parts = []
    for images in torch.arange(len(activations), device=activations.device).split(at_once):
        if values is None or len(images) < len(activations):
            values = head.evaluate(activations[images], select(sides, kinds, images, len(activations)))
        live = asked[images]
        channelwise = channelwise_differences(head, values)
        group = ImageGroup(head, values, channelwise, side_kinds, targets[images], live, memory)
        parts.append(-_score_differences(group) * live)
    return torch.cat(parts).to(activations.dtype)


@dataclass(frozen=True)
class ImageGroup:
    """Images whose values fit in memory together.

    values, channelwise, side_kinds: by node of the head. targets: (G,). live: (G, K), channels to ablate, none of which
    is all zero.
    """

    head: HeadGraph
    values: Values
    channelwise: Differences
    side_kinds: dict[fx.Node, SideKind]
    targets: Tensor
    live: Tensor
    memory: int


def has_closed_form(head: HeadGraph, values: Values) -> bool:
    """Whether the class layer follows operations on single channels alone, as behind global average pooling."""
    return head.class_layer is not None and first_input(head.class_layer) in channelwise_differences(head, values)


def _score_differences(group: ImageGroup) -> Tensor:
    """S_k - S of a group: (G, K)."""
    class_layer = group.head.class_layer
    if class_layer is not None and class_layer.all_input_nodes[0] in group.channelwise:
        before = group.channelwise[class_layer.all_input_nodes[0]]
        return _tail(group, _class_row(group, class_layer, before), slice(None))
    chain = linear_chain_of(group.head, group.values, group.channelwise)
    if chain is not None:
        return chain.scores(group.values, group.targets, group.live, group.memory)
    from axiom_bench.cutting.ablation.rows import AblationRows  # here: most networks need no rows

    if group.head.few is not None and group.head.rows is not None:
        group = _of_few_tokens(group, group.head.few, group.head.rows)
    differences = torch.zeros_like(group.live, dtype=group.values[group.head.activations].dtype)
    at_once = max(1, group.memory // (2 * TENSORS_AT_ONCE * group.head.widest))  # channels in half of the memory
    for image, live in enumerate(group.live):
        for channels in live.nonzero()[:, 0].split(at_once):
            rows = AblationRows(group.head, group.values, group.channelwise, group.side_kinds, image, channels)
            scores = _scores_of_rows(group, rows)  # bf16 where the head runs in it
            differences[image, channels] = scores.to(differences.dtype)
    return differences


def _of_few_tokens(group: ImageGroup, few: FewTokens, rows: HeadGraph) -> ImageGroup:
    """The same group, whose steps that keep tokens apart are done for those that the head reads."""
    return replace(
        group,
        head=rows,
        values=few.values_of(group.values),
        channelwise=few.renamed(group.channelwise),
        side_kinds=few.kinds_of(group.side_kinds),
    )


def _scores_of_rows(group: ImageGroup, rows: AblationRows) -> Tensor:
    """S_k - S of a part of the ablations of one image: (n,)."""
    class_layer, image = group.head.class_layer, slice(rows.image, rows.image + 1)
    if class_layer is None:
        return rows.difference_at(group.head.logits)[:, group.targets[rows.image]]
    before = rows.difference_at(class_layer.all_input_nodes[0])
    layer = group.head.layer(class_layer)
    weight = layer.weight[group.targets[image]]
    is_linear = isinstance(layer, nn.Linear)
    row = before @ weight[0] if is_linear else layer._conv_forward(before, weight, None)[:, 0]
    return _tail(group, row[None], image)[0]


def _class_row(group: ImageGroup, class_layer: fx.Node, difference: Tensor) -> Tensor:
    """The class layer's difference in the explained class's row alone, for all ablations: (G, K, ...)."""
    layer = group.head.layer(class_layer)
    weight = layer.weight[group.targets]
    if isinstance(layer, nn.Linear):
        return (weight.reshape(difference.shape) * difference).sum(-1)
    if is_pointwise(layer):
        return weight * difference
    # One depthwise convolution: every channel of every image has its own kernel.
    kernels = weight.flatten(0, 1)[:, None]
    maps = difference.flatten(0, 1)[None]
    convolve = getattr(nn.functional, f"conv{maps.ndim - 2}d")
    row = convolve(maps, kernels, None, layer.stride, layer.padding, layer.dilation, len(kernels))
    return row[0].unflatten(0, difference.shape[:2])


def _tail(group: ImageGroup, difference: Tensor, images: slice) -> Tensor:
    """From the class's row to its score: (G, n, ...) -> (G, n)."""
    values, targets = group.values, group.targets[images]
    for node in group.head.tail:
        name = group.head.operation(node)
        x = values[node.all_input_nodes[0]][images]
        x = x[torch.arange(len(x), device=x.device), targets][:, None]
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
    sides: Any,
    targets: Tensor,
    memory: int,
    live: Tensor | None = None,
    inner_bytes: int = 0,
) -> Tensor:
    """S - S_k by setting each live map to zero in turn: (B, K). Rows are batched as `memory` (bytes) allows.

    live: (B, K), None for all that aren't dead. inner_bytes: of what a row takes inside the head.
    """
    batch, channels = activations.shape[:2]
    drops = activations.new_zeros(batch, channels)
    scores = head(activations, sides).gather(1, targets[:, None])[:, 0]
    image, channel = (~dead_channels(activations) if live is None else live).nonzero(as_tuple=True)
    row_bytes = TENSORS_IN_A_PASS * activations[0].numel() * activations.element_size()
    row_bytes += sum(side.nbytes for side in pytree.tree_leaves(sides) if isinstance(side, Tensor)) // batch
    at_once = max(1, memory // (row_bytes + inner_bytes))
    for first in range(0, len(image), at_once):
        rows, ablated = image[first : first + at_once], channel[first : first + at_once]
        maps = activations[rows]
        maps[torch.arange(len(rows), device=maps.device), ablated] = 0
        logits = head(maps, select(sides, kinds, rows, batch))
        drops[rows, ablated] = scores[rows] - logits.gather(1, targets[rows, None])[:, 0]
    return drops


@dataclass(frozen=True)
class Drops:
    """Drops of a batch.

    Attributes:
        values: (B, K).
        exact: (B, K) bool; the others are sum_xy g F.
        error: (B,) what sum_k |error of the drop| is at most, in 95 % of cases and but for the sample's error of the
            variance; 0 where all are exact.
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
    """Drops by at most channels + SAMPLE ablations an image.

    The channels of the largest |sum_xy g F| are ablated, and a random sample of those that are left. Mean and variance
    of the sample's |drop - sum_xy g F| tell the sum over the rest, which are others of the same kind.

    channels: how many. first_order: sum_xy g F, (B, K). dead: (B, K) bool. draws: a generator for each image.
    ablate: bool (B, K), the channels to ablate -> their drops, (B, K).
    """
    size = first_order.abs().masked_fill(dead, -1)
    ranked = size.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(dead).scatter(1, ranked[:, :channels], True) & ~dead
    sample = torch.stack([_sample(*row) for row in zip(~(dead | chosen), draws, strict=True)])
    values = ablate(chosen | sample)
    exact = chosen | sample | dead
    errors = (values - first_order).abs().double()
    mean = (errors * sample).sum(1) / SAMPLE
    variance = ((errors - mean[:, None]).square() * sample).sum(1) / (SAMPLE - 1)
    rest = (~exact).sum(1)
    error = rest * mean + DEVIATIONS * (variance * (rest + rest**2 / SAMPLE)).sqrt()
    return Drops(values.where(exact, first_order), exact, error.to(values))


def _sample(left: Tensor, draw: torch.Generator) -> Tensor:
    """SAMPLE of the channels that are left, all where there are no more: bool (K,) -> bool (K,)."""
    indices = left.nonzero()[:, 0]
    drawn = indices[torch.randperm(len(indices), generator=draw)[:SAMPLE].to(left.device)]
    return torch.zeros_like(left).index_fill(0, drawn, True)
