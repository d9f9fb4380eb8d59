"""What a job says once at its end."""

from __future__ import annotations

import logging
import warnings

import pytest

from axiom_bench.evaluation.batch import MethodLeftOut
from axiom_bench.evaluation.method_costs import MethodNotTimed
from axiom_bench.run import notes


def test_each_sentence_once_and_problems_counted():
    with notes.collected() as collected:
        for _ in range(3):
            warnings.warn("The method 'cam' is left out: no pooling", MethodLeftOut, stacklevel=1)
            warnings.warn("No run time for the method 'cam': no pooling", MethodNotTimed, stacklevel=1)
            logging.getLogger("axiom_bench.data.loading").warning("%s: %s", "a.jpg", "no file")
        logging.getLogger("axiom_bench.data.loading").warning("%s: %s", "b.jpg", "no file")
    assert collected.lines() == (
        "The method 'cam' is left out: no pooling",
        "2 images have annotations that can't be used, the first: a.jpg: no file",
    )


def test_bad_images_are_counted_apart():
    with notes.collected() as collected:
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            logging.getLogger("axiom_bench.bad_images").warning("%s: no file", name)
    assert collected.lines() == ("2 images can't be read, the first: a.jpg: no file",)


def test_nothing_to_say():
    with notes.collected() as collected:
        pass
    assert collected.lines() == ()


def test_a_users_warning_of_the_same_words_goes_on():
    with pytest.warns(UserWarning, match="is left out: "), notes.collected() as collected:
        warnings.warn("The last batch is left out: it has one image", stacklevel=1)
    assert collected.lines() == ()


def test_other_warnings_go_on():
    with pytest.warns(RuntimeWarning, match="overflow"), notes.collected():
        warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def test_logging_is_as_before():
    logger = logging.getLogger("axiom_bench.data")
    before = (logger.propagate, list(logger.handlers))
    with pytest.raises(ValueError, match="stop"), notes.collected():
        raise ValueError("stop")
    assert (logger.propagate, list(logger.handlers)) == before
