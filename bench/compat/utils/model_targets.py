"""The targets of pytorch-grad-cam: functions from the output for one image to the explained score.

Their arguments are those of the classes with the same names there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

# from the network's return value for one image, of any type, to a score with one element
Target = Callable[[Any], Tensor]


@dataclass(frozen=True)
class ClassifierOutputTarget:
    """The output of a class."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        return model_output[..., self.category]


@dataclass(frozen=True)
class ClassifierOutputSoftmaxTarget:
    """The probability of a class, which is the softmax of its logit."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        return model_output.softmax(-1)[..., self.category]


@dataclass(frozen=True)
class ClassifierOutputReST:
    """The logit of a class plus the logarithm of its probability."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        return (model_output + log_softmax(model_output, -1))[..., self.category]


@dataclass(frozen=True)
class BinaryClassifierOutputTarget:
    """The only output for category 1, and its negative for category 0."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        return model_output if self.category == 1 else -model_output


@dataclass(frozen=True)
class RawScoresOutputTarget:
    """The only output."""

    def __call__(self, model_output: Tensor) -> Tensor:
        return model_output


@dataclass(frozen=True, eq=False)
class SemanticSegmentationTarget:
    """The sum of the outputs (C, H, W) of a class over the pixels of a mask (H, W)."""

    category: int
    mask: NDArray[Any]

    def __call__(self, model_output: Tensor) -> Tensor:
        mask = torch.as_tensor(self.mask, device=model_output.device)
        return (model_output[self.category] * mask).sum()
