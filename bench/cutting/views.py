"""Find calls of one layer on several views of an image, such as the windows of sliding-window
inference.

A pass's autograd graph shows on which calls the scores depend. If the views are parts or mirror
images of the image, or of one map, the maps of each call become channels of their own, on a common
grid, at the place of their view.

Without this, only the last call would be cut, and a heatmap would show one window of the image.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from axiom_bench.cutting.model_copy import last_scoring_part, recorded
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.tokens import ChannelOrder
from axiom_bench.errors import BenchError, is_out_of_memory

# the scales of the noise that is added to an image, in the image's standard deviations
SCALES = (
    0.1,
    0.5,
    1,
    2,
)
TOLERANCE = 0.1  # the tolerance for a position in a view, which is a quotient of two gradients
# For each axis: the first position that a view shows, the number of positions, and True if the view
# is flipped.
Box = list[tuple[int, int, bool]]


@dataclass(frozen=True)
class View:
    """The place of a call's maps on the common grid."""

    call: int  # the call's number among the layer's calls of a pass
    grid_part: tuple[Any, ...]  # slices: the part of the grid that the maps fill
    flipped: tuple[int, ...]  # the axes along which the maps are flipped


@dataclass(frozen=True)
class Views:
    """The places of the maps of n calls, (B, K, *space) each, in maps (B, n K, *grid) of the
    images.
    """

    layer: str
    calls: int  # the number of the layer's calls in a pass, n or more
    places: tuple[View, ...]
    grid: tuple[int, ...]

    def joined(self, maps: Sequence[Tensor]) -> Tensor:
        """Put the maps of each view at its place, with zeros around them: (B, n K, *grid)."""
        joined = []
        for view, view_maps in zip(self.places, maps, strict=True):
            whole = view_maps.new_zeros(*view_maps.shape[:2], *self.grid)
            whole[(..., *view.grid_part)] = view_maps.flip(view.flipped)
            joined.append(whole)
        return torch.cat(joined, 1)

    def select_maps(self, activations: Tensor, number: int) -> Tensor:
        """Take the maps of a view out of (B, n K, *grid), as its call returns them."""
        view = self.places[number]
        maps = activations.chunk(len(self.places), 1)[number]
        return maps[(..., *view.grid_part)].flip(view.flipped)

    def join_calls(self, outputs: Sequence[Tensor]) -> Tensor:
        """Join the outputs of all calls of the layer for an image. Raises BenchError for another
        number of calls.
        """
        if len(outputs) != self.calls:
            raise BenchError(
                f"The layer {self.layer!r} is called {self.calls} times for the first image and "
                f"{len(outputs)} times for another; explain images with the same number of views."
            )
        return self.joined([outputs[view.call] for view in self.places])


def find_views(
    network: ScoredNetwork, layer: str, image: Tensor, is_reshaped: bool
) -> Views | None:
    """Find the views on which a layer is called; None if one call depends on all others, or if all
    see the same map.

    Raises BenchError, with another way, if the maps of the calls can't be put on one grid.
    """
    generator = torch.Generator().manual_seed(0)
    spread = float(image.std()) if image.std() > 0 else 1.0
    passes = []
    # a network that chooses its views by their content has other views for another image
    for scale in SCALES:
        noise = torch.randn(image.shape, generator=generator).to(image)
        try:
            calls = _LayerCalls(network, layer, image + scale * spread * noise)
        except Exception as error:  # a user's code may raise anything for such an image
            if is_out_of_memory(error):
                raise
            warnings.warn(
                f"The layer {layer!r} is called several times. The test whether these calls see "
                "different parts of the image failed, because the network fails on a noisy copy "
                f"of it ({error}). Only the last call is explained.",
                stacklevel=2,
            )
            return None
        if len(calls.ends) < 2 or calls.ends[0].output.ndim < 3:
            return None
        passes.append(calls)
    if all(calls.see_one_map() for calls in passes):
        return None
    found = [None if is_reshaped else calls.views() for calls in passes]
    # an activation function that several branches share
    if not any(found) and not calls.have_weights:
        return None
    if found[0] is None or any(views != found[0] for views in found):
        raise BenchError(
            f"The layer {layer!r} is called {len(calls.own)} times for an image, on different "
            f"views or maps without a common grid; {calls.advice()}."
        )
    return found[0]


