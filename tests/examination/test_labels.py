"""The check that labels mean what a network's outputs mean.

There is no alarm by chance, and another reading that fits is named.
"""

import re

import numpy as np
import pytest
import torch

from axiom_bench.examination.examine import examined_labels, wilson

LABELS = np.arange(40) % 12
NAMES = [
    "pear",
    "apple",
    "fig",
    "kiwi",
    "lime",
    "plum",
    "date",
    "melon",
    "guava",
    "mango",
    "olive",
    "peach",
]
BY_ALPHABET = np.array(sorted(range(12), key=NAMES.__getitem__))
BY_TEXT = np.array(sorted(range(12), key=str))


@pytest.mark.parametrize(("right", "number"), [(0, 5), (3, 10), (64, 64)])
def test_the_interval_holds_the_shares_whose_own_spread_reaches_it(right, number):
    """Check that Wilson's ends solve |share - p| = z sqrt(p (1 - p) / n)."""
    for end in wilson(right, number):
        variance = max(end * (1 - end), 0) / number
        expected = 1.959964 * variance**0.5
        assert abs(right / number - end) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (LABELS + 1, r"each label is 1 too low, .*model\.background=0"),
        (LABELS - 1, "each label is 1 too high, .*count labels from 0"),
        (BY_ALPHABET[LABELS], "the labels count the classes in the order of the alphabet"),
        (
            BY_ALPHABET.argsort()[LABELS],
            "the outputs count the classes in the order of the alphabet",
        ),
        (
            BY_TEXT[LABELS],
            r"the labels .* order of the text of their numbers .*data\.folders=index",
        ),
        ((LABELS * 5 + 3) % 12, r"another order \(0 is output 3, 1 is output 8, .*data\.classes"),
    ],
)
def test_another_reading_that_fits_better_is_named(predicted, message):
    """Check this also for a network that is wrong on a tenth of the images."""
    if "another" not in message:
        is_wrong = np.arange(40) % 10 == 9
        predicted = np.where(is_wrong, 0, predicted)
    answer = examined_labels(torch.tensor(predicted), LABELS, NAMES, 12)
    assert answer.question == "labels"
    assert answer.level == "stop"
    assert re.search(message, answer.sentence), answer.sentence


@pytest.mark.parametrize(
    ("predicted", "labels", "classes", "level"),
    [
        (LABELS, LABELS, 12, "ok"),
        (np.where(LABELS % 2, LABELS, 0), LABELS, 12, "ok"),
        (LABELS[:4] + 1, LABELS[:4], 12, "ok"),  # too few to tell
        (LABELS * 0 + 1, LABELS, 12, "note"),  # an untrained network predicts one class
        (np.ones(30), np.zeros(30), 12, "ok"),  # a data set with one label
        ([1, 0] * 9, [0, 1] * 9, 2, "note"),  # two classes
        ([0, 1, 1, 0, 1], [0, 1, 1, 1, 0], 2, "ok"),  # three of five, which may be above chance
        (np.random.default_rng(0).integers(0, 12, 40), LABELS, 12, "note"),
    ],
)
def test_no_false_alarm(predicted, labels, classes, level):
    assert examined_labels(predicted, labels, NAMES[:classes], classes).level == level


def test_logits_are_read_as_predicted_classes():
    logits = torch.eye(12)[torch.tensor(LABELS)]
    answer = examined_labels(logits, torch.tensor(LABELS))
    assert answer.level == "ok"
    assert "40 of 40 images are predicted as labelled (top-1 100 %" in answer.sentence
    with pytest.raises(ValueError, match="40 outputs and 3 labels"):
        examined_labels(logits, [1, 2, 3])


def test_no_interval_begins_below_zero():
    """Check a number of images for which rounding gave "-0 to 14 %"."""
    assert str(wilson(0, 24)[0]) == "0.0"
