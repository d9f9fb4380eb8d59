"""Whether a network's scores of an image are a function of that image alone: the same at each call, and in each batch.

A run computes them many times: alone, in batches, of perturbed copies. Where they differ from call to call, no value
would mean anything. Where they differ from batch to batch, images run one at a time.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from axiom_bench.cutting.images import joined, others_of, rows_of
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.errors import BenchError, is_out_of_memory

LAST_BITS = 8  # times what a change of an image's last bits makes is no dependence
MORE_PASSES = 32  # of a network that draws: two passes may agree by chance, as with a dropout of few units


class OtherScores(BenchError):
    """A network gives the same image other scores at each call."""

    is_drawn = False  # whether by random numbers


def batch_mates(network: ScoredNetwork, image: Tensor, scores: Tensor) -> str:
    """Return a sentence if an image's scores depend on the others of its batch, or no batch is taken; else "".

    image: (1, C, H', W'). scores: (1, n), those of the network's first call. Two passes: of another image, and of both.
    Raises OtherScores where those of one image differ from call to call.
    """
    before = _random_states(image.device)
    others = others_of(network.model, 1)
    reason = ""
    mate, *other_mates = (_mate(each) for each in (image, *others))
    of_mate = network(mate.clone(), tuple(other_mates))
    try:
        together = network(*joined([(image, others), (mate, tuple(other_mates))]))
    except Exception as error:  # a network that is made for one image may raise anything for two
        if is_out_of_memory(error):
            raise
        together = scores[:0]
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    alone = torch.cat([scores, of_mate])
    of_each = together.shape == alone.shape
    are_same = of_each and equal_up_to_rounding(together, alone)
    draws = _random_states(image.device) != before
    again = [network(image.clone()) for _ in range(MORE_PASSES if draws else not are_same)]
    remembers = not of_each and torch.equal(of_mate, scores)  # the first image, as a cache does
    if remembers or not all(equal_up_to_rounding(other, scores) for other in again):
        raise _changes(network, image)
    if are_same or (of_each and _is_rounding(network, image, together - alone)):
        return ""
    name = type(network.model).__name__
    if reason:
        return f"{name} can't take two images at once ({reason}), so each image runs alone, which takes longer."
    if torch.equal(of_mate, scores):
        raise OtherScores(
            f"{name} gives all images the same scores alone, and others in a batch, so that no value would mean "
            "anything; let it normalise over the classes, dim=1, not over the images, dim=0."
        )
    own = [f"{type(part).__name__} {place!r}" for place, part in network.model.named_modules() if _takes_batch(part)]
    by = f"{own[0]} takes the batch's statistics" if own else "as by statistics, attention or recurrence over images"
    return f"{name} gives an image other scores beside others ({by}), so each image runs alone, which takes longer."


def _mate(values: Tensor) -> Tensor:
    """Another image in the range of the image's values, with less contrast; whole numbers, as of words, stay."""
    if not values.is_floating_point():
        return values
    low, high = values.amin(), values.amax()
    return (values + (low + high) / 2) / 2 + (low == high)


def _takes_batch(part: nn.Module) -> bool:
    """Return whether a module normalises by the statistics of its batch in eval mode too."""
    return isinstance(part, nn.modules.batchnorm._NormBase) and (part.training or part.running_mean is None)


def _is_rounding(network: ScoredNetwork, image: Tensor, difference: Tensor) -> bool:
    """Return whether scores differ by at most `LAST_BITS` times what a change of the image's last bits makes.

    Some deep networks, such as EfficientNetV2 and MaxViT, make a rounding large.
    """
    signs = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).sign().to(image)
    changed = network(image * (1 + torch.finfo(image.dtype).eps * signs))
    return bool(difference.abs().max() <= LAST_BITS * (changed - network(image.clone())).abs().max())


@contextmanager
def one_image_is_enough(model: nn.Module) -> Iterator[None]:
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
    """The error for scores that differ from call to call, with what draws random numbers."""
    before = _random_states(image.device)
    with _Draws(image.device) as drawing:
        network(image.clone())
    is_drawn = _random_states(image.device) != before
    if is_drawn:
        by = f"by {drawing.place or 'random numbers'}"
        mend = (
            "switch that off in eval mode, as F.dropout(x, p, self.training) does, or, where it is meant to draw, "
            "explain fixed draws of it: axiom_bench.FixedDraws(network, seed), or model.draw=0,1,2 for three of them"
        )
    else:
        by = "by what it keeps from call to call"
        mend = "reset that in forward, or, where only the first call differs, call the network once before"
    error = OtherScores(
        f"{type(network.model).__name__} gives the same image other scores at each call, {by}, so that no value would "
        f"mean anything; {mend}."
    )
    error.is_drawn = is_drawn
    return error


class FixedDraws(nn.Module):
    """A network that draws random numbers by design, as Monte Carlo dropout does, with one fixed draw of them.

    Each pass of each image draws the same numbers, so that its scores are a function of the image, which has gradients,
    ablation drops and values like any other. Several draws are several networks. Each image runs alone, and each drop
    costs a pass. The generators of torch, NumPy and Python are afterwards as they were before.

    Args:
        module: the network; its layers are named with or without `module.` before them.
        seed: 0 to 2^32 - 1, of the numbers that are drawn.
    """

    def __init__(self, module: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.module = module
        self.seed = seed

    def extra_repr(self) -> str:
        """Return the seed for torch's description of the module."""
        return f"seed={self.seed}"

    def forward(self, images: Tensor, *others: Tensor) -> Any:
        """Return what the network returns for images (B, C, H', W'), and other inputs in its order."""
        return joined(self._drawn(*row) for row in rows_of((images, *others)))

    def _drawn(self, *inputs: Tensor) -> Any:
        of_numpy = np.random.get_state()
        of_python = random.getstate()
        with torch.random.fork_rng([inputs[0].device] if inputs[0].device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            random.seed(self.seed)
            try:
                return self.module(*inputs)
            finally:
                np.random.set_state(of_numpy)
                random.setstate(of_python)


class _Draws(TorchFunctionMode):
    """place: the first function that drew random numbers, and its module: "dropout in Net"; "" where none did."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.place = ""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = _random_states(self.device)
        result = function(*args, **(kwargs or {}))
        if not self.place and _random_states(self.device) != before:
            frame = sys._getframe()
            while frame.f_back is not None and not isinstance(frame.f_locals.get("self"), nn.Module):
                frame = frame.f_back
            self.place = f"{function.__name__} in {type(frame.f_locals.get('self')).__name__}"
        return result


def _random_states(device: torch.device) -> list[Any]:
    """Read the states of the generators of torch, NumPy and Python, which are everybody's."""
    of_torch = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [*(state.numpy().tobytes() for state in of_torch), pickle.dumps(np.random.get_state()), random.getstate()]
