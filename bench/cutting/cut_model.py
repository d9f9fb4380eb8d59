"""The cut: a model, once, at one layer. Its Trace is all that methods and metrics see."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.outputs.output import AnyOutput
from axiom_bench.cutting.split.tokens import AnyReshape
from axiom_bench.cutting.split_model import GIBIBYTE, SplitModel
from axiom_bench.cutting.trace import Trace, trace_of


class CutModel(SplitModel):
    """A model cut at a layer: `trunk -> activations -> head`. The user's model is never edited.

    model: any nn.Module that maps images (B, C', H', W') to logits (B, C), or to what `output` reads; logits are found
    in a dict ("logits" or "out"), in an object with `.logits`, and made of (B,) and (B, C, H, W).
    layer: a dotted module name.
    precision: fp32, tf32 or bf16, for the trunk; head_precision likewise, for the head and the ablations.
    ablation_memory: bytes that the ablations may take beside the trace. reshape: for a transformer's layer, how its
    output becomes maps: "tokens", a grid (H, W), or an object with to_maps and from_maps; see cutting.split.tokens.
    output: what is explained: "logits", "probability", "margin" (z_c - the highest other logit), one of
    `axiom_bench.outputs`, or a function or module from what the model returns to scores (B, n), a column for each
    target.
    Raises BenchError for an unknown layer (with the nearest names), precision, reshape or output.
    """

    def trace(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        interventions: Sequence[Sequence[Part]] | None = None,
        other_images: Tensor | None = None,
    ) -> Trace:
        """One trunk pass, one head pass and its gradient.

        images: (B, C', H', W'). targets: (B,) class indices; None means each image's predicted class.
        interventions: per image its parts; other_images: (B, C', H', W'), another image for each; see Trace.
        Raises BenchError for a layer without H x W maps, a model without logits or scores, targets out of range.
        """
        return trace_of(self, images, targets, interventions, other_images)


def cut(
    model: nn.Module,
    layer: str,
    precision: str = "fp32",
    head_precision: str = "fp32",
    ablation_memory: int = GIBIBYTE,
    reshape: AnyReshape | None = None,
    output: AnyOutput = "logits",
) -> CutModel:
    """Cuts a model once at a layer; see CutModel."""
    return CutModel(model, layer, precision, head_precision, ablation_memory, reshape, output)


def trace(
    model: nn.Module,
    layer: str,
    images: Tensor,
    targets: Tensor | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput = "logits",
) -> Trace:
    """Cut and trace in one, for notebooks; see CutModel and CutModel.trace."""
    return CutModel(model, layer, reshape=reshape, output=output).trace(images, targets)
