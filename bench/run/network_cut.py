"""Cut a user's network for `axiom_bench.explain`, `evaluate` and `check`.

Find its default layer, and separate its explained input from the others.

A run knows both from its settings. A function of Python finds out with the first images.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from torch import nn

from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.cutting.images import (
    SeveralInputs,
    are_several,
    checked_images,
    network_errors,
    separate_inputs,
)
from axiom_bench.cutting.model_copy import private_state, shared_copy
from axiom_bench.cutting.output import AnyOutput, check_output
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.models import layers
from axiom_bench.models.load import LoadedModel
from axiom_bench.models.words import WordScores


@dataclass(frozen=True)
class CutArguments:
    """The arguments of a function of Python that say how a network is cut."""

    layer: str | None
    """The dotted name of the target layer; None: the last spatial layer."""
    reshape: AnyReshape | None
    """See `CutModel`."""
    output: AnyOutput | None
    """See `CutModel`."""
    explained: int | str | None
    """The input that is explained if there are several; see `axiom_bench.trace`."""


def with_explained_images(
    model: nn.Module, explained: int | str | None, forms: list[SeveralInputs], batch: Batch
) -> Batch:
    """Return the batch with only its explained images as `images`.

    Add the form of its several inputs to `forms`.
    """
    if not are_several(batch.images, model):
        return batch
    form, images, others = separate_inputs(model, batch.images, explained)
    if form not in forms:  # all batches should have the same form: the cut refuses a second one
        forms.append(form)
    return replace(batch, images=images, other_inputs=others)


def cut_network(
    model: nn.Module | CutModel | str,
    network: nn.Module,
    loaded: LoadedModel | None,
    batch: Batch,
    forms: list[SeveralInputs],
    arguments: CutArguments,
) -> CutModel:
    """Cut the network as requested, or as `load_model` has found, and return it.

    A cut model is returned as it is.

    Without a layer, the network is cut at the last layer that is spatial for the batch's images.
    Raise BenchError if a cut model is given with another layer, or with a reshape or output.
    """
    layer = arguments.layer
    reshape = arguments.reshape
    output = arguments.output
    if isinstance(model, CutModel):
        if layer not in (None, model.layer) or reshape is not None or output is not None:
            raise BenchError(
                f"This model is cut at {model.layer!r} already, with its reshape and output; "
                "leave layer, reshape and output out, or give the network itself."
            )
        return model
    # what the user says has priority over what `load_model` has found
    if loaded:
        layer = layer or loaded.layer
        reshape = reshape or loaded.reshape
        output = output or loaded.output
    if layer is None:
        layer, reshape = _default_layer(network, batch, reshape, output, forms)
    cut_model = cut(network, layer, reshape=reshape, output=output)
    cut_model.finetuned = loaded.finetuned if loaded else None
    return cut_model


def _default_layer(
    model: nn.Module,
    batch: Batch,
    reshape: AnyReshape | None,
    output: AnyOutput | None,
    forms: list[SeveralInputs],
) -> tuple[str, AnyReshape | None]:
    """Return the default layer and its reshape.

    It is found with the other inputs of the batch's first image.
    """
    network = shared_copy(model)  # the pass below must leave the user's network as it is
    if forms:
        forms[0].give(network, tuple(values[:1] for values in batch.other_inputs))
    images = checked_images(batch.images, network)
    channels, *size = images.shape[1:]
    parameters = (parameter for parameter in network.parameters() if parameter.is_floating_point())
    first = images[:1].to(next(parameters, images))  # in the network's precision, on its device
    with users_device():
        # the words of a text were found by such a pass
        if not isinstance(model, WordScores):
            with torch.no_grad(), private_state(network), network_errors(network, first):
                network(first.clone())
        calls = layers.record_calls(network, tuple(size), check_output(output).function, channels)
    if isinstance(model, WordScores):
        layer = model.default_layer
    else:
        layer = layers.choose_layer(model, "default", calls, reshape)
        for sentence in layers.default_notes(layer, calls, reshape):
            warnings.warn(f"{type(model).__name__}: {sentence}", stacklevel=5)
    if reshape is None and layers.has_tokens(layer, calls):
        reshape = "tokens"
    return layer, reshape
