"""LeGrad: Bousselham et al., An Explainability Method for Vision Transformers, ICCV 2025,
arXiv:2404.03214.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import Attentions, maps_of_keys, probability_gradients

READOUTS = ("mean", "own")


def legrad(trace: Trace, blocks: int = 2, readout: str = "mean") -> Map:
    """sum_l mean over heads and queries of relu(dS_l/dA_l), a value for each key, S_l read from
    block l -> (B, H, W).

    A_l: the attention probabilities of block l, one of the last `blocks`. S_l: the score where what
    follows the last block reads block l's tokens. readout "mean": each token is the mean of all, as
    in the authors' code for CLIP. "own": the tokens themselves, as there for networks that pool by
    attention. The blocks are the network's largest list of modules of one class, each with one
    attention. (H, W): of the trace's layer, whose maps are the patch tokens and aren't used
    otherwise. Costs a forward pass up to each block. Raises BenchError for blocks < 1, another
    readout, and networks without such blocks.
    """
    if blocks < 1:
        raise BenchError(
            f"Invalid blocks={blocks} of LeGrad; give the number of last blocks, at least 1."
        )
    if readout not in READOUTS:
        raise unknown("readout of LeGrad", readout, READOUTS)
    names = _blocks(trace.cut_model.model)
    with torch.inference_mode(False), torch.enable_grad():
        last = _cut_at(trace, names[-1])
        of_blocks = [
            _of_block(trace, last, names, index, readout) for index in range(len(names))[-blocks:]
        ]
        return Map(torch.stack(of_blocks).sum(0))


def _blocks(model: nn.Module) -> list[str]:
    """The names of the modules of the largest list, by parameters, of several modules of one
    class.
    """
    lists = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList)
        and len(module) > 1
        and len({*map(type, module)}) == 1
    }
    if not lists:
        raise BenchError(
            "LeGrad needs a transformer with a list of blocks: leave legrad out for this network."
        )
    name = max(lists, key=lists.__getitem__)
    return [
        f"{name}.{child}".lstrip(".") for child, _ in model.get_submodule(name).named_children()
    ]


def _cut_at(trace: Trace, block: str) -> SplitModel:
    """The trace's model cut behind a block, and split."""
    cut_model = trace.cut_model.at(block)
    with bound(cut_model.model, tuple(each[:1] for each in trace.other_inputs)):
        cut_model.split(trace.images)
    return cut_model


def _of_block(trace: Trace, last: SplitModel, names: list[str], index: int, readout: str) -> Tensor:
    """The map of one block, (B, H, W)."""
    cut_model = _cut_at(trace, names[index])
    with Attentions() as attentions:
        maps, sides = cut_model.trunk(trace.images, *trace.other_inputs)
    calls = attentions.calls
    if len(trace) > 1 and len(calls) > len(names):  # the network runs its images one by one
        parts = (trace[row : row + 1] for row in range(len(trace)))
        return torch.cat([_of_block(part, last, names, index, readout) for part in parts])
    if len(calls) not in (index + 1, len(names)):
        raise BenchError(
            "LeGrad needs a transformer with one attention in each block: leave legrad out here."
        )
    outputs = last.head(*(_all_the_mean(maps, sides) if readout == "mean" else (maps, sides)))
    scores = outputs.gather(1, trace.targets[:, None].clone())
    (gradient,) = probability_gradients(scores, calls[index : index + 1])
    return maps_of_keys(trace, gradient.relu().mean((1, 2)))


def _all_the_mean(maps: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """Each token of (B, K, H, W), and of the leading ones (B, p, K) beside them, as the mean of all
    of them.
    """
    rest, *others = sides
    tokens = maps.flatten(2).mT
    mean = (tokens if rest is None else torch.cat([rest, tokens], 1)).mean(1)
    rest = None if rest is None else mean[:, None].expand_as(rest)
    return mean[..., None, None].expand_as(maps), (rest, *others)
