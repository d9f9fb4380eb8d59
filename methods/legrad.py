"""LeGrad: Bousselham et al., ICCV 2025, arXiv:2404.03214.

LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.objects import PlacedScores
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter, invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import Attentions, key_maps, probability_gradients

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
            networks that pool by attention.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If blocks < 1, if the readout is unknown, or if the network has no such blocks
            or says words.
    """
    if blocks < 1:
        raise InvalidParameter(
            f"Invalid blocks={blocks} of LeGrad; give the number of last blocks, at least 1."
        )
    if readout not in READOUTS:
        raise invalid_choice("readout of LeGrad", readout, READOUTS)
    model = trace.cut_model.model
    if isinstance(model, PlacedScores) and model.of_words:
        raise BenchError(
            "LeGrad reads the blocks of an image classifier: leave legrad out for a network of "
            "words."
        )
    names = _block_names(model)
    with torch.inference_mode(False), torch.enable_grad():
        # What follows the last block reads the tokens of every block, so it is cut only once.
        last_cut = _cut_at(trace, names[-1])
        maps = [
            _block_map(trace, last_cut, names, index, readout)
            for index in range(len(names))[-blocks:]
        ]
        return Map(torch.stack(maps).sum(0))


def _block_names(model: nn.Module) -> list[str]:
    """Return the modules' names of the list with the most parameters.

    A list is a Sequential or ModuleList of several modules of one class.
    """
    sizes: dict[str, int] = {}  # the parameters of each list
    for name, module in model.named_modules():
        if not isinstance(module, nn.Sequential | nn.ModuleList) or len(module) < 2:
            continue
        if len({*map(type, module)}) == 1:
            sizes[name] = sum(parameter.numel() for parameter in module.parameters())
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
    with Attentions() as attentions:
        maps, sides = cut_model.trunk(trace.images, *trace.other_inputs)
    calls = attentions.calls
    if len(trace) > 1 and len(calls) > len(names):  # the network runs its images one by one
        rows = (trace[row : row + 1] for row in range(len(trace)))
        return torch.cat(
            [_block_map(row_trace, last_cut, names, index, readout) for row_trace in rows]
        )
    if len(calls) not in (index + 1, len(names)):
        raise BenchError(
            "LeGrad needs a transformer with one attention in each block: leave legrad out here."
        )
    if readout == "mean":
        maps, sides = _averaged(maps, sides)
    outputs = last_cut.head(maps, sides)
    scores = outputs.gather(1, trace.targets[:, None].clone())
    (gradient,) = probability_gradients(scores, calls[index : index + 1])
    return key_maps(trace, gradient.relu().mean((1, 2)))


def _averaged(maps: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """Replace each token by the mean of all: patches (B, K, H, W), leading tokens (B, p, K)."""
    leading, *other_sides = sides
    tokens = maps.flatten(2).mT
    mean = (tokens if leading is None else torch.cat([leading, tokens], 1)).mean(1)
    if leading is not None:
        leading = mean[:, None].expand_as(leading)
    return mean[..., None, None].expand_as(maps), (leading, *other_sides)
