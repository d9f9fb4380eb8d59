"""Examine a network and a few of its images. Each question is a small function of their trace.

`axiom-bench doctor`, `axiom_bench.check` and the first step of a run ask the questions, so that a
mistake in weights, pixels or labels shows before anything is computed.

The network's predictions on a few labelled images show whether labels mean what its outputs mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from axiom_bench.cutting.dependence import OtherScores
from axiom_bench.cutting.images import Normalisation, bound, pixels_note
from axiom_bench.cutting.model_copy import parts_with_hooks
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.output import LOGITS
from axiom_bench.cutting.recognition import RecognisedOutput, note
from axiom_bench.cutting.silent import single_position_note, zero_gradients_note
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.notes import BatchMates

DETERMINISTIC = "deterministic"  # the question whether the scores of an image are always the same
BATCH = "batch"  # the question whose note makes images run one at a time
LABELS = "labels"  # the question of `examined_labels`
AT_CHANCE = "no more than chance"  # of a network that predicts labels so
SAME_MAPS = "same maps"  # the question which methods draw the same map
POOLING = "global average pooling follows"
LINEAR = "only global average pooling and one linear layer follow"
SAME_GRADIENTS = 1e-5  # relative; equal gradients differ by less, because of rounding
# The methods that draw the same map because of what follows the layer. In a linear layer behind the
# pooling, the gradient of a channel is its weight, and its drop is the gradient times the channel.
SAME_BEHIND = {
    POOLING: "Grad-CAM, XGrad-CAM and HiResCAM",
    LINEAR: "Grad-CAM, XGrad-CAM, HiResCAM, CAM and Ablation-CAM (axiomatic)",
}
MIN_BYTE_VALUE = 20.0  # images in 0 to 1, and normalised ones, have smaller values
# Photographs that are normalised by the mean and deviation of any data set have smaller values.
MAX_NORMALISED = 5.0
EXAMINED_IMAGES = 4  # the number of images whose values are examined
SPREAD = 0.05  # the smallest difference between the values of black and white

# Ranges of pixels as (mean, std) of images in 0 to 1, and the words for them.
AS_PIXELS: Normalisation = ((0.0,) * 3, (1.0,) * 3)
OF_IMAGENET: Normalisation = (IMAGENET_MEAN, IMAGENET_STD)
AS_BYTES: Normalisation = ((0.0,) * 3, (1 / 255,) * 3)
RANGES = {
    AS_PIXELS: "",
    OF_IMAGENET: "normalised by ImageNet's mean and standard deviation",
    AS_BYTES: "multiplied by 255",
}

# With fewer images or classes, another reading of the labels may fit by chance.
LEAST_IMAGES = 5
LEAST_CLASSES = 4
# The number of different labels that another reading must predict correctly. A network that always
# predicts the same class predicts one correctly.
LEAST_LABELS = 3
# The number of labels, each on two or more images, that must always be the same other output before
# the labels count as being in another order.
LEAST_PAIRS = 5
NORMAL = 1.959964  # quantile of the standard normal distribution for 95 %
IN_ORDER = "set data.classes to the classes in the order of the network's outputs"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """The answer to one question about a network and its images."""

    question: str  # one word, such as "deterministic"
    # "ok"; "note" if values are right, but a reader must know something; "stop" if no value would
    # mean anything.
    level: Literal["ok", "note", "stop"]
    sentence: str  # what was found, and for a stop how to fix it

    def __str__(self) -> str:
        return f"{self.question}: {self.level}, {self.sentence}"


def examine(
    traced: Callable[[], Trace],
    has_labels: bool,
    names: Sequence[str] | None = None,
    others: Sequence[Batch] = (),
    normalisation: Normalisation | None = None,
) -> tuple[Answer, ...]:
    """Return the answers of `axiom_bench.check`.

    A network whose scores change from call to call is asked nothing else.

    Args:
        traced: Returns the trace of a few images, of their labels if these are known.
        has_labels: Whether the labels are known.
        names: The names of the classes.
        others: More images, of which only the labels are examined.
        normalisation: The normalisation of the images, or None if it is unknown.

    Returns:
        The answers, in the order in which they are shown.
    """
    try:
        with warnings.catch_warnings():
            # These warnings would repeat the answers.
            warnings.simplefilter("ignore", BatchMates)
            warnings.simplefilter("ignore", RecognisedOutput)
            trace = traced()
    except OtherScores as error:
        return (Answer(DETERMINISTIC, "stop", str(error)),)
    answers = [
        Answer(DETERMINISTIC, "ok", "the scores of an image are the same at each call"),
        _batch(trace),
        _outputs(trace),
        _finite(trace),
        _layer(trace),
        _drops(trace),
        _same_maps(trace),
    ]
    if not has_labels:
        return (*answers, examined_input(trace))
    batches = [trace.images, *(batch.images for batch in others)]
    with torch.no_grad():
        logits = torch.cat([trace.logits, *map(trace.network.forward_logits, batches[1:])]).cpu()
    targets = [trace.targets, *(batch.targets for batch in others if batch.targets is not None)]
    labels = torch.cat([target.cpu() for target in targets])
    other_range = _other_range(trace, batches, logits, labels, normalisation)
    return (*answers, other_range or examined_input(trace), examined_labels(logits, labels, names))


def _batch(trace: Trace) -> Answer:
    """Answer whether other images of a batch change an image's scores."""
    mates = trace.cut_model.mates
    if mates:
        return Answer(BATCH, "note", mates)
    return Answer(BATCH, "ok", "other images of a batch change no score")


