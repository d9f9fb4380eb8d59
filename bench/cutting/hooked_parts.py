"""Parts of a model that no graph describes: its own forward pass, with the layer's output kept or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.capture import ReadingMode
from axiom_bench.cutting.graph_parts import CannotSplit
from axiom_bench.cutting.images import OtherInputs, others_of
from axiom_bench.cutting.model_copy import hooked
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.views import Views
from axiom_bench.errors import BenchError


class HookedParts:
    """Parts of a model that torch.fx can't follow: forward hooks on a parameter-sharing copy.

    Such a model may branch on its data, so each image runs in a batch of its own. The head is the whole model with the
    layer's output replaced, so it costs a whole forward pass an image. The sides are the images, per image which call
    of the layer is cut, the last one, and the other inputs. views: of the calls that are cut instead, if there are any.
    """

    head_graph: None = None

    def __init__(self, network: ScoredNetwork, layer: str, views: Views | None = None) -> None:
        self.network = network
        self.layer = layer
        self.views = views
        if isinstance(network.model.get_submodule(layer), torch.jit.ScriptModule):
            raise BenchError(
                f"The layer {layer!r} is TorchScript, where nothing can be cut; choose another layer, or give the "
                "nn.Module that it was made from."
            )

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and the sides. Raises BenchError where the model doesn't call the layer."""
        activations, calls, others = [], [], others_of(self.network.model, len(images))
        for image, *others_of_image in zip(*(each.split(1) for each in (images, *others)), strict=True):
            outputs: list[Any] = []

            def keep(module: nn.Module, inputs: Any, output: Any, outputs: list[Any] = outputs) -> None:
                outputs.append(output.clone() if isinstance(output, Tensor) else output)  # it may be changed in place

            self._run(image, tuple(others_of_image), keep)
            if not outputs:
                raise BenchError(
                    f"The model never calls the layer {self.layer!r}; choose one that its forward pass uses."
                )
            activations.append(outputs[-1] if self.views is None else self.views.of_calls(outputs))
            calls.append(len(outputs))
        if not all(isinstance(part, Tensor) for part in activations):
            raise BenchError(f"The layer {self.layer!r} returns no tensor; choose one that returns (B, K, H, W) maps.")
        return torch.cat(activations), (images, torch.tensor(calls), *others)

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C) of the model with the layer's output replaced by the activations."""
        rows = zip(*(each.split(1) for each in (activations, *sides)), strict=True)
        return torch.cat([self._head_of_image(*row) for row in rows])

    def _head_of_image(self, activations: Tensor, image: Tensor, call: Tensor, *others: Tensor) -> Tensor:
        count = 0

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal count
            count += 1
            if self.views is None:
                return activations.clone() if count == call else output
            numbers = {view.call: number for number, view in enumerate(self.views.places)}
            return self.views.maps_of(activations, numbers[count - 1]) if count - 1 in numbers else output

        return self._run(image, others, replace)

    def _run(self, image: Tensor, others: OtherInputs, hook: Callable[..., Any]) -> Any:
        with hooked(self.network.model, self.layer, hook):
            return self.network(image.clone(), others)


class OtherPath(CannotSplit, BenchError):
    """The model calls other modules than for the image that it was split with."""


@dataclass
class _Replay:
    """The calls of one pass that end before the layer's cut call, by the order in which they begin.

    stored: What each returned before its hooks. A call whose result nothing reads is left out.
    """

    stored: list[Any] = field(default_factory=list)
    position: int = 0
    layer_calls: int = 0
    is_inside: bool = False
    is_past: bool = False
    has_failed: bool = False
    is_read_after: bool = False

    def read(self) -> None:
        """Remember that elements are read. Around the layer that is a failure: another image may take another path."""
        self.is_read_after |= self.is_past
        self.has_failed |= not self.is_inside


