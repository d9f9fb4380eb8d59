"""The `computed_from` of a metric or a right explanation, compared with what its code reads."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from axiom_bench import methods, metrics
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.testing import METRIC_CASES
from tests.metrics.build import with_fewer

READS = {
    Trace: {
        "ablation_drops": "drops",
        "true_contributions": "contributions",
        "part_effects": "effects",
        "part_shapley_values": "effects",
        "gradients": "gradients",
        "scores": "score",
    },
    Explanation: {
        "boxes": "regions",
        "masks": "regions",
        "cells": "regions",
        "required_boxes": "regions",
        "required_masks": "regions",
    },
    Part: {"region": "regions"},
}
REQUESTS = {PerturbedImages: "perturbed_scores", Reexplanation: "other_maps"}
TRUTHS = [name for name in plugins.names("spoiled") if methods.get(name).spec.computed_from]


@pytest.fixture
def reads(monkeypatch):
    """The set of sources that code of methods and metrics reads. It grows during the test."""
    sources = set()

    def watch(owner, names):
        plain = owner.__getattribute__

        def read(instance, name):
            caller = sys._getframe(1).f_code.co_filename
            if name in names and ("/metrics/" in caller or "/methods/" in caller):
                sources.add(names[name])
            return plain(instance, name)

        monkeypatch.setattr(owner, "__getattribute__", read)

    def watch_request(owner, name):
        plain = owner.__init__

        def initialise(instance, *args, **settings):
            sources.add(name)
            plain(instance, *args, **settings)

        monkeypatch.setattr(owner, "__init__", initialise)

    for owner, names in READS.items():
        watch(owner, names)
    for owner, name in REQUESTS.items():
        watch_request(owner, name)
    return sources


@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_is_computed_from_what_it_says(name, reads):
    measure(with_fewer(name), METRIC_CASES["weights"].explanation(), True)
    assert set(metrics.get(name).spec.computed_from) == reads


@pytest.mark.parametrize("name", TRUTHS)
def test_a_truth_is_computed_from_what_it_says_of_both_kinds_of_networks(name, reads):
    case = METRIC_CASES["weights"]
    silent_case = replace(case, case=replace(case.case, tells=False))
    truth = methods.get(name)
    truth(case.explanation().trace)
    truth(silent_case.explanation().trace)
    assert set(truth.spec.computed_from) == reads
    assert case.explanation().trace.cut_model.has_true_contributions


def test_the_truths_are_known():
    assert TRUTHS == ["truth", "truth_drops", "truth_effects", "truth_grid"]