def _outputs(trace: Trace) -> Answer:
    """Answer what the network returns."""
    output = trace.cut_model.output
    if output.returns != LOGITS.returns:
        return Answer("outputs", "note", note(output, "output="))
    count = trace.logits.shape[1]
    sentence = f"logits of {count} classes" if count > 1 else "one score an image"
    return Answer("outputs", "ok", sentence)


def _finite(trace: Trace) -> Answer:
    """Answer whether all scores are finite."""
    wrong = int((~trace.logits.isfinite().all(1)).sum())
    if not wrong:
        return Answer("finite", "ok", "all scores are finite")
    sentence = (
        f"{wrong} of {plural(len(trace), 'image')} {verb(wrong, 'has', 'have')} scores that "
        "aren't finite"
    )
    if wrong == len(trace):
        sentence += "; check the weights, and the values of images"
    return Answer("finite", "note", sentence)


def _layer(trace: Trace) -> Answer:
    """Answer whether the layer returns maps on which the scores depend."""
    _, channels, *size = trace.activations.shape
    if prod(size) == 1:
        return Answer("layer", "note", single_position_note(trace))
    if not trace.has_gradients:
        return Answer("layer", "note", zero_gradients_note(trace))
    maps = f"{trace.layer} gives {channels} maps of {' x '.join(map(str, size))}"
    views = trace.cut_model.trunk_and_head.views
    if views:
        count = len(views.places)
        maps += f", {channels // count} for each of {count} views of the image"
    return Answer("layer", "ok", f"{maps}, and the scores depend on them")


def _drops(trace: Trace) -> Answer:
    """Answer how much time the ablation drops of all channels take, the costliest part of a run."""
    cost = "less than 0.1" if trace.drops_cost < 0.1 else f"{trace.drops_cost:.1f}"
    return Answer(
        "drops", "ok", f"{trace.capture}: the drops of an image cost {cost} forward passes"
    )


def what_follows(trace: Trace) -> str:
    """Return POOLING or LINEAR if this follows the layer, otherwise "".

    If pooling follows, the gradients of a channel are the same at each position, so that all
    methods that weigh gradients by activations draw the same map.

    Args:
        trace: The traced batch.
    """
    gradients = trace.gradients
    means = gradients.mean(axes(gradients), keepdim=True)
    largest = gradients.abs().max()
    is_constant = bool((gradients - means).abs().max() <= SAME_GRADIENTS * largest)
    has_several_positions = gradients[0, 0].numel() > 1
    if not has_several_positions or not is_constant or not torch.is_nonzero(largest):
        return ""
    try:
        trace.linear_head()
    except BenchError:
        return POOLING
    return LINEAR


