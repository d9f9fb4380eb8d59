"""The examination of a network and a few of its images: each question is a small function of their
trace. Whether labels mean what its outputs mean is told by its predictions on a few labelled
images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from axiom_bench.cutting.dependence import OtherScores
from axiom_bench.cutting.images import Normalisation, bound, pixels_note
from axiom_bench.cutting.model_copy import parts_with_hooks
from axiom_bench.cutting.output import LOGITS
from axiom_bench.cutting.recognition import RecognisedOutput, note
from axiom_bench.cutting.silent import one_position, silence
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.models.sources import IMAGENET_MEAN, IMAGENET_STD
from axiom_bench.notes import BatchMates

SAME = "deterministic"
BATCH = "batch"  # the question whose note makes images run one at a time
BYTES = 20.0  # images in 0 to 1, and normalised ones, have smaller values
NORMALISED = (
    5.0  # photographs normalised by the mean and deviation of any data set have smaller ones
)
FEW = 4  # images, of which the values are looked at
SPREAD = 0.05  # between black and white there is more
AS_PIXELS, AS_BYTES = ((0.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (1 / 255,) * 3)
OF_IMAGENET, BY = (
    (IMAGENET_MEAN, IMAGENET_STD),
    "normalised by ImageNet's mean and standard deviation",
)
RANGES: dict[Normalisation, str] = {AS_PIXELS: "", OF_IMAGENET: BY, AS_BYTES: "multiplied by 255"}


@dataclass(frozen=True)
class Answer:
    """question: one word, such as "deterministic". level: "ok"; "note", where values hold and a
    reader must know it; "stop", where no value would mean anything. sentence: what was found, and
    for a stop how to mend it.
    """

    question: str
    level: Literal["ok", "note", "stop"]
    sentence: str

    def __str__(self) -> str:
        return f"{self.question}: {self.level}, {self.sentence}"


def examine(
    traced: Callable[[], Trace],
    has_labels: bool,
    names: Sequence[str] | None = None,
    others: Sequence[Batch] = (),
    normalisation: Normalisation | None = None,
) -> tuple[Answer, ...]:
    """Return the answers of `axiom_bench.check`. traced: makes the trace of a few images, of their
    labels where these are known. names: of the classes. others: more images, of which labels alone
    are asked. normalisation: of the images; None where nobody knows it. A network that changes from
    call to call is asked nothing else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BatchMates)
            warnings.simplefilter("ignore", RecognisedOutput)
            trace = traced()
    except OtherScores as error:
        return (Answer(SAME, "stop", str(error)),)
    answers = [
        question(trace) for question in (_deterministic, _batch, _outputs, _finite, _layer, _drops)
    ]
    if not has_labels:
        return (*answers, examined_input(trace))
    batches = [trace.images, *(batch.images for batch in others)]
    with torch.no_grad():
        logits = torch.cat([trace.logits, *map(trace.network.forward_logits, batches[1:])]).cpu()
    of_others = [batch.targets for batch in others if batch.targets is not None]
    labels = torch.cat([each.cpu() for each in (trace.targets, *of_others)])
    other_range = _other_range(trace, batches, logits, labels, normalisation)
    return (*answers, other_range or examined_input(trace), examined_labels(logits, labels, names))


def _deterministic(trace: Trace) -> Answer:
    return Answer(SAME, "ok", "the scores of an image are the same at each call")


def _batch(trace: Trace) -> Answer:
    mates = trace.cut_model.mates
    return (
        Answer(BATCH, "note", mates)
        if mates
        else Answer(BATCH, "ok", "other images of a batch change no score")
    )


def _outputs(trace: Trace) -> Answer:
    output, count = trace.cut_model.output, trace.logits.shape[1]
    if output.returns != LOGITS.returns:
        return Answer("outputs", "note", note(output, "output="))
    return Answer(
        "outputs", "ok", f"logits of {count} classes" if count > 1 else "one score an image"
    )


