"""LeGrad: Bousselham et al., ICCV 2025, arXiv:2404.03214.

LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.objects import PlacedScores
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.cutting.trunk_and_head import Step
from axiom_bench.errors import BenchError, InvalidParameter, invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    Attention,
    Attentions,
    TowerAttentions,
    attention_error,
    key_maps,
    probability_gradients,
)

READOUTS = ("mean", "own")


def legrad(trace: Trace, blocks: int = 2, readout: str = "mean") -> Map:
    """Sum over blocks l of mean over heads and queries of relu(dS_l/dA_l) -> (B, H, W).

    The sum has a value for each key. A_l are the attention probabilities of block l, one of the
    last `blocks`. S_l is the score if what follows the last block reads block l's tokens. The
    blocks are the network's largest list of modules of one class, each with one attention. Costs a
    forward pass up to each block.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), must be the patch tokens; only their
            size is used.
        blocks: The number of last blocks, at least 1.
        readout: What replaces the last block's tokens. "mean": each token is the mean of all, as
            in the authors' code for CLIP. "own": block l's tokens themselves, as in that code for
            networks that pool by attention. A network that says words always has "own", since its
            decoder reads each token; its last block is the one of the traced layer.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If blocks < 1, if the readout is unknown, or if the network has no such blocks.
    """
    if blocks < 1:
        raise InvalidParameter(
            f"Invalid blocks={blocks} of LeGrad; give the number of last blocks, at least 1."
        )
    if readout not in READOUTS:
        raise invalid_choice("readout of LeGrad", readout, READOUTS)
    model = trace.cut_model.model
    of_words = isinstance(model, PlacedScores) and model.of_words
    names = _tower_blocks(model, trace.layer) if of_words else _block_names(model)
    if of_words:
        readout = "own"
    with torch.inference_mode(False), torch.enable_grad():
        # What follows the last block reads the tokens of every block, so it is cut only once.
        last_cut = _cut_at(trace, names[-1])
        maps = [
            _block_map(trace, last_cut, names, index, readout)
            for index in range(len(names))[-blocks:]
        ]
        return Map(torch.stack(maps).sum(0))


def _lists(model: nn.Module) -> Iterator[tuple[str, nn.Sequential | nn.ModuleList]]:
    """Yield each Sequential or ModuleList of several modules of one class, with its name."""
    for name, module in model.named_modules():
        is_list = isinstance(module, nn.Sequential | nn.ModuleList) and len(module) > 1
        if is_list and len({*map(type, module)}) == 1:
            yield name, module


def _tower_blocks(model: nn.Module, layer: str) -> list[str]:
    """Return the names of the vision tower's blocks up to the one of the traced layer."""
    for name, modules in _lists(model):
        blocks = [f"{name}.{child}" for child, _ in modules.named_children()]
        if layer in blocks:
            return blocks[: blocks.index(layer) + 1]
    raise BenchError(
        f"LeGrad explains a network of words at a transformer block of its vision tower, which "
        f"{layer!r} isn't: choose one (model.layer=NAME on the command line), or leave legrad "
        "out."
    )


def _block_names(model: nn.Module) -> list[str]:
    """Return the modules' names of the list with the most parameters."""
    sizes: dict[str, int] = {}  # the parameters of each list
    for name, modules in _lists(model):
        sizes[name] = sum(parameter.numel() for parameter in modules.parameters())
    if not sizes:
        raise BenchError(
            "LeGrad needs a transformer with a list of blocks: leave legrad out for this network."
        )
    largest = max(sizes, key=sizes.__getitem__)
    children = model.get_submodule(largest).named_children()
    return [f"{largest}.{child}".lstrip(".") for child, _ in children]


def _cut_at(trace: Trace, block: str) -> SplitModel:
    """Return the trace's model, cut after a block and split."""
    cut_model = trace.cut_model.at(block)
    with bound(cut_model.model, tuple(values[:1] for values in trace.other_inputs)):
        cut_model.split(trace.images)
    return cut_model


def _block_map(
    trace: Trace, last_cut: SplitModel, names: list[str], index: int, readout: str
) -> Tensor:
    """Return the map of one block, (B, H, W)."""
    cut_model = _cut_at(trace, names[index])
    of_words = isinstance(cut_model.model, PlacedScores)
    with TowerAttentions() if of_words else Attentions() as attentions:
        maps, sides = cut_model.trunk(trace.images, *trace.other_inputs)
    calls = attentions.calls
    if len(trace) > 1 and len(calls) > len(names):  # the network runs its images one by one
        rows = (trace[row : row + 1] for row in range(len(trace)))
        return torch.cat(
            [_block_map(row_trace, last_cut, names, index, readout) for row_trace in rows]
        )
    if of_words:
        calls = _calls_of_tower(calls, maps, sides)
    has_one_each = len(calls) > index if of_words else len(calls) in (index + 1, len(names))
    if not has_one_each:
        sentence = (
            "LeGrad needs a transformer with one attention in each block: leave legrad out here."
        )
        raise attention_error(trace, sentence)
    if last_cut.trunk_and_head.capture.step is Step.HEAD:
        # These sides are what the modules before the cut returned, so they belong to one cut.
        _, last_sides = last_cut.trunk(trace.images, *trace.other_inputs)
        sides = (sides[0], *last_sides[1:])
    if readout == "mean":
        maps, sides = _averaged(maps, sides)
    outputs = last_cut.head(maps, sides)
    scores = outputs.gather(1, trace.targets[:, None].clone())
    (gradient,) = probability_gradients(scores, calls[index : index + 1])
    return key_maps(trace, gradient.relu().mean((1, 2)))


def _calls_of_tower(
    calls: list[Attention], maps: Tensor, sides: tuple[Any, ...]
) -> list[Attention]:
    """Return the attentions of the vision tower's tokens.

    A network of words may run its decoder in the same pass, which reads other tokens too.
    """
    leading, *_ = sides
    num_tokens = maps[0, 0].numel() + (0 if leading is None else leading.shape[1])
    return [call for call in calls if call.key.shape[2] == num_tokens]


def _averaged(maps: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """Replace each token by the mean of all: patches (B, K, H, W), leading tokens (B, p, K)."""
    leading, *other_sides = sides
    tokens = maps.flatten(2).mT
    mean = (tokens if leading is None else torch.cat([leading, tokens], 1)).mean(1)
    if leading is not None:
        leading = mean[:, None].expand_as(leading)
    return mean[..., None, None].expand_as(maps), (leading, *other_sides)
