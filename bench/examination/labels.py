"""Whether labels mean what a network's outputs mean, told by its predictions on a few labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_bench.examination.answer import Answer

LABELS = "labels"  # the question
LEAST_IMAGES, LEAST_CLASSES = 5, 4  # below these another reading of the labels fits by chance
LEAST_LABELS = 3  # different ones that another reading must name right: a network that always says one class names one
LEAST_PAIRS = 5  # labels, seen twice each, that must be another output each time, of an order that has no name
NORMAL = 1.959964  # quantile of the standard normal distribution for 95 %
IN_ORDER = "set data.classes to the classes in the order of the network's outputs"
Indices = NDArray[np.int64]


class Reading(NamedTuple):
    """Another meaning of the labels. outputs: (n,) the output that each image's label would mean, -1 for none."""

    outputs: Indices
    meaning: str
    remedy: str


def examined_labels(
    outputs: Any, labels: Any, names: Sequence[str] | None = None, classes: int | None = None
) -> Answer:
    """How often a network names labelled images as they are labelled, and whether the labels mean something else to it.

    outputs: of a trained network for at most 64 images drawn over the classes, logits (n, C) or predicted classes (n,).
    labels: (n,) class indices from 0, as the data set gives them; both arrays or CPU tensors. names: of the C classes
    in the order of the outputs, which tells an alphabetical order. classes: C, which predicted classes don't tell.

    "ok" above chance, and where nothing can be told (fewer than 5 images, or of one class). "note" at chance. "stop"
    where labels counted from another number or in another order fit the same images clearly better: the 95 % intervals
    are apart. Don't ask it of random weights. Raises ValueError where the lengths differ.

    >>> print(examined_labels([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5], classes=10).sentence[:77])
    6 of 6 images fit if each label is 1 too low, and 0 of 6 fit as labelled; set
    """
    predicted, truth = np.asarray(outputs), np.asarray(labels).astype(np.int64)
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} outputs and {len(truth)} labels")
    count = int(classes or (predicted.shape[1] if predicted.ndim > 1 else 1 + max([*predicted, *truth], default=0)))
    predicted = predicted.argmax(1) if predicted.ndim > 1 else predicted.astype(np.int64)
    number, right = len(truth), int((predicted == truth).sum())
    if number < LEAST_IMAGES:
        return Answer(LABELS, "ok", f"whether labels fit the outputs can't be told from {number} images")
    low, high = wilson(right, number)
    fitting = [(predicted == each.outputs, each) for each in _readings(predicted, truth, count, names)]
    for fits, reading in sorted(fitting, key=lambda pair: -pair[0].sum()):
        if fits_better(fits, truth, right, count):
            of = f"{fits.sum()} of {number} images fit if {reading.meaning}, and {right} of {number} fit as labelled"
            return Answer(LABELS, "stop", f"{of}; {reading.remedy}")
    share = f"{right} of {number} images are predicted as labelled (top-1 {100 * right / number:.0f} %, 95 % interval "
    share += f"{100 * low:.0f} to {100 * high:.0f} %, chance {100 / count:.3g} %)"
    if low > 1 / count or len({*truth}) < 2 or (right / number > 1 / count and high > 0.5):
        return Answer(LABELS, "ok", share)
    return Answer(LABELS, "note", f"{share}: no more than chance, so check weights, mean and std, or {IN_ORDER}")


def fits_better(fits: NDArray[np.bool_], labels: Indices, right: int, classes: int) -> bool:
    """Whether images (n,) fit clearly better in another way than as they are, where `right` do, and better than by
    chance: the 95 % intervals are apart, and several labels are named right. Below 5 images or 4 classes never."""
    if len(fits) < LEAST_IMAGES or classes < LEAST_CLASSES:
        return False
    least = wilson(int(fits.sum()), len(fits))[0]
    return least > max(wilson(right, len(fits))[1], 1 / classes) and len({*labels[fits]}) >= LEAST_LABELS


def wilson(right: int, number: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's score). number: at least 1."""
    share, square = right / number, NORMAL**2 / number
    middle, half = share + square / 2, NORMAL * float(np.sqrt(share * (1 - share) / number + square / (4 * number)))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def _readings(predicted: Indices, truth: Indices, count: int, names: Sequence[str] | None) -> Iterator[Reading]:
    background = f"set model.background=0 if output 0 is the background, else {IN_ORDER}"
    yield Reading(truth + 1, "each label is 1 too low", background)
    yield Reading(truth - 1, "each label is 1 too high", f"count labels from 0, or {IN_ORDER}")
    orders = {"the text of their numbers (0, 1, 10, ...)": ([*map(str, range(count))], "set data.folders=index, or ")}
    if names is not None and len(names) == count:
        orders["the alphabet"] = ([name.casefold() for name in names], "")
    for order, (texts, other) in orders.items():
        places = np.array(sorted(range(count), key=texts.__getitem__))
        for outputs, who in ((places, "labels"), (places.argsort(), "outputs")):
            inside = (truth >= 0) & (truth < count)
            read = np.where(inside, outputs[truth.clip(0, count - 1)], -1)
            yield Reading(read, f"the {who} count the classes in the order of {order}", f"{other}{IN_ORDER}")
    seen = {int(label): predicted[truth == label] for label in {*truth}}
    one = {label: int(of[0]) for label, of in seen.items() if len(of) > 1 and len({*of}) == 1 and of[0] != label}
    if len({*one.values()}) == len(one) >= LEAST_PAIRS:
        pairs = ", ".join(f"{label} is output {output}" for label, output in sorted(one.items())[:3])
        mapped = np.array([one.get(int(label), -1) for label in truth])
        yield Reading(mapped, f"the labels are in another order ({pairs}, ...)", IN_ORDER)