def _same_maps(trace: Trace) -> Answer:
    """Answer which methods draw the same map at the layer, whatever the images are."""
    follows = what_follows(trace)
    if not follows:
        sentence = f"no two methods must draw the same map at {trace.layer}"
        return Answer(SAME_MAPS, "ok", sentence)
    return Answer(SAME_MAPS, "ok", f"{SAME_BEHIND[follows]} draw the same map: {follows}")


def examined_input(trace: Trace) -> Answer:
    """Answer whether the values that the first layer with weights takes look like an image's."""
    pixels_sentence = pixels_note(trace.images, trace.cut_model.normalisation)
    if pixels_sentence:
        return Answer("input", "note", pixels_sentence)
    name, values = _first_input(trace[:EXAMINED_IMAGES])
    low = float(values.amin())
    high = float(values.amax())
    size = " x ".join(map(str, trace.images.shape[1:]))
    sentence = f"images of {size} reach {name} with values from {low:.3g} to {high:.3g}"
    # These ranges exclude each other: pixels of 0 to 255, images that are normalised twice, and
    # pixels that are divided by 255 twice.
    if high > MIN_BYTE_VALUE and low > -MAX_NORMALISED:
        problem = (
            "as pixels of 0 to 255 do: divide them by 255, unless the network was trained on them"
        )
    elif MIN_BYTE_VALUE >= max(high, -low) > MAX_NORMALISED and low < 0:
        problem = (
            "as images that are normalised twice: if the network normalises them itself, "
            "give them as they are (model.mean=[0,0,0] model.std=[1,1,1])"
        )
    elif high - low < SPREAD and trace.images.amax() > trace.images.amin():
        problem = (
            "which are nearly one value: give mean and std in 0 to 1, and divide pixels by 255 "
            "only once"
        )
    else:
        return Answer("input", "ok", sentence)
    return Answer("input", "note", f"{sentence}, {problem}")


@torch.no_grad()
def _other_range(
    trace: Trace,
    batches: Sequence[Tensor],
    logits: Tensor,
    labels: Tensor,
    known: Normalisation | None,
) -> Answer | None:
    """Return a stop if the labels fit clearly better with another range of pixels, otherwise None.

    None is also returned for signals and volumes, and if there are too few images to know. `logits`
    (n, C) and `labels` (n,) are those of the images in `batches`.
    """
    number, classes = logits.shape
    right = int((logits.argmax(1) == labels).sum())
    truth = labels.numpy()
    all_fit = np.ones(number, bool)
    if trace.dimensions != 2 or not fits_better(all_fit, truth, right, classes):
        return None

    def channel_values(values: Sequence[float]) -> Tensor:
        if len(values) != trace.images.shape[1]:
            values = [float(np.mean(values))]
        return torch.tensor(values).to(trace.images).view(-1, 1, 1)

    # The pixels in 0 to 1. If the normalisation is unknown, the values show a probable one.
    low = trace.images.amin()
    high = trace.images.amax()
    if high > MIN_BYTE_VALUE and low > -MAX_NORMALISED:
        probable = AS_BYTES
    elif low < 0:
        probable = OF_IMAGENET
    else:
        probable = AS_PIXELS
    mean, std = map(channel_values, known or probable)
    pixels = [images.to(std) * std + mean for images in batches]
    if torch.allclose(pixels[0], trace.images, atol=1e-3):
        undone = ""
    elif torch.allclose(pixels[0] * 255, trace.images, atol=1e-3):
        undone = "divided by 255"
    else:
        undone = "denormalised"

    # The predictions with every other range of pixels.
    found = []
    for normalisation, words in RANGES.items():
        mean, std = map(channel_values, normalisation)
        other_batches = [(images - mean) / std for images in pixels]
        if torch.allclose(other_batches[0], trace.images, atol=1e-3):
            continue
        predictions = [
            trace.network.forward_logits(images).argmax(1).cpu() for images in other_batches
        ]
        fits = torch.cat(predictions).numpy() == truth
        remedy = f"set model.mean={_setting(mean)} model.std={_setting(std)}"
        found.append((fits, words, remedy))
    fits, words, remedy = max(found, key=lambda candidate: candidate[0].sum())
    if not fits_better(fits, truth, right, classes):
        return None
    meaning = " and ".join(filter(None, (undone, words)))
    sentence = (
        f"{fits.sum()} of {number} images fit if values are {meaning}, and {right} of {number} fit "
        "as given"
    )
    return Answer("input", "stop", f"{sentence}; {remedy if known else 'give them so'}")


