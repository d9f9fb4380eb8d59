"""Split a model that no graph describes: its own forward pass, with the layer's output kept or
replaced.

`trunk_and_head` tries these ways last. `ReplayedParts` skips the modules before the layer;
`HookedParts` runs the whole model again for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.capture import ReadingMode
from axiom_bench.cutting.graph_parts import CannotSplit, CutPoint, Sides
from axiom_bench.cutting.images import OtherInputs, joined, other_inputs_for, split_rows
from axiom_bench.cutting.model_copy import hooked
from axiom_bench.errors import BenchError


class HookedParts:
    """Parts of a model that torch.fx can't follow, made by forward hooks on a parameter-sharing
    copy.

    Such a model may decide by its data, so each image runs in a batch of its own. The head is the
    whole model with the layer's output replaced, and costs a whole forward pass per image. The
    sides are the images, the other inputs, and per image the number of the call that is cut, which
    is the last one.
    """

    head_graph: None = None

    def __init__(self, point: CutPoint) -> None:
        self.network = point.network
        self.layer = point.layer
        self.views = point.views
        if isinstance(point.module, torch.jit.ScriptModule):
            raise BenchError(
                f"The layer {point.layer!r} is TorchScript, which can't be cut; choose "
                "another layer, or give the nn.Module that it was made from."
            )

    def trunk(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Compute activations (B, K, H, W) and the sides. Raises BenchError if the model doesn't
        call the layer.
        """
        others = other_inputs_for(self.network.model, len(images))
        activations, calls = joined(self._recorded(*row) for row in split_rows((images, others)))
        return activations, (images, others, calls)

    def head(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute logits (B, C) of the model with the layer's output replaced by the
        activations.
        """
        return torch.cat([self._replaced(*row) for row in split_rows((activations, *sides))])

    def _recorded(self, image: Tensor, others: OtherInputs) -> tuple[Tensor, Tensor]:
        """Run a pass and return the layer's output with the number of its calls, (1,)."""
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            outputs.append(_clone(output))  # the model may change the output in place

        with hooked(self.network.model, self.layer, keep):
            self.network(image.clone(), others)
        if not outputs:
            raise BenchError(
                f"The model never calls the layer {self.layer!r}; choose one that its forward "
                "pass uses."
            )
        activations = outputs[-1] if self.views is None else self.views.join_calls(outputs)
        if not isinstance(activations, Tensor):
            raise BenchError(
                f"The layer {self.layer!r} returns no tensor; choose one that returns (B, K, H, "
                "W) maps."
            )
        return activations, torch.tensor([len(outputs)])

    def _replaced(
        self, activations: Tensor, image: Tensor, others: OtherInputs, calls: Tensor
    ) -> Tensor:
        """Run a pass in which the layer returns the activations."""
        replacements = {int(calls) - 1: activations.clone()}
        if self.views is not None:
            places = enumerate(self.views.places)
            replacements = {
                view.call: self.views.select_maps(activations, number) for number, view in places
            }
        # The replacement comes before the user's hooks, of which one may keep it for a later
        # module, as transformers keeps hidden states. It comes again after those that change it.
        hook = _replacing_hook(replacements)
        first_hook = _replacing_hook(replacements)
        with hooked(self.network.model, self.layer, hook, first_hook):
            logits: Tensor = self.network(image.clone(), others)
            return logits


def _replacing_hook(replacements: Mapping[int, Tensor]) -> Callable[..., object]:
    """Return a forward hook that returns these outputs, by the number of the layer's call."""
    numbers = count()

    def replace(module: nn.Module, inputs: object, output: object) -> object:
        return replacements.get(next(numbers), output)

    return replace


class OtherPath(CannotSplit, BenchError):
    """The model calls other modules than for the image with which it was split.

    Its kept results then belong to other modules, so the step is given up, or the user gets this
    error.
    """


@dataclass
class _Replay:
    """The calls of one pass that end before the layer's cut call, in the order in which they
    begin.

    The trunk fills it, and the head returns its results again.
    """

    # The result of each call before its hooks. A call whose result nothing reads is left out.
    stored: list[object] = field(default_factory=list)
    has_one_path: bool = False  # True if no element that is read decides which modules run
    position: int = 0  # the number of results that were returned again
    layer_calls: int = 0  # the number of calls of the layer until now
    is_inside: bool = False  # True inside a call that is recorded, or after the cut call's hook
    is_past: bool = False  # True from the cut call on
    has_failed: bool = False  # True if the path to the layer may differ for another image
    is_read_after: bool = False  # True if elements are read after the cut call

    def passes(self, is_layer: bool, calls: int) -> bool:
        """Count a call, and return True if it is the layer's cut call, the last of `calls`."""
        self.layer_calls += is_layer
        self.is_past = self.layer_calls == calls
        return self.is_past

    def record_read(self) -> None:
        """Record that elements are read. Around the layer that is a failure: another image may take
        another path to it, or call it once more. A network of one path may read them behind it.
        """
        self.is_read_after |= self.is_past
        self.has_failed |= not self.is_inside and not (self.is_past and self.has_one_path)


class ReplayedParts:
    """Parts of a model whose head runs without the trunk: the trunk's modules return their kept
    results again.

    The head is the model's own forward pass. Each module that is called before the target layer,
    and doesn't contain it, returns its result for this image, and computes nothing. So an ablation
    costs the head only. Modules are replaced for the length of a pass, in a copy that shares the
    model's parameters. No exception ends a pass, since the model's code might catch it. If images
    have mates, or if anything behind the layer reads elements, each image runs in a batch of its
    own. Raises CannotSplit if code around the layer reads elements, since other images may then
    take another path, unless the network says that it has one path.
    """

    head_graph: None = None

    def __init__(self, point: CutPoint) -> None:
        self.network = point.network
        self.name = point.layer
        self.layer = point.module
        self.calls = point.num_calls
        self.is_alone = point.has_mates  # True if each image runs in a batch of its own
        modules = list(self.network.model.modules())
        self._ancestors = [
            module
            for module in modules
            if module is not self.layer and self._contains_layer(module)
        ]
        self._replaced = [
            module
            for module in modules
            if module not in self._ancestors and not isinstance(module, torch.jit.ScriptModule)
        ]
        if self.layer not in self._replaced:
            raise CannotSplit("the layer is TorchScript")
        self._unread = {
            module for parent in self._ancestors for module in self._unread_children(parent)
        }
        has_one_path: bool = getattr(self.network.model, "has_one_path", False)
        replay = _Replay(has_one_path=has_one_path)
        with ReadingMode(replay.record_read):
            self._recorded(replay, point.image, other_inputs_for(self.network.model, 1))
        self.is_alone |= replay.is_read_after

    def trunk(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Compute activations (B, K, H, W) and the sides, which the head needs in addition.

        The sides are the images, the other inputs, and the results of the trunk's modules. The head
        is the model's own forward, so it takes the images again, and each module of the trunk
        returns its stored result instead of computing it.
        """
        others = other_inputs_for(self.network.model, len(images))
        activations, stored = joined(
            self._recorded(_Replay(), *rows) for rows in self._rows(images, others)
        )
        return activations, (images, others, stored)

    def head(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute logits (B, C) of the model with the layer's output replaced by the
        activations.
        """
        return torch.cat([self._replayed(*inputs) for inputs in self._rows(activations, *sides)])

    def _rows(self, *batch: object) -> Iterable[tuple[Any, ...]]:
        """Return the whole batch, or its images one by one if each must run alone."""
        return split_rows(batch) if self.is_alone else [batch]

    def _contains_layer(self, module: nn.Module) -> bool:
        return any(part is self.layer for part in module.modules())

    def _unread_children(self, parent: nn.Module) -> Iterator[nn.Module]:
        """Yield the children of a Sequential whose result only another replaced child reads.

        Their results needn't be kept.
        """
        children = list(parent.children())
        if type(parent) is not nn.Sequential or len(set(children)) < len(children):
            return
        for child, following in pairwise(children):
            if following in self._replaced and not self._contains_layer(child):
                yield child

    def _recorded(
        self, replay: _Replay, images: Tensor, others: OtherInputs
    ) -> tuple[Tensor, list[object]]:
        """Run a pass and return the layer's output with what the modules before it returned."""
        activations: list[Tensor] = []

        def call(
            module: nn.Module, forward: Callable[..., object], *args: object, **kwargs: object
        ) -> object:
            if replay.is_inside:
                replay.has_failed |= module is self.layer
                return forward(*args, **kwargs)
            replay.is_inside = True
            try:
                returned = forward(*args, **kwargs)
            finally:
                replay.is_inside = False
            if replay.is_past:
                return returned
            if not replay.passes(module is self.layer, self.calls) and module not in self._unread:
                replay.stored.append(pytree.tree_map(_clone, returned))
            return returned

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if replay.is_past:
                # the cut call's, and also a later call's, which is a failure
                activations.append(_clone(output))

        with self._replacing(call), hooked(self.network.model, self.name, keep):
            self.network(images.clone(), others)
        if replay.has_failed or len(activations) != 1:
            raise OtherPath(
                "The model's path to the layer depends on the image, and torch.fx can't follow it."
            )
        return activations[0], replay.stored

    def _replayed(
        self, activations: Tensor, images: Tensor, others: OtherInputs, stored: list[object]
    ) -> Tensor:
        """Run the head on the activations, with the stored results of the trunk's modules."""
        replay = _Replay(stored)

        def call(
            module: nn.Module, forward: Callable[..., object], *args: object, **kwargs: object
        ) -> object:
            if replay.is_past:
                return forward(*args, **kwargs)
            if replay.passes(module is self.layer, self.calls):
                return activations
            if module in self._unread:
                # no result is kept, and only a module that is replaced too gets this one
                return args[0]
            if replay.position == len(replay.stored):
                replay.has_failed = True
                return forward(*args, **kwargs)
            replay.position += 1
            return pytree.tree_map(_clone, replay.stored[replay.position - 1])

        def replace(module: nn.Module, inputs: object, output: object) -> object:
            is_cut = replay.is_past and not replay.is_inside
            replay.is_inside |= is_cut
            return activations.clone() if is_cut else output

        with self._replacing(call), hooked(self.network.model, self.name, replace):
            scores: Tensor = self.network(images.clone(), others)
        if replay.has_failed or not replay.is_past or replay.position < len(replay.stored):
            raise OtherPath(
                "The model's path to the layer depends on its activations, and torch.fx can't "
                "follow it."
            )
        return scores

    @contextmanager
    def _replacing(self, call: Callable[..., object]) -> Iterator[None]:
        """Give the modules a forward that calls `call` in this block, and restore them
        afterwards.
        """
        before = [(module, vars(module).get("forward")) for module in self._replaced]
        for module in self._replaced:
            vars(module)["forward"] = partial(call, module, module.forward)
        try:
            yield
        finally:
            for module, forward in before:
                if forward is None:
                    del vars(module)["forward"]
                else:
                    vars(module)["forward"] = forward


def _clone(value: object) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
