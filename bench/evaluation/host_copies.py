"""What metrics answered, brought to the CPU: on a GPU in one copy, since the process waits for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from axiom_bench.explanation.curve import Curve

CPU = torch.device("cpu")


def on_cpu(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers with float64 copies on the CPU for tensors and the points of curves; anything else stays as it is."""
    tensors = [_tensor(answer) for returned in answers for answer in returned.values()]
    copies = iter(_copies([tensor for tensor in tensors if tensor is not None]))
    return [{name: _with_copy(answer, copies) for name, answer in returned.items()} for returned in answers]


def _tensor(answer: Any) -> Tensor | None:
    values = answer.points if isinstance(answer, Curve) else answer
    return values.detach() if isinstance(values, Tensor) else None


def _with_copy(answer: Any, copies: Iterator[Tensor]) -> Any:
    if _tensor(answer) is None:
        return answer
    return replace(answer, points=next(copies)) if isinstance(answer, Curve) else next(copies)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """float64 copies on the CPU, in the same shapes; those from a GPU all at once."""
    copies = [tensor.to(torch.float64) for tensor in tensors]
    places = [place for place, tensor in enumerate(tensors) if tensor.device != CPU]
    if places:
        there = [copies[place] for place in places]
        together = torch.cat([tensor.reshape(-1) for tensor in there]).cpu()
        for place, part in zip(places, together.split([tensor.numel() for tensor in there]), strict=True):
            copies[place] = part.reshape(tensors[place].shape)
    return copies