def _finite(trace: Trace) -> Answer:
    wrong = int((~trace.logits.isfinite().all(1)).sum())
    if wrong:
        mend = "; check the weights, and the values of images" if wrong == len(trace) else ""
        return Answer(
            "finite", "note", f"{wrong} of {len(trace)} images have scores that aren't finite{mend}"
        )
    return Answer("finite", "ok", "all scores are finite")


def _layer(trace: Trace) -> Answer:
    _, channels, *size = trace.activations.shape
    if prod(size) == 1:
        return Answer("layer", "note", one_position(trace))
    if not trace.has_gradients:
        return Answer("layer", "note", silence(trace))
    maps = f"{trace.layer} gives {channels} maps of {' x '.join(map(str, size))}"
    if views := trace.cut_model.trunk_and_head.views:
        maps += (
            f", {channels // len(views.places)} for each of {len(views.places)} views of the image"
        )
    return Answer("layer", "ok", f"{maps}, and the scores depend on them")


def _drops(trace: Trace) -> Answer:
    cost = "less than 0.1" if trace.drops_cost < 0.1 else f"{trace.drops_cost:.1f}"
    return Answer(
        "drops", "ok", f"{trace.capture}: the drops of an image cost {cost} forward passes"
    )


def examined_input(trace: Trace) -> Answer:
    """Answer whether the values that the first layer with weights takes look like an image's."""
    if note := pixels_note(trace.images, trace.cut_model.normalisation):
        return Answer("input", "note", note)
    name, values = _first_input(trace[:FEW])
    low, high = float(values.amin()), float(values.amax())
    size = " x ".join(map(str, trace.images.shape[1:]))
    seen = f"images of {size} reach {name} with values from {low:.3g} to {high:.3g}"
    if high > BYTES and low > -NORMALISED:
        seen += (
            ", as pixels of 0 to 255 do: divide them by 255, unless the network was trained on them"
        )
    elif BYTES >= max(high, -low) > NORMALISED and low < 0:
        seen += (
            ", as images that are normalised twice: where the network normalises them itself, "
            "give them as they are (model.mean=[0,0,0] model.std=[1,1,1])"
        )
    elif high - low < SPREAD and trace.images.amax() > trace.images.amin():
        seen += ", which are nearly one value: give mean and std in 0 to 1, and divide pixels by 255 only once"
    else:
        return Answer("input", "ok", seen)
    return Answer("input", "note", seen)


@torch.no_grad()
def _other_range(
    trace: Trace,
    batches: Sequence[Tensor],
    logits: Tensor,
    labels: Tensor,
    known: Normalisation | None,
) -> Answer | None:
    """A stop where the labels fit clearly better with another range of pixels; None where they
    don't, for signals and volumes, and where not even all images could tell. batches: of images,
    whose logits (n, C) and labels (n,) these are.
    """
    (number, classes), right, truth = (
        logits.shape,
        int((logits.argmax(1) == labels).sum()),
        labels.numpy(),
    )
    if trace.dimensions != 2 or not fits_better(np.ones(number, bool), truth, right, classes):
        return None

    def of_channels(values: Sequence[float]) -> Tensor:
        one_each = values if len(values) == trace.images.shape[1] else [float(np.mean(values))]
        return torch.tensor(one_each).to(trace.images).view(-1, 1, 1)

    low, high = trace.images.amin(), trace.images.amax()
    probable = (
        AS_BYTES if high > BYTES and low > -NORMALISED else OF_IMAGENET if low < 0 else AS_PIXELS
    )
    mean, std = map(of_channels, known or probable)
    pixels, found = [images.to(std) * std + mean for images in batches], []
    undone = next((words for scale, words in ((1, ""), (255, "divided by 255"))
                   if torch.allclose(pixels[0] * scale, trace.images, atol=1e-3)), "denormalised")  # fmt: skip
    for taken, then in RANGES.items():
        mean, std = map(of_channels, taken)
        others = [(images - mean) / std for images in pixels]
        if not torch.allclose(others[0], trace.images, atol=1e-3):
            predicted = torch.cat(
                [trace.network.forward_logits(images).argmax(1).cpu() for images in others]
            )
            settings = (
                f"[{','.join(f'{value:.6g}' for value in each.flatten().tolist())}]"
                for each in (mean, std)
            )
            found.append(
                (
                    predicted.numpy() == truth,
                    then,
                    "set model.mean={} model.std={}".format(*settings),
                )
            )
    fits, then, remedy = max(found, key=lambda each: each[0].sum())
    if not fits_better(fits, truth, right, classes):
        return None
    meaning = " and ".join(filter(None, (undone, then)))
    sentence = (
        f"{fits.sum()} of {number} images fit if values are {meaning}, and {right} of {number} fit "
        "as given"
    )
    return Answer("input", "stop", f"{sentence}; {remedy if known else 'give them so'}")


