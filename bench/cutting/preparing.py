"""Prepare a user's network for tracing: all steps from the network and an image to a cut, in order.

`prepare` calls the steps. The details of a step are in the module that it is imported from.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from axiom_bench.cutting.dependence import OtherScores, batch_mates, refuse_batch_statistics
from axiom_bench.cutting.ending import Calls, Ending
from axiom_bench.cutting.graph_parts import CutPoint
from axiom_bench.cutting.images import bound, other_inputs_for
from axiom_bench.cutting.model_copy import (
    hooked,
    hooks_matter,
    pool_by_views,
    private_state,
    shared_copy,
    unwrap_parts,
    unwrapped,
    user_hooks,
)
from axiom_bench.cutting.output import Output, Returned, ScoredNetwork, score_function
from axiom_bench.cutting.passes import HALF, OutputSizes, arithmetic, measured_outputs
from axiom_bench.cutting.recognition import RecognisedOutput, note, recognised
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trunk_and_head import TrunkAndHead, first_that_equals, same_step
from axiom_bench.cutting.views import find_views
from axiom_bench.notes import BatchMates, LowPrecision, Notes


@dataclass(frozen=True, eq=False)
class Uncut:
    """A network before its first image, with the settings of its cut."""

    model: nn.Module  # a copy of the user's network, without the user's hooks
    with_hooks: nn.Module | None  # a copy with the user's hooks; None if the network has none
    layer: str  # the layer's name
    reshape: AnyReshape | None  # the way from tokens to maps and back; None for a layer of maps
    output: Output  # the explained scores
    mates: str | None  # see `TrunkAndHead`; None if it isn't known yet
    follows_shapes: bool  # True if the graph may hold for one size of images only
    notes: Notes  # get a sentence if scores depend on the other images of a batch
    # the trunk and head of a network that runs the same modules, which were checked; None: without
    proved: TrunkAndHead | None = None


@dataclass(frozen=True, eq=False)
class Cut:
    """A network that is ready for tracing."""

    model: nn.Module  # the copy that is traced, with the user's hooks if they matter
    output: Output  # the explained scores, and the kind of the network's return value
    trunk_and_head: TrunkAndHead  # the two parts, checked against the model


@dataclass(frozen=True, eq=False)
class _FirstPass:
    """A pass over one image, whose scores trunk and head must reproduce."""

    returned: Returned  # the network's return value
    num_calls: int  # how often the pass called the layer
    sizes: OutputSizes  # the sizes of the results of the model's operations


def copies(model: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return a copy of a user's network without hooks, and one with them, or None if it has none.

    The copies share the weights. Wrappers such as DataParallel are left out.
    """
    plain = unwrapped(model)
    with_hooks = None
    if user_hooks(plain):
        with_hooks = pool_by_views(unwrap_parts(shared_copy(plain, with_hooks=True)))
    without_hooks = pool_by_views(unwrap_parts(shared_copy(plain)))
    return without_hooks, with_hooks


def prepare(uncut: Uncut, images: Tensor) -> Cut:
    """Cut a network into trunk and head, and check that they give the network's scores for the
    first image.

    Args:
        uncut: The network and the settings of the cut; the network's other inputs are bound.
        images: The images, (B, C, *space), on the network's device.

    Raises:
        BenchError: If the layer gives no maps, if no scores (B, n) are found in the network's
            return value, or if the scores differ from call to call.
    """
    image = images[:1]
    others = other_inputs_for(uncut.model, 1)
    with torch.no_grad(), arithmetic("fp32", image.device), refuse_batch_statistics(uncut.model):
        model = _with_hooks_that_matter(uncut, image, others)
        with private_state(model), bound(model, others):
            first, output = _recognised_pass(uncut, model, image)
            try:
                return Cut(model, output, _trunk_and_head(uncut, model, image, first, output))
            except OtherScores as error:
                if error.is_drawn or uncut.output.returns is not None:
                    raise
            # A network may set itself up in its first call. So only the scores of the first call
            # may differ.
            second = _first_pass(model, uncut.layer, image)
            return Cut(model, output, _trunk_and_head(uncut, model, image, second, output))


