"""Check that a network's scores of an image are a function of that image only.

They must be the same at each call and in each batch.

A run computes scores many times: of single images, in batches, and of perturbed copies. If they
differ from call to call, no value means anything. If they differ from batch to batch, images run
one at a time.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from axiom_bench.cutting.images import joined, other_inputs_for, split_rows
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.passes import equal_up_to_rounding
from axiom_bench.errors import BenchError, is_out_of_memory

# Scores may differ by this many times the effect of changing an image's last bits.
LAST_BITS = 8
# The passes of a network that draws random numbers: two may agree by chance, as with a dropout of
# few units.
MORE_PASSES = 32


class OtherScores(BenchError):
    """The error that a network gives the same image other scores at each call."""

    is_drawn = False  # True if random numbers make the difference


def batch_mates(network: ScoredNetwork, image: Tensor, scores: Tensor) -> str:
    """Return a sentence if an image's scores depend on the others of its batch.

    Also return one if the network takes no batch, and "" otherwise.

    This takes two passes: one of another image, and one of both.

    Args:
        network: The network.
        image: The image, (1, C, H', W').
        scores: The scores of the network's first call, (1, n).

    Raises:
        OtherScores: If the scores of one image differ from call to call.
    """
    before = _random_states(image.device)
    others = other_inputs_for(network.model, 1)
    reason = ""
    mate = _mate(image)
    other_mates = tuple(_mate(values) for values in others)
    mate_scores = network(mate.clone(), other_mates)
    try:
        together = network(*joined([(image, others), (mate, other_mates)]))
    except Exception as error:  # a network that is made for one image may raise anything for two
        if is_out_of_memory(error):
            raise
        together = scores[:0]
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    alone = torch.cat([scores, mate_scores])
    has_row_per_image = together.shape == alone.shape
    are_same = has_row_per_image and equal_up_to_rounding(together, alone)
    has_drawn = _random_states(image.device) != before
    num_repeats = 0 if are_same else 1
    if has_drawn:
        num_repeats = MORE_PASSES
    repeats = [network(image.clone()) for _ in range(num_repeats)]
    # the first image's scores again
    is_cached = not has_row_per_image and torch.equal(mate_scores, scores)
    if is_cached or not all(equal_up_to_rounding(repeat, scores) for repeat in repeats):
        raise _changes(network, image)
    if are_same or (has_row_per_image and _is_rounding(network, image, together - alone)):
        return ""
    name = type(network.model).__name__
    if reason:
        return (
            f"{name} can't take two images at once ({reason}), so each image runs alone, which "
            "is slower."
        )
    if torch.equal(mate_scores, scores):
        raise OtherScores(
            f"{name} gives all images the same scores one at a time, but others in a batch, so no "
            "value would mean anything; let it normalise over the classes, dim=1, not over the "
            "images, dim=0."
        )
    norms = [
        f"{type(part).__name__} {place!r}"
        for place, part in network.model.named_modules()
        if _takes_batch(part)
    ]
    cause = "such as by statistics, attention or recurrence over images"
    if norms:
        cause = f"{norms[0]} takes the batch's statistics"
    return (
        f"{name} gives an image other scores in a batch ({cause}), so each image runs alone, "
        "which is slower."
    )


def _mate(values: Tensor) -> Tensor:
    """Return another image in the range of the image's values, with less contrast.

    The image's batch needs a companion that changes the batch's statistics.

    Whole numbers, as of words, stay.
    """
    if not values.is_floating_point():
        return values
    low = values.amin()
    high = values.amax()
    return (values + (low + high) / 2) / 2 + (low == high)


def _takes_batch(part: nn.Module) -> bool:
    """Return True if a module normalises by the statistics of its batch in eval mode too."""
    return isinstance(part, nn.modules.batchnorm._NormBase) and (
        part.training or part.running_mean is None
    )


def _is_rounding(network: ScoredNetwork, image: Tensor, difference: Tensor) -> bool:
    """Return True if scores differ by no more than the image's last bits explain.

    The limit is LAST_BITS times the effect of changing these bits.

    Some deep networks, such as EfficientNetV2 and MaxViT, make a rounding error large.
    """
    signs = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).sign().to(image)
    changed = network(image * (1 + torch.finfo(image.dtype).eps * signs))
    effect = (changed - network(image.clone())).abs().max()
    return bool(difference.abs().max() <= LAST_BITS * effect)


@contextmanager
def refuse_batch_statistics(model: nn.Module) -> Iterator[None]:
    """Turn a BatchNorm's error for a single image in this block into OtherScores.

    Such a BatchNorm has no statistics of its own.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise OtherScores(
            f"{type(model).__name__} normalises by its batch in eval mode too, so that one image "
            "has no scores; give its BatchNorm running statistics (track_running_stats=True), or "
            "take LayerNorm."
        ) from error