@torch.no_grad()
def _first_input(trace: Trace) -> tuple[str, Tensor]:
    """The name of the first layer with a matrix or kernels that a pass calls, and what it takes of
    each image.
    """
    taken: dict[str, list[Tensor]] = {}
    model, images = trace.cut_model.model, trace.images

    def take(_: nn.Module, inputs: tuple[object, ...], name: str) -> None:
        taken.setdefault(name, []).extend(
            value.flatten() for value in inputs[:1] if isinstance(value, Tensor)
        )

    parts = [
        each
        for each in parts_with_hooks(model)
        if each[0] and any(p.ndim > 1 for p in each[1].parameters(False))
    ]
    handles = [part.register_forward_pre_hook(partial(take, name=name)) for name, part in parts]
    try:
        for row in range(len(trace)):
            with bound(model, trace[row : row + 1].other_inputs):
                model(images[row : row + 1].clone())
    finally:
        for handle in handles:
            handle.remove()
    return next(
        ((name, torch.cat(values)) for name, values in taken.items() if values),
        ("the network", images),
    )


LABELS = "labels"  # the question of `examined_labels`
LEAST_IMAGES, LEAST_CLASSES = 5, 4  # below these another reading of the labels fits by chance
# different ones that another reading must name right: a network that always says one class names
# one
LEAST_LABELS = 3
# labels, seen twice each, that must be another output each time, of an order that has no name
LEAST_PAIRS = 5
NORMAL = 1.959964  # quantile of the standard normal distribution for 95 %
IN_ORDER = "set data.classes to the classes in the order of the network's outputs"
Indices = NDArray[np.int64]


class Reading(NamedTuple):
    """Another meaning of the labels. outputs: (n,) the output that each image's label would mean,
    -1 for none.
    """

    outputs: Indices
    meaning: str
    remedy: str