def _with_hooks_that_matter(uncut: Uncut, image: Tensor, others: tuple[Tensor, ...]) -> nn.Module:
    """Return the copy with the user's hooks if they change the network's return value, otherwise
    the one without.
    """
    if uncut.with_hooks is None:
        return uncut.model
    with (
        bound(uncut.with_hooks, others),
        private_state(uncut.model),
        private_state(uncut.with_hooks),
    ):
        do_matter = hooks_matter(uncut.with_hooks, uncut.model, image)
        return uncut.with_hooks if do_matter else uncut.model


def _recognised_pass(uncut: Uncut, model: nn.Module, image: Tensor) -> tuple[_FirstPass, Output]:
    """Run the network on the image, and recognise the kind of its return value unless the user
    named it.
    """
    if uncut.output.returns is not None:
        return _first_pass(model, uncut.layer, image), uncut.output
    operations = Calls()
    with operations:
        first = _first_pass(model, uncut.layer, image)
    output = recognised(uncut.output, model, image, (first.returned, operations))
    if sentence := note(output, 'output="logits"'):
        warnings.warn(sentence, RecognisedOutput, stacklevel=2)
    return first, output


def _first_pass(model: nn.Module, layer: str, image: Tensor) -> _FirstPass:
    """Run the network on the image, and count the calls of the layer."""
    calls: list[str] = []
    copied_image = image.clone()  # the model may write to it
    with measured_outputs(image) as sizes, hooked(model, layer, lambda *_: calls.append(layer)):
        returned = model(copied_image)
    return _FirstPass(returned, len(calls), sizes)


def _trunk_and_head(
    uncut: Uncut, model: nn.Module, image: Tensor, first: _FirstPass, output: Output
) -> TrunkAndHead:
    """Find the scores, check whether they depend on other images, and find the views; then capture
    trunk and head.
    """
    ending = Ending(output.returns) if output.returns not in (None, "logits") else None
    scores = score_function(output.function, first.returned, type(model).__name__, image, ending)
    network = ScoredNetwork(model, scores)
    expected = first.returned if scores is None else scores(first.returned)
    # The logits before the end are values of a pass, which the first pass didn't keep.
    if ending is not None:
        expected = network(image.clone())
    module = output.module(expected.shape[1])

    mates = uncut.mates
    if mates is None:
        mates = _mates(network, image, expected, first.sizes.half, uncut.notes)

    views = None
    if first.num_calls > 1:
        views = find_views(network, uncut.layer, image, uncut.reshape is not None)

    point = CutPoint(
        network=network,
        layer=uncut.layer,
        reshape=uncut.reshape,
        image=image,
        scores=expected,
        num_calls=first.num_calls,
        views=views,
        has_mates=bool(mates),
        needs_gradient=output.function is not None,
    )
    found = None if uncut.proved is None else same_step(point, uncut.proved)
    parts, kinds, capture = found or first_that_equals(point, mates, uncut.follows_shapes)
    return TrunkAndHead(
        parts=parts,
        side_kinds=kinds,
        scores=scores,
        output=None if module is None else module.to(image.device),
        sizes=first.sizes,
        mates=mates,
        views=views,
        capture=capture,
    )


def _mates(
    network: ScoredNetwork,
    image: Tensor,
    scores: Tensor,
    half: torch.dtype | None,
    notes: Notes,
) -> str:
    """If the scores depend on the other images of a batch, add a sentence to the notes and return
    it; otherwise "". A network in half precision also adds one.
    """
    if half is not None:
        notes.add(LowPrecision(_low_precision(network.model, half)))
    mates = batch_mates(network, image, scores)
    if mates:
        notes.add(BatchMates(mates))
    return mates


def _low_precision(model: nn.Module, half: torch.dtype) -> str:
    """Return the warning for a network that computes in half precision because of its weights, of
    casts, or of both.

    Differences of scores, such as drops, would consist of rounding.
    """
    are_half = {weight.dtype in HALF for weight in model.parameters()}
    remedies = ["give network.float()"] if True in are_half else []
    if are_half != {True}:
        remedies.append("leave out autocast, .half() and .bfloat16() in its forward")
    sentence = (
        f"The network computes in {half}, of three digits or fewer, and so are its scores, axiom "
        f"errors and drops; {' and '.join(remedies)} for all of them."
    )
    if are_half == {True}:
        sentence += " The command computes in float32 without model.kwargs.dtype."
    return sentence