def _setting(values: Tensor) -> str:
    """Return numbers as a setting of the command line, such as [0.5,0.5,0.5]."""
    return f"[{','.join(f'{value:.6g}' for value in values.flatten().tolist())}]"


@torch.no_grad()
def _first_input(trace: Trace) -> tuple[str, Tensor]:
    """Return the name of the first called layer with a matrix or kernels, and its input values.

    These values are the network's own input after a normalisation that the network contains.
    """
    values_by_layer: dict[str, list[Tensor]] = {}
    model = trace.cut_model.model

    def record_input(_: nn.Module, inputs: tuple[object, ...], name: str) -> None:
        values = values_by_layer.setdefault(name, [])
        for value in inputs[:1]:
            # an embedding takes the numbers of tokens, which are no pixels
            if isinstance(value, Tensor) and value.is_floating_point():
                values.append(value.flatten())

    handles = []
    for name, part in parts_with_hooks(model):
        if name and any(parameter.ndim > 1 for parameter in part.parameters(False)):
            hook = partial(record_input, name=name)
            handles.append(part.register_forward_pre_hook(hook))
    try:
        for row in range(len(trace)):
            with bound(model, trace[row : row + 1].other_inputs):
                model(trace.images[row : row + 1].clone())
    finally:
        for handle in handles:
            handle.remove()
    for name, values in values_by_layer.items():
        if values:
            return name, torch.cat(values)
    return "the network", trace.images


class Reading(NamedTuple):
    """Another meaning of the labels."""

    outputs: Indices  # (n,), the output that each image's label would mean; -1 for none
    meaning: str  # the meaning in words
    remedy: str  # the setting that makes the labels fit


def examined_labels(
    outputs: object,
    labels: object,
    names: Sequence[str] | None = None,
    classes: int | None = None,
) -> Answer:
    """Answer how often a network predicts labelled images correctly.

    Also answer whether the labels have another meaning for it.

    The answer makes no sense for random weights.

    Args:
        outputs: The outputs of a trained network for at most 64 images drawn over the classes:
            logits (n, C) or predicted classes (n,), an array or a CPU tensor.
        labels: (n,), class indices from 0, as the data set gives them, an array or a CPU tensor.
        names: The names of the C classes in the order of the outputs, which show an alphabetical
            order.
        classes: C, if `outputs` are predicted classes.

    Returns:
        "ok" above chance, and if nothing can be known (fewer than 5 images, or only one class).
        "note" at chance. "stop" if labels counted from another number or in another order fit the
        same images clearly better: the 95 % intervals don't overlap.

    Raises:
        ValueError: if the lengths differ.

    >>> print(examined_labels([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5], classes=10).sentence[:77])
    6 of 6 images fit if each label is 1 too low, and 0 of 6 fit as labelled; set
    """
    predicted = np.asarray(outputs)
    truth = np.asarray(labels).astype(np.int64)
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} outputs and {len(truth)} labels")
    if classes:
        count = int(classes)
    elif predicted.ndim > 1:
        count = predicted.shape[1]
    else:
        count = int(1 + max([*predicted, *truth], default=0))
    predicted = predicted.argmax(1) if predicted.ndim > 1 else predicted.astype(np.int64)
    number = len(truth)
    right = int((predicted == truth).sum())
    if number < LEAST_IMAGES:
        sentence = f"whether labels fit the outputs can't be decided from {plural(number, 'image')}"
        return Answer(LABELS, "ok", sentence)

    readings = [
        (predicted == reading.outputs, reading)
        for reading in _readings(predicted, truth, count, names)
    ]
    # The best fit comes first, so that it is the one that is reported.
    readings.sort(key=lambda pair: -pair[0].sum())
    for fits, reading in readings:
        if fits_better(fits, truth, right, count):
            sentence = (
                f"{fits.sum()} of {number} images fit if {reading.meaning}, and {right} of "
                f"{number} fit as labelled; {reading.remedy}"
            )
            return Answer(LABELS, "stop", sentence)

    low, high = wilson(right, number)
    sentence = (
        f"{right} of {plural(number, 'image')} {verb(right, 'is', 'are')} predicted as labelled "
        f"(top-1 {100 * right / number:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} "
        f"%, chance {100 / count:.3g} %)"
    )
    is_above_chance = low > 1 / count or (right / number > 1 / count and high > 0.5)
    if is_above_chance or len({*truth}) < 2:
        return Answer(LABELS, "ok", sentence)
    advice = f"{AT_CHANCE}, so check weights, mean and std, or {IN_ORDER}"
    return Answer(LABELS, "note", f"{sentence}: {advice}")


