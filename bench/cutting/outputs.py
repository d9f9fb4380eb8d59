"""Outputs for what isn't a classifier of exclusive classes, as `output=` takes them: `axiom_bench.outputs`.

The scores of each are columns (B, n), and a target is the index of a column. `read` is a function from what the network
returns to the tensor that the output needs; without it that is the network's output itself, or its "logits" or "out".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from axiom_bench.cutting.detections import detection
from axiom_bench.cutting.output import Output, OutputModule
from axiom_bench.cutting.scores import ScoreFunction, TensorScores, described
from axiom_bench.cutting.segmentations import segmentation
from axiom_bench.errors import BenchError, unknown

__all__ = ["detection", "multi_label", "regression", "segmentation", "similarity"]
Read = Callable[[Any], Tensor]
KINDS = ("cosine", "dot")


def similarity(
    references: Tensor, kind: str = "cosine", scale: float | None = None, read: Read | None = None
) -> Output:
    """The similarity of an image's embedding (B, D) to reference embeddings, times a scale; a target is a reference.

    references: (n, D) or (D,), of images or texts. kind: "cosine", or "dot" for the scalar product. scale: with the
    logit scale of a CLIP, a softmax over n captions is its probability (Radford et al., ICML 2021, figure 3); None: 1,
    and there is no probability. Raises BenchError for another kind or shape.
    """
    if kind not in KINDS:
        raise unknown("similarity", kind, KINDS)
    if references.ndim not in (1, 2):
        raise BenchError(f"References are (n, D) or (D,), not {described(references)}.")
    function = _Similarity(references, kind, 1.0 if scale is None else scale, read)
    return Output("similarity", are_logits=True, function=function, softmax=scale is not None)


def regression(function: ScoreFunction | None = None) -> Output:
    """Numbers as they are, (B,) or (B, n), none of which is a class's; a target is a column.

    function: from what the network returns to the numbers; None where it returns them.
    """
    return Output("regression", are_logits=True, function=function, softmax=False)


def multi_label(function: ScoreFunction | None = None, probability: bool = False) -> Output:
    """Classes that don't exclude each other, (B, C): the class's logit, or with `probability` its sigmoid.

    function: from what the network returns to the logits; None where it returns them.
    """
    build = (lambda _: Sigmoid()) if probability else None
    return Output("multi_label", build, are_logits=not probability, function=function, softmax=False)


class Sigmoid(OutputModule):
    """The probability of each class by itself."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().sigmoid()


class _Similarity(TensorScores):
    def __init__(self, references: Tensor, kind: str, scale: float, read: Read | None) -> None:
        super().__init__(read)
        rows = references.detach().reshape(-1, references.shape[-1])
        rows = functional.normalize(rows, dim=1) if kind == "cosine" else rows
        self.cosine = kind == "cosine"
        # A linear layer, so that scalar products keep the exact differences of one.
        self.products = nn.utils.skip_init(nn.Linear, rows.shape[1], len(rows), bias=False, dtype=rows.dtype)
        self.products.weight = nn.Parameter(scale * rows, requires_grad=False)

    def check(self, tensor: Any, network: str) -> None:
        size = self.products.in_features
        if not isinstance(tensor, Tensor) or tensor.shape[1:] != (size,):
            raise BenchError(
                f"References of {size} numbers need embeddings (B, {size}); {network} gives {described(tensor)}."
            )

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.products(functional.normalize(embeddings, dim=1) if self.cosine else embeddings)

    def extra_repr(self) -> str:
        return "cosine" if self.cosine else "dot"