class _LayerCalls:
    """The calls of a layer in one pass of an image.

    Attributes:
        own: All calls of the layer.
        ends: The calls that the scores depend on and that no other call of the layer depends on.
        starts: For each end, the first call of a module with weights that is called on all views,
            on different values. If there is no such module, the ends.
        common: The autograd nodes that all ends depend on, such as the image's.
        have_weights: True if a module with weights is called on all views. Otherwise the calls may
            be those of an activation function that several branches share.

    A network that slides a window over the image is an example. Each window has an end, at its call
    of the layer, and a start, at its call of the first convolution. The input of the start shows
    the window's place.
    """

    def __init__(self, network: ScoredNetwork, layer: str, image: Tensor) -> None:
        self.layer = layer
        # Only the autograd graph shows which calls depend on which others.
        self.image = image.requires_grad_()
        with (
            torch.enable_grad(),
            ChannelOrder(image.ndim) as self.order,
            recorded(network.model) as self.calls,
        ):
            scores = network(image.clone())
        self.of_scores = _sources(scores.grad_fn)
        target = network.model.get_submodule(layer)
        self.own = [call for call in self.calls if call.module is target]
        sources = {call: _sources(call.node) for call in self.own if call.node in self.of_scores}
        # the last call of each view: no other call of the layer continues from it
        ends = []
        for call in sources:
            other_sources = [
                nodes for other, nodes in sources.items() if other.node is not call.node
            ]
            if not any(call.node in nodes for nodes in other_sources):
                ends.append(call)
        self.ends = ends
        end_sources = [sources[end] for end in self.ends]
        self.common = set.intersection(*end_sources) if end_sources else set()
        # the calls that belong to one view only
        calls_by_view = []
        for end in self.ends:
            others = set().union(*(sources[other] for other in self.ends if other is not end))
            calls_by_view.append(
                [call for call in self.calls if call.node in sources[end] - others]
            )
        modules = [
            {call.module for call in calls if _has_weights(call.module)} for calls in calls_by_view
        ]
        shared = set.intersection(*modules) if modules else set()
        self.have_weights = bool(shared)
        self.starts = self.ends
        for module in [call.module for call in self.calls if call.module in shared]:
            calls = [
                next(call for call in view_calls if call.module is module)
                for view_calls in calls_by_view
            ]
            if not _are_equal([call.input for call in calls]):
                self.starts = calls
                break

    def see_one_map(self) -> bool:
        """Return True if all ends return the same values.

        Then the calls are one step of the network, repeated, and not views.
        """
        return _are_equal([end.output for end in self.ends])

    def views(self) -> Views | None:
        """Find the place of each end on a common grid; None if there is none."""
        if any(
            not _is_map(end.output, self.image) or self.order.channels_last(end.output)
            for end in self.ends
        ):
            return None
        maps = [
            call.output
            for call in self.calls
            if call.node in self.common and _is_map(call.output, self.image)
        ]
        for origin in (self.image, *maps[-1:]):
            boxes = [box for start in self.starts if (box := _box(start.input, origin))]
            if len(boxes) == len(self.starts):
                return self._on_grid(boxes, origin)
        return None

    def _on_grid(self, boxes: Sequence[Box], origin: Tensor) -> Views | None:
        """Return where the maps of each end lie on a common grid; None if there is no such grid.

        `boxes` are the positions of the origin, an image or a map, that the ends show.
        """
        grid = []
        slices_by_axis = []
        for axis, sides in zip(axes(origin), zip(*boxes, strict=True), strict=True):
            counts = [end.output.shape[axis] for end in self.ends]
            lengths = [length for _, length, _ in sides]
            # the positions of the origin per position of a map, which must be the same for all ends
            steps = set(map(Fraction, lengths, counts))
            starts = [first for first, _, _ in sides]
            borders = [place / min(steps) for place in (origin.shape[axis], *starts)]
            if len(steps) > 1 or any(border.denominator > 1 for border in borders):
                return None
            whole, *firsts = map(int, borders)
            grid.append(whole)
            slices_by_axis.append(
                [slice(first, first + count) for first, count in zip(firsts, counts, strict=True)]
            )
        places = []
        grid_parts = zip(*slices_by_axis, strict=True)
        for end, box, grid_part in zip(self.ends, boxes, grid_parts, strict=True):
            box_axes = zip(axes(origin), box, strict=True)
            flipped = tuple(axis for axis, (_, _, is_flipped) in box_axes if is_flipped)
            places.append(View(call=self.own.index(end), grid_part=grid_part, flipped=flipped))
        return Views(self.layer, len(self.own), tuple(places), tuple(grid))

    def advice(self) -> str:
        """Return the advice for the user.

        It is the last layer with maps that is called once, and that all ends depend on or that
        depends on all ends. Without such a layer, it is a part of the model that takes one view.
        """
        names = Counter(call.name for call in self.calls)
        ends = {end.node for end in self.ends}
        for call in reversed(self.calls):
            is_candidate = (
                names[call.name] == 1
                and call.node in self.of_scores
                and _is_map(call.output, self.image)
            )
            if is_candidate and (call.node in self.common or ends <= _sources(call.node)):
                return f"choose {call.name!r}, which is called once"
        part = last_scoring_part(self.calls, self.image.ndim)
        name = self.own[0].name
        if part is not None and name.startswith(f"{part}."):
            arguments = f"network.get_submodule({part!r}), {name.removeprefix(f'{part}.')!r}, view"
            return f"explain a view by the part that takes it: axiom_bench.explain({arguments})"
        return "put the pass of one view into a module of its own, and explain that"