def fits_better(fits: NDArray[np.bool_], labels: Indices, right: int, classes: int) -> bool:
    """Return whether images fit clearly better in another way than as they are.

    A run stops only if this holds, since a weak network predicts few labels in any order.

    The 95 % intervals don't overlap, the fit is better than chance, and several labels are
    predicted correctly. With fewer than LEAST_IMAGES images or LEAST_CLASSES classes, the answer is
    always no.

    Args:
        fits: (n,), whether each image fits in the other way.
        labels: (n,), the labels of the images.
        right: The number of images that fit as they are.
        classes: The number of classes.

    Returns:
        Whether they fit better.
    """
    if len(fits) < LEAST_IMAGES or classes < LEAST_CLASSES:
        return False
    low, _ = wilson(int(fits.sum()), len(fits))
    _, high_as_given = wilson(right, len(fits))
    if low <= max(high_as_given, 1 / classes):
        return False
    return len({*labels[fits]}) >= LEAST_LABELS


def wilson(right: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of the share `right / number` (Wilson's score).

    The number is at least 1.
    """
    share = right / number
    square = NORMAL**2 / number
    middle = share + square / 2
    half = NORMAL * float(np.sqrt(share * (1 - share) / number + square / (4 * number)))
    low = (middle - half) / (1 + square)
    return max(low, 0.0), (middle + half) / (1 + square)


def _readings(
    predicted: Indices, truth: Indices, count: int, names: Sequence[str] | None
) -> Iterator[Reading]:
    """Yield the other meanings that the labels may have."""
    # Labels are counted from another number.
    background = f"set model.background=0 if output 0 is the background, otherwise {IN_ORDER}"
    yield Reading(truth + 1, "each label is 1 too low", background)
    yield Reading(truth - 1, "each label is 1 too high", f"count labels from 0, or {IN_ORDER}")

    # Labels or outputs count the classes in the order of some texts.
    numbers = [*map(str, range(count))]
    folders = f"set data.folders=index, or {IN_ORDER}"
    orders = [("the text of their numbers (0, 1, 10, ...)", numbers, folders)]
    if names is not None and len(names) == count:
        orders.append(("the alphabet", [name.casefold() for name in names], IN_ORDER))
    is_class = (truth >= 0) & (truth < count)
    for order, texts, remedy in orders:
        sorted_classes = np.array(sorted(range(count), key=texts.__getitem__))
        for mapping, owner in ((sorted_classes, "labels"), (sorted_classes.argsort(), "outputs")):
            outputs = np.where(is_class, mapping[truth.clip(0, count - 1)], -1)
            meaning = f"the {owner} count the classes in the order of {order}"
            yield Reading(outputs, meaning, remedy)

    # Labels are in an order without a name: each is always predicted as the same other class.
    output_by_label = {}
    for label in {*truth}:
        label_predictions = predicted[truth == label]
        first = label_predictions[0]
        if len(label_predictions) > 1 and len({*label_predictions}) == 1 and first != label:
            output_by_label[int(label)] = int(first)
    if len({*output_by_label.values()}) == len(output_by_label) >= LEAST_PAIRS:
        examples = sorted(output_by_label.items())[:3]
        pairs = ", ".join(f"{label} is output {output}" for label, output in examples)
        outputs = np.array([output_by_label.get(int(label), -1) for label in truth])
        yield Reading(outputs, f"the labels are in another order ({pairs}, ...)", IN_ORDER)
