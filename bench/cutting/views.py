"""Calls of one layer on several views of an image, such as the windows of sliding-window inference.

A pass's autograd graph shows which calls the scores depend on. If the views are parts or mirror images of the image, or
of one map, the maps of each call become channels of their own, on a common grid, at the place of their view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.model_copy import parts_with_hooks
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.tokens import ChannelOrder
from axiom_bench.errors import BenchError, is_out_of_memory

SCALES = (0.1, 0.5, 1, 2)  # of the noise that is added to an image, in its standard deviations
TOLERANCE = 0.1  # of a position in a view, a quotient of two gradients
Box = tuple[
    tuple[slice, ...], tuple[int, ...]
]  # the positions that a view shows, and the axes along which it is flipped


@dataclass(frozen=True)
class View:
    """The place of a call's maps on the common grid. call: its number among the layer's calls of a pass."""

    call: int
    cells: tuple[Any, ...]  # slices
    flipped: tuple[int, ...]


@dataclass(frozen=True)
class Views:
    """The places of the maps of n calls, (B, K, *space) each, in maps (B, n K, *grid) of the images.

    calls: the number of the layer's calls in a pass, n or more.
    """

    layer: str
    calls: int
    places: tuple[View, ...]
    grid: tuple[int, ...]

    def joined(self, maps: Sequence[Tensor]) -> Tensor:
        """Put the maps of each view at its place, with zeros around them: (B, n K, *grid)."""
        joined = []
        for view, own in zip(self.places, maps, strict=True):
            whole = own.new_zeros(*own.shape[:2], *self.grid)
            whole[(..., *view.cells)] = own.flip(view.flipped)
            joined.append(whole)
        return torch.cat(joined, 1)

    def maps_of(self, activations: Tensor, number: int) -> Tensor:
        """Take the maps of a view out of (B, n K, *grid), as its call returns them."""
        view = self.places[number]
        maps = activations.chunk(len(self.places), 1)[number]
        return maps[(..., *view.cells)].flip(view.flipped)

    def of_calls(self, outputs: Sequence[Tensor]) -> Tensor:
        """Join what all calls of the layer return for an image. Raises BenchError for another number of calls."""
        if len(outputs) != self.calls:
            raise BenchError(
                f"The layer {self.layer!r} is called {self.calls} times for the first image and {len(outputs)} times "
                "for another; explain images with the same number of views."
            )
        return self.joined([outputs[view.call] for view in self.places])


@dataclass(frozen=True, eq=False)
class _Call:
    """A finished call of a module. node: its output's in the autograd graph; None if it isn't made of the image."""

    name: str
    module: nn.Module
    input: Tensor | None
    output: Any
    node: Any


def views_of(network: ScoredNetwork, layer: str, image: Tensor, is_reshaped: bool) -> Views | None:
    """Find the views that a layer is called on; None if one call is made of all others, or all see the same map.

    Raises BenchError, with another way, if the maps of the calls can't be put on one grid.
    """
    generator = torch.Generator().manual_seed(0)
    spread = float(image.std()) if image.std() > 0 else 1.0
    passes = []
    for scale in SCALES:  # a network that chooses its views by what it sees has others for another image
        noise = torch.randn(image.shape, generator=generator).to(image)
        try:
            calls = _LayerCalls(network, layer, image + scale * spread * noise)
        except Exception as error:  # a user's code may raise anything for such an image
            if is_out_of_memory(error):
                raise
            return None
        if len(calls.ends) < 2:
            return None
        passes.append(calls)
    if all(calls.see_one_map() for calls in passes):
        return None
    found = [None if is_reshaped else calls.views() for calls in passes]
    if not any(found) and not calls.have_weights:  # an activation function that several branches share
        return None
    if found[0] is None or any(views != found[0] for views in found):
        raise BenchError(
            f"The layer {layer!r} is called {len(calls.own)} times for an image, on different views or maps without a "
            f"common grid; {calls.other_way()}."
        )
    return found[0]


class _LayerCalls:
    """The calls of a layer in one pass of an image.

    own: all of them. ends: those that the scores depend on and no other call of the layer is made of. starts: of each
    end, the first call of a module with weights that is called on all views, and on different values; else the end.
    """

    def __init__(self, network: ScoredNetwork, layer: str, image: Tensor) -> None:
        self.layer = layer
        self.image = image.requires_grad_()
        self.model = network.model
        self.calls: list[_Call] = []
        with torch.enable_grad(), ChannelOrder(image.ndim) as self.order:
            handles = [
                part.register_forward_hook(partial(self._keep, name)) for name, part in parts_with_hooks(self.model)
            ]
            try:
                scores = network(image.clone())
            finally:
                for handle in handles:
                    handle.remove()
        self.of_scores = _sources(scores.grad_fn)
        target = self.model.get_submodule(layer)
        self.own = [call for call in self.calls if call.module is target]
        sources = {call: _sources(call.node) for call in self.own if call.node in self.of_scores}
        self.ends = [
            call
            for call in sources
            if not any(call.node in made for other, made in sources.items() if other.node is not call.node)
        ]
        of_ends = [sources[end] for end in self.ends]
        self.common = set.intersection(*of_ends) if of_ends else set()
        of_views = []
        for end in self.ends:
            others = set().union(*(sources[other] for other in self.ends if other is not end))
            of_views.append([call for call in self.calls if call.node in sources[end] - others])
        modules = [{call.module for call in calls if _has_weights(call.module)} for calls in of_views]
        shared = set.intersection(*modules) if modules else set()
        self.have_weights = bool(shared)
        self.starts = self.ends
        for call in of_views[0] if shared else []:
            if call.module in shared:
                calls = [next(other for other in view if other.module is call.module) for view in of_views]
                if not _are_equal([other.input for other in calls]):
                    self.starts = calls
                    break

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = next((value for value in tree_leaves(inputs) if isinstance(value, Tensor)), None)
        self.calls.append(_Call(name, module, tensor, output, getattr(output, "grad_fn", None)))

    def see_one_map(self) -> bool:
        """Return whether all ends return the same values."""
        return _are_equal([end.output for end in self.ends])

    def views(self) -> Views | None:
        """Find the place of each end on a common grid; None if there is none."""
        maps = [call.output for call in self.calls if call.node in self.common and _is_map(call.output, self.image)]
        for origin in (self.image, *maps[-1:]):
            boxes = [box for start in self.starts if (box := _box(start.input, origin)) is not None]
            if len(boxes) == len(self.starts):
                return self._on_grid(boxes, tuple(origin.shape[2:]))
        return None

    def _on_grid(self, boxes: Sequence[Box], size: tuple[int, ...]) -> Views | None:
        """Make cells of boxes of an image or map of this size; None if no grid has all of them."""
        steps = set()
        for end, (box, _) in zip(self.ends, boxes, strict=True):
            if not _is_map(end.output, self.image) or self.order.channels_last(end.output):
                return None
            steps.add(
                tuple(Fraction(_length(side), cells) for side, cells in zip(box, end.output.shape[2:], strict=True))
            )
        step = steps.pop()
        borders = [size, *(tuple(side.start for side in box) for box, _ in boxes)]
        cells = [tuple(place / each for place, each in zip(border, step, strict=True)) for border in borders]
        if steps or any(place.denominator > 1 for border in cells for place in border):
            return None
        places = []
        for end, (_, flipped), border in zip(self.ends, boxes, cells[1:], strict=True):
            sides = end.output.shape[2:]
            part = tuple(slice(int(first), int(first) + side) for first, side in zip(border, sides, strict=True))
            places.append(View(self.own.index(end), part, flipped))
        return Views(self.layer, len(self.own), tuple(places), tuple(map(int, cells[0])))

    def other_way(self) -> str:
        """Return what to do: the last layer with maps that is called once and that all ends are made of or make."""
        names = Counter(call.name for call in self.calls)
        ends = {end.node for end in self.ends}
        for call in reversed(self.calls):
            is_candidate = names[call.name] == 1 and call.node in self.of_scores and _is_map(call.output, self.image)
            if is_candidate and (call.node in self.common or ends <= _sources(call.node)):
                return f"choose {call.name!r}, which is called once"
        name = self.own[0].name
        for place, sign in enumerate(name):
            outputs = [call.output for call in self.calls if call.name == name[:place] and sign == "."]
            if outputs and all(isinstance(output, Tensor) and output.ndim == 2 for output in outputs):
                arguments = f"network.get_submodule({name[:place]!r}), {name[place + 1 :]!r}, view"
                return f"explain a view by the part that takes it: axiom_bench.explain({arguments})"
        return "put the pass of one view into a module of its own, and explain that"


def _are_equal(values: Sequence[Any]) -> bool:
    tensors = [value for value in values if isinstance(value, Tensor)]
    return len(tensors) == len(values) and all(torch.equal(tensors[0], tensor) for tensor in tensors[1:])


def _sources(node: Any) -> set[Any]:
    """Return a node of an autograd graph and all nodes that it is made of."""
    found = {node} if node is not None else set()
    waiting = [*found]
    while waiting:
        new = {source for source, _ in waiting.pop().next_functions if source is not None} - found
        found |= new
        waiting += new
    return found


def _is_map(value: Any, image: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim == image.ndim and len(value) == 1 < value[0, 0].numel()


def _length(side: slice) -> int:
    return side.stop - side.start


def _box(view: Any, origin: Tensor) -> Box | None:
    """Find the box of an origin (1, C, *space) that a view shows pixel by pixel; None if it shows something else."""
    if not isinstance(view, Tensor) or view.ndim != origin.ndim or not view.requires_grad:
        return None

    def gradient(weights: Tensor) -> Tensor | None:
        weights = weights.to(view).expand_as(view)
        (gradient,) = torch.autograd.grad(view, origin, weights, retain_graph=True, allow_unused=True)
        return None if gradient is None else gradient.sum((0, 1))

    ones = gradient(torch.ones(()))
    if ones is None or not ones.any():
        return None
    box = tuple(slice(int(place.min()), int(place.max()) + 1) for place in ones.nonzero().T)
    flipped = []
    for axis, side in zip(axes(view), box, strict=True):
        length = view.shape[axis]
        positions = torch.arange(1.0, length + 1)[(...,) + (None,) * (view.ndim - axis - 1)]
        along = gradient(positions)
        if along is None or _length(side) != length:
            return None
        seen = (along[box] / ones[box]).cpu()
        if torch.allclose(seen, positions.to(seen).expand_as(seen), rtol=0, atol=TOLERANCE):
            continue
        if not torch.allclose(seen, positions.flip(0).to(seen).expand_as(seen), rtol=0, atol=TOLERANCE):
            return None
        flipped.append(axis)
    return box, tuple(flipped)


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