def examined_labels(
    outputs: Any, labels: Any, names: Sequence[str] | None = None, classes: int | None = None
) -> Answer:
    """How often a network names labelled images as they are labelled, and whether the labels mean
    something else to it.

    outputs: of a trained network for at most 64 images drawn over the classes, logits (n, C) or
    predicted classes (n,). labels: (n,) class indices from 0, as the data set gives them; both
    arrays or CPU tensors. names: of the C classes in the order of the outputs, which tells an
    alphabetical order. classes: C, which predicted classes don't tell.

    "ok" above chance, and where nothing can be told (fewer than 5 images, or of one class). "note"
    at chance. "stop" where labels counted from another number or in another order fit the same
    images clearly better: the 95 % intervals are apart. Don't ask it of random weights. Raises
    ValueError where the lengths differ.

    >>> print(examined_labels([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5], classes=10).sentence[:77])
    6 of 6 images fit if each label is 1 too low, and 0 of 6 fit as labelled; set
    """
    predicted, truth = np.asarray(outputs), np.asarray(labels).astype(np.int64)
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} outputs and {len(truth)} labels")
    count = int(
        classes
        or (predicted.shape[1] if predicted.ndim > 1 else 1 + max([*predicted, *truth], default=0))
    )
    predicted = predicted.argmax(1) if predicted.ndim > 1 else predicted.astype(np.int64)
    number, right = len(truth), int((predicted == truth).sum())
    if number < LEAST_IMAGES:
        return Answer(
            LABELS, "ok", f"whether labels fit the outputs can't be told from {number} images"
        )
    low, high = wilson(right, number)
    fitting = [
        (predicted == each.outputs, each) for each in _readings(predicted, truth, count, names)
    ]
    for fits, reading in sorted(fitting, key=lambda pair: -pair[0].sum()):
        if fits_better(fits, truth, right, count):
            of = (
                f"{fits.sum()} of {number} images fit if {reading.meaning}, and {right} of "
                f"{number} fit as labelled"
            )
            return Answer(LABELS, "stop", f"{of}; {reading.remedy}")
    share = (
        f"{right} of {number} images are predicted as labelled (top-1 {100 * right / number:.0f} "
        "%, 95 % interval "
    )
    share += f"{100 * low:.0f} to {100 * high:.0f} %, chance {100 / count:.3g} %)"
    if low > 1 / count or len({*truth}) < 2 or (right / number > 1 / count and high > 0.5):
        return Answer(LABELS, "ok", share)
    return Answer(
        LABELS,
        "note",
        f"{share}: no more than chance, so check weights, mean and std, or {IN_ORDER}",
    )


def fits_better(fits: NDArray[np.bool_], labels: Indices, right: int, classes: int) -> bool:
    """Whether images (n,) fit clearly better in another way than as they are, where `right` do, and
    better than by chance: the 95 % intervals are apart, and several labels are named right. Below 5
    images or 4 classes never.
    """
    if len(fits) < LEAST_IMAGES or classes < LEAST_CLASSES:
        return False
    least = wilson(int(fits.sum()), len(fits))[0]
    return (
        least > max(wilson(right, len(fits))[1], 1 / classes)
        and len({*labels[fits]}) >= LEAST_LABELS
    )


def wilson(right: int, number: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's score). number: at least 1."""
    share, square = right / number, NORMAL**2 / number
    middle, half = (
        share + square / 2,
        NORMAL * float(np.sqrt(share * (1 - share) / number + square / (4 * number))),
    )
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def _readings(
    predicted: Indices, truth: Indices, count: int, names: Sequence[str] | None
) -> Iterator[Reading]:
    background = f"set model.background=0 if output 0 is the background, else {IN_ORDER}"
    yield Reading(truth + 1, "each label is 1 too low", background)
    yield Reading(truth - 1, "each label is 1 too high", f"count labels from 0, or {IN_ORDER}")
    orders = {
        "the text of their numbers (0, 1, 10, ...)": (
            [*map(str, range(count))],
            "set data.folders=index, or ",
        )
    }
    if names is not None and len(names) == count:
        orders["the alphabet"] = ([name.casefold() for name in names], "")
    for order, (texts, other) in orders.items():
        places = np.array(sorted(range(count), key=texts.__getitem__))
        for outputs, who in ((places, "labels"), (places.argsort(), "outputs")):
            inside = (truth >= 0) & (truth < count)
            read = np.where(inside, outputs[truth.clip(0, count - 1)], -1)
            yield Reading(
                read, f"the {who} count the classes in the order of {order}", f"{other}{IN_ORDER}"
            )
    seen = {int(label): predicted[truth == label] for label in {*truth}}
    one = {
        label: int(of[0])
        for label, of in seen.items()
        if len(of) > 1 and len({*of}) == 1 and of[0] != label
    }
    if len({*one.values()}) == len(one) >= LEAST_PAIRS:
        pairs = ", ".join(
            f"{label} is output {output}" for label, output in sorted(one.items())[:3]
        )
        mapped = np.array([one.get(int(label), -1) for label in truth])
        yield Reading(mapped, f"the labels are in another order ({pairs}, ...)", IN_ORDER)