class ReplayedParts:
    """Parts of a model whose head runs without the trunk: what the trunk's modules returned is kept and returned again.

    The head is the model's own forward pass. Each module that is called before the target layer, and doesn't contain
    it, returns what it returned for this image, and computes nothing. So an ablation costs the head only. Modules are
    replaced for the length of a pass, in a copy that shares the model's parameters. No exception ends a pass, since the
    model's code might catch it.

    Args:
        network: The model and its scores.
        layer: The target layer.
        calls: The number of the layer's calls in a pass; the last one is cut.
        image: An image (1, C, H', W').
        alone: Whether each image runs in a batch of its own. It does in any case if a module behind the layer reads
            elements.

    Raises:
        CannotSplit: if code around the layer reads elements, so that other images may take another path.
    """

    head_graph: None = None

    def __init__(self, network: ScoredNetwork, layer: str, calls: int, image: Tensor, alone: bool) -> None:
        self.network = network
        self.name = layer
        self.layer = network.model.get_submodule(layer)
        self.calls = calls
        self.alone = alone
        modules = list(network.model.modules())
        self._ancestors = [module for module in modules if module is not self.layer and self._contains_layer(module)]
        self._replaced = [
            module
            for module in modules
            if module not in self._ancestors and not isinstance(module, torch.jit.ScriptModule)
        ]
        if self.layer not in self._replaced:
            raise CannotSplit("the layer is TorchScript")
        self._unread = {module for parent in self._ancestors for module in self._unread_children(parent)}
        replay = _Replay()
        with ReadingMode(replay.read):
            self._recorded(replay, image, others_of(network.model, 1))
        self.alone |= replay.is_read_after

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W), and the sides: images, other inputs, and what the modules of the trunk returned."""
        others = others_of(self.network.model, len(images))
        passes = [self._recorded(_Replay(), *inputs) for inputs in self._rows(images, others)]
        activations, stored = (_joined(parts) for parts in zip(*passes, strict=True))
        return activations, (images, others, stored)

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C) of the model with the layer's output replaced by the activations."""
        return torch.cat([self._replayed(*inputs) for inputs in self._rows(activations, *sides)])

    def _rows(self, *batch: Any) -> Iterator[Any]:
        if not self.alone:
            yield batch
            return
        for row in range(len(batch[0])):
            yield pytree.tree_map(partial(_row, row), batch)

    def _contains_layer(self, module: nn.Module) -> bool:
        return any(part is self.layer for part in module.modules())

    def _unread_children(self, parent: nn.Module) -> Iterator[nn.Module]:
        """The children of a Sequential whose result only another replaced child reads."""
        children = list(parent.children())
        if type(parent) is not nn.Sequential or len(set(children)) < len(children):
            return
        for child, following in pairwise(children):
            if following in self._replaced and not self._contains_layer(child):
                yield child

    def _recorded(self, replay: _Replay, images: Tensor, others: OtherInputs) -> tuple[Tensor, list[Any]]:
        """Run a pass and return the layer's output with what the modules before it returned."""
        activations: list[Any] = []

        def call(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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
            replay.layer_calls += module is self.layer
            if replay.layer_calls == self.calls:
                replay.is_past = True
            elif module not in self._unread:
                replay.stored.append(pytree.tree_map(_clone, returned))
            return returned

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if replay.is_past:
                activations.append(_clone(output))  # of the cut call, and of one more if there is one

        with self._replacing(call), hooked(self.network.model, self.name, keep):
            self.network(images.clone(), others)
        if replay.has_failed or len(activations) != 1:
            raise OtherPath("The model's path to the layer depends on the image, and torch.fx can't follow it.")
        return activations[0], replay.stored

    def _replayed(self, activations: Tensor, images: Tensor, others: OtherInputs, stored: list[Any]) -> Tensor:
        """Run the head on the activations."""
        replay = _Replay(stored)

        def call(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if replay.is_past:
                return forward(*args, **kwargs)
            replay.layer_calls += module is self.layer
            if replay.layer_calls == self.calls:
                replay.is_past = True
                return activations
            if module in self._unread:
                return args[0]
            if replay.position == len(replay.stored):
                replay.has_failed = True
                return forward(*args, **kwargs)
            replay.position += 1
            return pytree.tree_map(_clone, replay.stored[replay.position - 1])

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            is_cut = replay.is_past and not replay.is_inside
            replay.is_inside |= is_cut
            return activations.clone() if is_cut else output

        with self._replacing(call), hooked(self.network.model, self.name, replace):
            scores = self.network(images.clone(), others)
        if replay.has_failed or not replay.is_past or replay.position < len(replay.stored):
            raise OtherPath("The model's path to the layer depends on its activations, and torch.fx can't follow it.")
        return scores

    @contextmanager
    def _replacing(self, call: Callable[..., Any]) -> Iterator[None]:
        """Give the modules in this block a forward that asks `call`, and take it away again."""
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


def _row(row: int, value: Any) -> Any:
    return value[row : row + 1] if isinstance(value, Tensor) else value


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _joined(parts: tuple[Any, ...]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return pytree.tree_map(lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *parts)