def _are_equal(values: Sequence[object]) -> bool:
    tensors = [value for value in values if isinstance(value, Tensor)]
    return len(tensors) == len(values) and all(
        torch.equal(tensors[0], tensor) for tensor in tensors[1:]
    )


def _sources(node: Node | None) -> set[Node]:
    """Return a node of an autograd graph and all nodes that it depends on.

    A call depends on another one if the other's node is among them.
    """
    found = {node} if node is not None else set()
    waiting = [*found]
    while waiting:
        new = {source for source, _ in waiting.pop().next_functions if source is not None} - found
        found |= new
        waiting += new
    return found


def _is_map(value: object, image: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == image.ndim
        and len(value) == 1 < value[0, 0].numel()
    )


def _box(view: object, origin: Tensor) -> Box | None:
    """Find the part of an origin (1, C, *space) that a view shows pixel by pixel; None if it shows
    anything else.
    """
    if not isinstance(view, Tensor) or view.ndim != origin.ndim or not view.requires_grad:
        return None

    def gradient(weights: Tensor) -> Tensor:
        weights = weights.to(view).expand_as(view)
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(view, origin, weights, **options)[0].sum((0, 1))

    # A view that copies pixels has the gradient 1 at each of them.
    ones = gradient(torch.ones(()))
    shown = ones.nonzero()
    if not len(shown):
        return None
    borders = zip(shown.amin(0).tolist(), shown.amax(0).tolist(), strict=True)
    part = tuple(slice(first, last + 1) for first, last in borders)
    box = []
    for axis, side in zip(axes(view), part, strict=True):
        length = view.shape[axis]
        if side.stop - side.start != length:
            return None
        positions = torch.arange(1.0, length + 1)[(..., *[None] * (view.ndim - axis - 1))]
        # weighted by its position, each pixel's gradient says where the view shows it
        seen = (gradient(positions)[part] / ones[part]).cpu()
        is_same = ((seen - positions).abs() < TOLERANCE).all()
        is_flipped = ((seen - positions.flip(0)).abs() < TOLERANCE).all()
        if not is_same | is_flipped:
            return None
        box.append((side.start, length, not is_same))
    return box


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
