"""Recognise a network's return value: logits, probabilities, their logarithms, or probabilities of
several labels.

`preparing` and `load_model` ask for it if the user names no output. If probabilities counted as
logits, all axioms would be measured on the wrong score.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ending import SIGMOID, SOFTMAX, Calls, Ending, logits_before
from axiom_bench.cutting.output import LOGITS, Chain, Output, score_function
from axiom_bench.cutting.output_presets import multi_label

NEAR = 4e-3  # the tolerance relative to the largest probability; bfloat16 rounds by 2e-3
OTHERS = 3  # the images in addition to the first, if only the values show what is returned
SCORES = {
    "probabilities": (
        "probabilities, so the score is the logit before its softmax, or log p where none is seen"
    ),
    "log_probabilities": (
        "logarithms of probabilities, so the score is the logit before its log-softmax"
    ),
    "labels": (
        "probabilities of labels that don't exclude each other, so the score is the logit before "
        "its sigmoid"
    ),
}


class RecognisedOutput(UserWarning):
    """The warning that a network doesn't return logits."""


def note(output: Output, setting: str) -> str:
    """Return the sentence for an output that was recognised; "" for logits.

    `setting` is the setting with which a user says that the return values are logits.
    """
    scores = SCORES.get(output.returns or "")
    return (
        f"The network returns {scores}; {setting} takes what it returns for logits."
        if scores
        else ""
    )


def recognised(
    output: Output, model: nn.Module, image: Tensor, seen: tuple[object, Calls] | None = None
) -> Output:
    """Return the output with its `returns` set, for an output that doesn't say what the network
    returns.

    The result depends only on the network and this image. `load_model` decides by an image of
    random numbers, so that every shard of a job gets the same result. A CutModel decides by the
    first image that it traces. One pass shows whether the returned values come from a softmax or a
    sigmoid. If they come from neither, values that sum to 1 for this image and three others count
    as probabilities.

    Args:
        output: The output to complete.
        model: The network in eval mode, which isn't changed.
        image: The image, (1, C, H', W').
        seen: The model's return value for the image and the operations of that pass; None if there
            was no pass.

    Raises:
        BenchError: If `score_function` raises it.
    """
    returned, calls = seen or _observed(model, image)
    returned = _before_ending(output, model, image, returned)
    returns = _kind_from_operations(returned, calls)
    if returns is None and output.function is None:
        returns = _kind_from_values(returned)
        generator = torch.Generator().manual_seed(0)
        for _ in range(OTHERS):
            # Logits may sum to 1 by chance for one image.
            if returns is not None:
                other = torch.rand(image.shape, generator=generator).to(image)
                other_returned, _calls = _observed(model, other)
                tensor = _before_ending(output, model, other, other_returned)
                returns = returns if _kind_from_values(tensor) == returns else None
    if returns == "labels":
        presets = {"logits": multi_label(), "probability": multi_label(probability=True)}
        preset = presets.get(output.name) if output.function is None else None
        output = preset or replace(output, softmax=False)
    return replace(output, returns=returns or LOGITS.returns)


@torch.no_grad()
def _observed(model: nn.Module, image: Tensor) -> tuple[object, Calls]:
    """Run the model, and return its result with the operations of the pass."""
    with Calls() as calls:
        return model(image.clone()), calls


@torch.no_grad()
def _before_ending(output: Output, model: nn.Module, image: Tensor, returned: object) -> Tensor:
    """Return the tensor from which an Ending makes logits.

    It may be an entry of a dict, or a column of what the network returns.
    """
    ending = Ending("logits")
    scores = score_function(output.function, returned, type(model).__name__, image, ending)
    assert scores is not None
    before = Chain(*scores.functions[: scores.functions.index(ending)])
    tensor: Tensor = before(returned)
    return tensor


def _kind_from_operations(returned: Tensor, calls: Calls) -> str | None:
    """Return a key of SCORES if the operations that made a tensor show it, and its values agree;
    otherwise None.
    """
    values = returned.double()
    logits = logits_before(returned, calls.find, SIGMOID)
    if logits is not None:
        made = logits.double().sigmoid()
        return "labels" if _equal(made, values) or _equal(made, values.exp()) else None
    logits = logits_before(returned, calls.find, SOFTMAX)
    if logits is None:
        return None
    made = logits.double().softmax(min(logits.ndim - 1, 1))
    if _equal(made, values):
        return "probabilities"
    if _equal(made, values.exp()):
        return "log_probabilities"
    # such as the second of two probabilities
    is_part = ((values >= 0) & (values <= 1)).all() and (values < 1).any()
    return "labels" if is_part else None


def _kind_from_values(returned: Tensor) -> str | None:
    """Return a key of SCORES if a tensor has such values over dimension 1; otherwise None."""
    values = returned.double() if returned.ndim > 1 else returned.double().reshape(1, -1)
    if values.shape[1] == 1:
        return None
    for returns, probabilities in (("probabilities", values), ("log_probabilities", values.exp())):
        sums = probabilities.sum(1)
        # zeros and ones only don't show anything
        has_others = ((probabilities > 0) & (probabilities < 1)).any()
        if has_others and (probabilities >= 0).all() and _equal(sums, torch.ones_like(sums)):
            return returns
    return None


def _equal(values: Tensor, others: Tensor) -> bool:
    return bool((values - others).abs().max() <= NEAR * others.abs().max())