def _changes(network: ScoredNetwork, image: Tensor) -> OtherScores:
    """Return the error for scores that differ from call to call.

    It names the function that draws random numbers.
    """
    before = _random_states(image.device)
    # reading all states after each operation is slow, and only done for the error's text
    with _Draws(image.device) as drawing:
        network(image.clone())
    is_drawn = _random_states(image.device) != before
    if is_drawn:
        by = f"by {drawing.place or 'random numbers'}"
        mend = (
            "switch that off in eval mode, as F.dropout(x, p, self.training) does. If it is "
            "meant to draw, explain fixed draws of it: axiom_bench.FixedDraws(network, seed), "
            "or model.draw=0,1,2 for three of them"
        )
    else:
        by = "by what it keeps from call to call"
        mend = (
            "reset that in forward, or, if only the first call differs, call the network once "
            "before"
        )
    error = OtherScores(
        f"{type(network.model).__name__} gives the same image other scores at each call, {by}, so "
        f"that no value would mean anything; {mend}."
    )
    error.is_drawn = is_drawn
    return error


class FixedDraws(nn.Module):
    """A network that draws random numbers by design, with one fixed draw of them.

    An example is Monte Carlo dropout.

    Each pass of each image draws the same numbers. So its scores are a function of the image, with
    gradients, ablation drops and values like any other network's. Several draws are several
    networks. Each image runs separately, and each drop costs a pass. The generators of torch, NumPy
    and Python are restored afterwards.

    Args:
        module: The network. Its layers are named with or without `module.` before them.
        seed: The seed of the numbers that are drawn, 0 to 2^32 - 1.
    """

    def __init__(self, module: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.module = module
        self.seed = seed

    def extra_repr(self) -> str:
        """Return the seed for torch's description of the module."""
        return f"seed={self.seed}"

    def forward(self, images: Tensor, *others: Tensor) -> object:
        """Return the network's result for images (B, C, H', W'), and other inputs in its order."""
        return joined(self._drawn(*row) for row in split_rows((images, *others)))

    def _drawn(self, *inputs: Tensor) -> object:
        """Run the network on one image with the numbers of its seed."""
        numpy_state = np.random.get_state()
        python_state = random.getstate()
        devices = [inputs[0].device] if inputs[0].device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            random.seed(self.seed)
            try:
                return self.module(*inputs)
            finally:
                np.random.set_state(numpy_state)
                random.setstate(python_state)


class _Draws(TorchFunctionMode):
    """A mode that finds the first function that draws random numbers.

    The user must know which function to switch off.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        # the function and the module that calls it, such as "dropout in Net"; "" if none drew
        self.place = ""

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        before = _random_states(self.device)
        result = function(*args, **(kwargs or {}))
        if not self.place and _random_states(self.device) != before:
            frame = sys._getframe()
            while frame.f_back is not None and not isinstance(
                frame.f_locals.get("self"), nn.Module
            ):
                frame = frame.f_back
            self.place = f"{function.__name__} in {type(frame.f_locals.get('self')).__name__}"
        return result


def _random_states(device: torch.device) -> list[object]:
    """Read the states of the global generators of torch, NumPy and Python.

    A network draws random numbers if a pass changes them.
    """
    torch_states = [torch.get_rng_state()]
    if device.type == "cuda":
        torch_states.append(torch.cuda.get_rng_state(device))
    torch_bytes = [state.numpy().tobytes() for state in torch_states]
    return [*torch_bytes, pickle.dumps(np.random.get_state()), random.getstate()]
