"""Cut a model at a layer and trace it.

`cut` makes a `CutModel`, which holds the model as two functions, trunk and head. `CutModel.trace`
runs both on a batch and returns a `Trace`; `trace` does both in one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor, nn

from axiom_bench.cutting.images import (
    OtherInputs,
    PixelsGiven,
    pixels_note,
)
from axiom_bench.cutting.interventions import (
    Part,
)
from axiom_bench.cutting.model_copy import check_finite, check_shapes
from axiom_bench.cutting.output import AnyOutput
from axiom_bench.cutting.split_model import GIBIBYTE, SplitModel
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import Inputs, Trace, compute_trace


class CutModel(SplitModel):
    """A model cut at a layer: `trunk -> activations -> head`. The user's model is never edited.

    Args:
        model: Any nn.Module that maps images (B, C', H', W'), signals (B, C', L') or volumes (B,
            C', D', H', W') to logits (B, C), or to a value that `output` reads. Logits are also
            found in a dict ("logits" or "out") and in an object with `.logits`. They are made from
            (B,) and (B, C, H, W), squeezed or not.
        layer: A dotted module name.
        precision: The precision of the trunk: "fp32", "tf32" or "bf16".
        head_precision: The precision of the head and the ablations: "fp32", "tf32" or "bf16".
        ablation_memory: The bytes that the ablations may take in addition to the trace.
        reshape: The way from tokens to maps, for a transformer's layer: "tokens", a grid (H, W), or
            an object with to_maps and from_maps.
        output: The explained scores: "probability", "margin" (z_c - the highest other logit),
            "rest", one of `axiom_bench.outputs`, or a function or module from the model's return
            value to scores (B, n). None explains the logits. If the model ends in probabilities,
            these are the logits before its end. The first trace recognises such an end, with a
            RecognisedOutput warning. "logits", "probabilities" or "log_probabilities" say what the
            model returns.
        ablation_channels: A budget for inner layers: only this number of channels of each image,
            and a sample of the others, are ablated; see `Trace.drops`. None: all.

    Raises:
        BenchError: If the layer (the message has the nearest names), precision, reshape, output or
            budget is invalid.
    """

    def trace(
        self,
        images: Inputs,
        targets: Tensor | None = None,
        interventions: Sequence[Sequence[Part]] | None = None,
        other_images: Tensor | None = None,
        explained: int | str | None = None,
        other_inputs: OtherInputs = (),
    ) -> Trace:
        """Trace a batch: one trunk pass, one head pass and its gradient.

        Args:
            images: The images, (B, C', H', W'), or several inputs; see `axiom_bench.trace`.
            targets: The class indices, (B,). None: the predicted class of each image.
            interventions: The parts of each image; see Trace.
            other_images: Another image for each image, (B, C', H', W'); see Trace.
            explained: The explained one of several inputs; see `axiom_bench.trace`.
            other_inputs: The `other_inputs` of an earlier trace, if `images` is a tensor.

        Raises:
            BenchError: If the layer gives no such maps, if the model has no logits or scores, or if
                a target is out of range.
        """
        trace = compute_trace(
            self, images, targets, interventions, other_images, explained, other_inputs
        )
        # one warning per cut model, however many batches follow
        if not self.holds(PixelsGiven):
            note = pixels_note(trace.images, self.normalisation)
            if note:
                self.once(PixelsGiven, lambda: note)
                warnings.warn(note, PixelsGiven, stacklevel=2)
        return trace


def cut(
    model: nn.Module,
    layer: str,
    precision: str = "fp32",
    head_precision: str = "fp32",
    ablation_memory: int = GIBIBYTE,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    ablation_channels: int | None = None,
) -> CutModel:
    """Cut a model once at a layer, for many traces.

    Arguments and errors are those of `CutModel`.
    """
    if isinstance(model, nn.Module):
        check_shapes(model)
        check_finite(model)
    cut_model = CutModel(
        model=model,
        layer=layer,
        precision=precision,
        head_precision=head_precision,
        ablation_memory=ablation_memory,
        reshape=reshape,
        output=output,
        ablation_channels=ablation_channels,
    )
    # `load_model` sets `loaded`
    preprocessing = getattr(getattr(model, "loaded", None), "preprocessing", None)
    if preprocessing is not None and preprocessing.shape is None:
        cut_model.normalisation = preprocessing.mean, preprocessing.std
    return cut_model


def trace(
    model: nn.Module,
    layer: str,
    images: Inputs,
    targets: Tensor | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    explained: int | str | None = None,
) -> Trace:
    """Cut a model and trace it in one call, for notebooks.

    A trace is one trunk pass, one head pass and its gradient.

    Activations, gradients and drops are those of Fu et al. 2020, arXiv:2008.02312, section 3: F, g
    = dS/dF and S - S_k. The model isn't changed. Other arguments, and errors, are those of
    `CutModel` and `CutModel.trace`.

    If the network has several inputs, give a tuple of tensors in the order of forward's arguments,
    or a dict. The dict has the arguments' names, or is the one dict that forward takes. Each input
    has a row for each image. The inputs that aren't explained become `Trace.other_inputs`, and stay
    with their images in every pass.

    Args:
        model: The model, as `CutModel` takes it.
        layer: A dotted module name.
        images: The images, (B, C', H', W'), preprocessed as the model expects, or several inputs.
        targets: The class indices, (B,). None: the predicted class of each image.
        reshape: The way from tokens to maps, as `CutModel` takes it.
        output: The explained scores, as `CutModel` takes them.
        explained: The place or name of the explained input. It is needed if several inputs have the
            axes of the network's convolutions.
    """
    return cut(model, layer, reshape=reshape, output=output).trace(
        images, targets, explained=explained
    )
