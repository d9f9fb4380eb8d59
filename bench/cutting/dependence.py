"""Whether a network's scores of an image are a function of that image alone: the same at each call, and in each batch.

A run computes them many times: alone, in batches, of perturbed copies. Where they differ from call to call, no value
would mean anything. Where they differ from batch to batch, images run one at a time.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.errors import BenchError, is_out_of_memory

FORWARD = "its forward"
MORE_PASSES = 32  # of a network that draws: two passes may agree by chance, as with a dropout of few units


class OtherScores(BenchError):
    """A network gives the same image other scores at each call."""


class BatchMates(UserWarning):
    """An image's scores depend on the other images of its batch, so that each runs alone."""


def batch_mates(network: ScoredNetwork, image: Tensor, scores: Tensor) -> str:
    """A sentence where the scores of an image depend on the others of its batch, or no batch is taken; else "".

    image: (1, C, H', W'). scores: (1, n), those of the network's first call. Two passes: of another image, and of both.
    Raises OtherScores where those of one image differ from call to call.
    """
    before = _random_states(image.device)
    low, high = image.amin(), image.amax()
    mate = (image + (low + high) / 2) / 2 + (low == high)  # in the range of the image's values, with less contrast
    pair, reason = torch.cat([image, mate]), ""
    of_mate = network(mate.clone())
    try:
        together = network(pair.clone())
    except Exception as error:  # a network that is made for one image may raise anything for two
        if is_out_of_memory(error):
            raise
        together, reason = scores[:0], str(error).strip().partition("\n")[0] or type(error).__name__
    alone = torch.cat([scores, of_mate])
    are_same = together.shape == alone.shape and equal_up_to_rounding(together, alone)
    draws = _random_states(image.device) != before
    again = [network(image.clone()) for _ in range(MORE_PASSES if draws else not are_same)]
    remembers = together.shape != alone.shape and torch.equal(of_mate, scores)  # the first image, as a cache does
    if remembers or not all(equal_up_to_rounding(other, scores) for other in again):
        raise _changes(network, image)
    if are_same:
        return ""
    name = type(network.model).__name__
    if reason:
        return f"{name} can't take two images at once ({reason}), so each image runs alone, which takes longer."
    place = _place(_calls(network, image), _calls(network, mate), _calls(network, pair))
    if torch.equal(of_mate, scores):
        raise OtherScores(
            f"{name} gives all images the same scores alone, and others in a batch (by {place}), so that no value "
            "would mean anything; let it normalise over the classes, dim=1, not over the images, dim=0."
        )
    return (
        f"{name} gives an image other scores beside other images of a batch (by {place}), so each image runs alone, "
        "which takes longer."
    )


@contextmanager
def has_scores_alone(model: nn.Module) -> Iterator[None]:
    """Raises OtherScores for what a BatchNorm without statistics of its own raises for one image, in this block."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise OtherScores(
            f"{type(model).__name__} normalises by its batch in eval mode too, so that one image has no scores; give "
            "its BatchNorm running statistics (track_running_stats=True), or take LayerNorm."
        ) from error


def _changes(network: ScoredNetwork, image: Tensor) -> OtherScores:
    """The error for scores that differ from call to call. It names the module, and what draws random numbers."""
    place, before = _place(_calls(network, image), [], _calls(network, image)), _random_states(image.device)
    with _Draws(image.device) as drawing:
        network(image.clone())
    if _random_states(image.device) != before:
        by = f"{drawing.function or 'random numbers'} in {place}"
        mend = "switch that off in eval mode, as F.dropout(x, p, self.training) does, or draw it once, in __init__"
    else:
        by, mend = (
            f"what {place} keeps from call to call",
            "reset it in forward, or, where only the first call differs, call the network once before",
        )
    return OtherScores(
        f"{type(network.model).__name__} gives the same image other scores at each call, by {by}, so that no value "
        f"would mean anything; {mend}."
    )


class _Call(NamedTuple):
    """A module's kind and name, and the tensors that it took and returned."""

    module: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def _calls(network: ScoredNetwork, images: Tensor) -> list[_Call]:
    """The calls of all modules in one pass, in the order in which they end."""
    calls: list[_Call] = []

    def recorded(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            of, _, part = name.partition(".")
            place = "output=" if of != "model" else f"{type(module).__name__} {part!r}" if part else FORWARD
            calls.append(_Call(place, _tensors(inputs), _tensors(output)))

        return hook

    handles = [module.register_forward_hook(recorded(name)) for name, module in network.named_modules()]
    try:
        network(images.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _tensors(values: Any) -> list[Tensor]:
    """Copies: an operation in place may change them afterwards."""
    return [leaf.clone() for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _place(image: Sequence[_Call], mate: Sequence[_Call], together: Sequence[_Call]) -> str:
    """The first module that gives other outputs for the same inputs; the network's forward where none does, or where
    other parts are called."""
    for call, *alone in zip(together, *filter(None, (image, mate)), strict=False):
        if any(each.module != call.module for each in alone):
            break
        takes_same = _equal(call.inputs, [each.inputs for each in alone])
        if takes_same and not _equal(call.outputs, [each.outputs for each in alone]):
            return call.module
    return FORWARD


def _equal(together: list[Tensor], alone: list[list[Tensor]]) -> bool:
    """Whether tensors are those of one image, or of two after each other."""
    for tensor, *parts in zip(together, *alone, strict=False):
        of_images = [part for part in parts if part.ndim and part.shape[1:] == tensor.shape[1:]]
        joined = torch.cat(of_images) if of_images else tensor
        if joined.shape == tensor.shape and not equal_up_to_rounding(tensor.double(), joined.double()):
            return False
    return True


class _Draws(TorchFunctionMode):
    """function: the first of torch's functions that drew random numbers; "" where none did."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.function = device, ""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = _random_states(self.device)
        result = function(*args, **(kwargs or {}))
        if not self.function and _random_states(self.device) != before:
            self.function = function.__name__
        return result


def _random_states(device: torch.device) -> list[Any]:
    """Of the generators that everything draws from which has none of its own: torch's, NumPy's and Python's."""
    of_torch = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [*(state.numpy().tobytes() for state in of_torch), pickle.dumps(np.random.get_state()), random.getstate()]
