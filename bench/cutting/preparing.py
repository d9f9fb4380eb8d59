"""All steps from a user's network and an image to a cut, in order. Details are where each step is imported from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.dependence import OtherScores, batch_mates, one_image_is_enough
from axiom_bench.cutting.ending import Calls, Ending
from axiom_bench.cutting.graph_parts import CutPoint
from axiom_bench.cutting.images import bound, others_of
from axiom_bench.cutting.model_copy import (
    hooked,
    hooks_matter,
    other_hooks,
    own_state,
    pool_by_views,
    shared_copy,
    unwrap_parts,
    unwrapped,
)
from axiom_bench.cutting.output import Output, ScoredNetwork, scores_of
from axiom_bench.cutting.passes import HALF, OutputSizes, arithmetic, measured_outputs
from axiom_bench.cutting.recognition import RecognisedOutput, note, recognised
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trunk_and_head import TrunkAndHead, first_that_equals
from axiom_bench.cutting.views import views_of
from axiom_bench.notes import BatchMates, Notes


@dataclass(frozen=True, eq=False)
class Uncut:
    """A network before its first image, and how it is to be cut.

    Attributes:
        model: A copy of the user's network, without the user's hooks.
        with_hooks: A copy with them; None if the network has none.
        layer: The layer's name.
        reshape: From tokens to maps and back, None for a layer of maps.
        output: What is explained.
        mates: As `TrunkAndHead` has it; None if it isn't known.
        follows_shapes: Whether a graph that holds for one size of images will do.
        notes: Gets a sentence if scores depend on the other images of a batch.
    """

    model: nn.Module
    with_hooks: nn.Module | None
    layer: str
    reshape: AnyReshape | None
    output: Output
    mates: str | None
    follows_shapes: bool
    notes: Notes


@dataclass(frozen=True, eq=False)
class Cut:
    """A network, prepared.

    Attributes:
        model: The copy that is traced, with the user's hooks if they matter.
        output: What is explained, and what the network returns.
        trunk_and_head: The two parts, checked against the model.
    """

    model: nn.Module
    output: Output
    trunk_and_head: TrunkAndHead


@dataclass(frozen=True, eq=False)
class _FirstPass:
    """A pass over one image, whose scores trunk and head must reproduce."""

    returned: Any
    num_calls: int  # of the layer
    sizes: OutputSizes  # of what the model's operations return


def copies(model: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return a copy of a user's network without hooks, and one with them, or None if it has none.

    The copies share the weights. Wrappers such as DataParallel are left out.
    """
    plain = unwrapped(model)
    with_hooks = pool_by_views(unwrap_parts(shared_copy(plain, with_hooks=True))) if other_hooks(plain) else None
    return pool_by_views(unwrap_parts(shared_copy(plain))), with_hooks


def prepare(uncut: Uncut, images: Tensor) -> Cut:
    """Cut a network into trunk and head, which give the network's scores for the first of the images.

    Args:
        uncut: The network and how to cut it; its other inputs are bound.
        images: (B, C, *space) on the network's device.

    Raises:
        BenchError: If the layer has no maps, if what the network returns has no scores (B, n), or if its scores differ
            from call to call.
    """
    image = images[:1]
    others = others_of(uncut.model, 1)
    with torch.no_grad(), arithmetic("fp32", image.device), one_image_is_enough(uncut.model):
        model = _with_hooks_that_matter(uncut, image, others)
        with own_state(model), bound(model, others):
            first, output = _recognised_pass(uncut, model, image)
            try:
                return Cut(model, output, _trunk_and_head(uncut, model, image, first, output))
            except OtherScores as error:
                if error.is_drawn or uncut.output.returns is not None:
                    raise
            # Only the first call may differ, as that of a network that sets itself up in it.
            again = _first_pass(model, uncut.layer, image)
            return Cut(model, output, _trunk_and_head(uncut, model, image, again, output))


def _with_hooks_that_matter(uncut: Uncut, image: Tensor, others: tuple[Tensor, ...]) -> nn.Module:
    """Return the copy with the user's hooks if they change what the network returns."""
    if uncut.with_hooks is None:
        return uncut.model
    with bound(uncut.with_hooks, others), own_state(uncut.model), own_state(uncut.with_hooks):
        return uncut.with_hooks if hooks_matter(uncut.with_hooks, uncut.model, image) else uncut.model


def _recognised_pass(uncut: Uncut, model: nn.Module, image: Tensor) -> tuple[_FirstPass, Output]:
    """Run the network on the image, and find what it returns unless the user says so."""
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
    calls: list[str] = []
    copied_image = image.clone()  # which the model may write to
    with measured_outputs(image) as sizes, hooked(model, layer, lambda *_: calls.append(layer)):
        returned = model(copied_image)
    return _FirstPass(returned, len(calls), sizes)


def _trunk_and_head(uncut: Uncut, model: nn.Module, image: Tensor, first: _FirstPass, output: Output) -> TrunkAndHead:
    """Find the scores, whether they depend on other images, and the views; then capture trunk and head."""
    ending = Ending(output.returns) if output.returns not in (None, "logits") else None
    scores = scores_of(output.function, first.returned, type(model).__name__, image, ending)
    network = ScoredNetwork(model, scores)
    expected = first.returned if scores is None else scores(first.returned)
    if ending is not None:
        expected = network(image.clone())
    module = output.module(expected.shape[1])

    mates = uncut.mates
    if mates is None:
        mates = _mates(network, image, expected, first.sizes.half, uncut.notes)

    views = None
    if first.num_calls > 1:
        views = views_of(network, uncut.layer, image, uncut.reshape is not None)

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
    parts, kinds, capture = first_that_equals(point, mates, uncut.follows_shapes)
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
    """Return the sentence for a network whose scores depend on the other images of a batch, and add it to the notes."""
    if half is not None:
        warnings.warn(_low_precision(network.model, half), stacklevel=2)
    mates = batch_mates(network, image, scores)
    if mates:
        notes.add(BatchMates(mates))
    return mates


def _low_precision(model: nn.Module, half: torch.dtype) -> str:
    """Return the sentence for a network that computes in half precision by its weights, by casts, or by both."""
    are_half = {weight.dtype in HALF for weight in model.parameters()}
    remedies = ["give network.float()"] if True in are_half else []
    if are_half != {True}:
        remedies.append("leave out autocast, .half() and .bfloat16() in its forward")
    return (
        f"The network computes in {half}, of three digits or fewer, and so are its scores, axiom errors and "
        f"drops; {' and '.join(remedies)} for all of them."
    )
