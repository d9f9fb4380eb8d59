"""Where a metric has no value: models without an answer, or of one logit; and parameters out of range."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import OUTPUTS
from axiom_bench.metrics.shared.similarity import KINDS
from axiom_bench.testing.metric_checks import parts_of
from tests.metrics.build import explained, pooled_network, status, statuses, with_fewer

OF_THE_SAME_IMAGE = [
    "class_correlation",
    *(name for name in metrics.names() if name.startswith("model_parameter_randomisation") and "smooth" not in name),
    "random_logit",
    "target_shift",
]
OF_VERSIONS = ["ground_reliance", "object_deletion", "object_effects"]
OF_CHANGED_IMAGES = [
    name
    for name in metrics.names()
    if inspect.isgeneratorfunction(metrics.get(name).call.func) and name not in OF_THE_SAME_IMAGE
]


def each(names: list[str], key: str, values: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Each metric with each of the parameter's values; once where it has no such parameter."""
    return [
        (name, params)
        for name in names
        for params in ([{key: value} for value in values] if key in metrics.get(name).params else [{}])
    ]


class Only(nn.Module):
    """The image it was made for as it is, any other as NaN."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, images: Tensor) -> Tensor:
        changed = (images != self.image).flatten(1).any(1)
        return images.masked_fill(changed[:, None, None, None], torch.nan)


@pytest.fixture(scope="module")
def answering_once() -> ab.Trace:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    net = pooled_network(5, Only(image)).double()
    return ab.cut(net, "2").trace(image, torch.tensor([0]), interventions=[parts_of(image[0], 0)])


def of(trace: ab.Trace, method) -> Explanation:
    note = ab.Annotation(torch.tensor([0, 1]), torch.tensor([[0.0, 0, 6, 6], [6, 6, 12, 12]]))
    return Explanation.of(trace, method(trace), ab.Batch(trace.images, ("a",), trace.targets, (note,)), method)


def weights(trace: ab.Trace) -> Tensor:
    return trace.gradients.abs() + 1e-3


@pytest.mark.parametrize(("name", "params"), each(OF_CHANGED_IMAGES, "output", OUTPUTS), ids=str)
def test_no_value_where_the_model_has_no_answer(name, params, answering_once):
    actual = statuses(name, of(answering_once, weights), **{**with_fewer(name).params, **params})
    assert actual == {value: ("ok",) if value == "complexity" else ("not_finite",) for value in actual}


@pytest.mark.parametrize("name", OF_VERSIONS)
def test_no_value_where_the_score_without_a_part_is_not_finite(name, answering_once):
    assert status(name, of(answering_once, weights)) == {"not_finite"}


@pytest.mark.parametrize(("name", "params"), each(OF_THE_SAME_IMAGE, "similarity", KINDS), ids=str)
def test_no_similarity_with_a_map_that_is_not_finite(name, params, answering_once):
    model = answering_once.cut_model.model

    def once(trace: ab.Trace) -> Tensor:
        first = trace.cut_model.model is model and int(trace.targets[0]) == 0
        return weights(trace) if first else weights(trace) * torch.nan

    assert status(name, of(answering_once, once), **params) == {"not_finite"}


OF_PROBABILITY = ("adcc", "arcc", "average_drop", "average_gain", "effective_complexity", "increase_in_confidence")
WITH_OUTPUT = [name for name in metrics.names() if "output" in metrics.get(name).params]


@pytest.fixture(scope="module")
def of_one_logit() -> Explanation:
    """Its softmax is 1 whatever it sees, so metrics of a probability are undefined."""
    net = pooled_network(1).double()
    trace = ab.trace(net, "1", torch.randn(2, 3, 12, 12, dtype=torch.float64))
    return explained(trace, lambda trace: trace.gradients.abs())


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [*((name, {}, "one_logit") for name in OF_PROBABILITY),
     *((name, {"output": output}, "ok" if output == "logit" else "one_logit")
       for name in WITH_OUTPUT for output in ("probability", "accuracy", "logit"))],
)  # fmt: skip
def test_one_logit_has_no_probability(name, params, expected, of_one_logit):
    assert status(name, of_one_logit, **params) == {expected}


NAN, INFINITE = float("nan"), float("inf")
WRONG: dict[str, list[dict[str, Any]]] = {
    "box_iou": [{"fraction": 15}, {"fraction": 1.0}, {"fraction": -0.1}, {"fraction": NAN}],
    "mask_iou": [{"fraction": 15}, {"fraction": 1.0}, {"fraction": -0.1}, {"fraction": NAN}],
    "max_box_acc": [{"iou": 50}, {"iou": 0}, {"iou": NAN}],
    "max_box_acc_v2": [{"ious": [0.3, 50]}, {"ious": []}, {"ious": [0.0]}],
    "pointing_game": [{"tolerance": -5}, {"tolerance": NAN}],
    "effective_complexity": [{"tolerance": -1}, {"tolerance": 2}, {"steps": 0}],
    "confidence_drop": [{"fill": "blur", "blur": blur} for blur in (0, -1, 5, NAN)] + [{"mode": "hard", "fraction": 2}],
    "insertion_auc": [{"steps": 0}, {"fill": "blur", "blur": 0}, {"fill": [0.0, 1.0]}],
    "deletion_auc": [{"steps": -1}, {"fill": [NAN, 0.0, 0.0]}],
    "road_morf": [{"fractions": []}, {"fractions": [0.1, 10]}, {"noise": -1}, {"noise": INFINITE}],
    "infidelity": [{"sides": []}, {"sides": [10]}, {"squares": 0}],
    "sensitivity_n": [{"fractions": []}, {"fractions": [10]}, {"subsets": 1}],
    "faithfulness_correlation": [{"fraction": 10}, {"subsets": 1}],
    "explanation_sensitivity": [{"radius": -1}, {"radius": INFINITE}, {"samples": 0}],
    "model_parameter_randomisation": [{"stages": 0}],
    "model_parameter_randomisation_efficient": [{"bins": 1}],
    "model_parameter_randomisation_smooth": [{"samples": 0}, {"noise": -1}, {"noise": INFINITE}],
    "saco": [{"groups": 1}, {"groups": 145}],
    "single_deletion": [{"grid": 1}, {"grid": 13}],
    "srg": [{"grid": 1}, {"grid": 13}],
    "arcc": [{"fractions": []}, {"fractions": [1.0]}, {"noise": -1}],
    "top_k_intersection": [{"k": 0}],
}


@pytest.fixture(scope="module")
def annotated() -> Explanation:
    """Of two images with a box and a mask each."""
    notes = [ab.Annotation(torch.tensor([label]), torch.tensor([[2.0, 2.0, 8.0, 8.0]]), torch.full((12, 12), label))
             for label in (0, 1)]  # fmt: skip
    net = pooled_network(3)
    batch = ab.Batch(torch.randn(2, 3, 12, 12), ("a", "b"), torch.tensor([0, 1]), tuple(notes))
    trace = ab.trace(net, "1", batch.images, batch.targets)
    return Explanation.of(trace, torch.ones(2, 4, 1, 1), batch, methods.get("grad_cam"))


@pytest.mark.parametrize(
    ("name", "params"), [(name, params) for name, wrong in WRONG.items() for params in wrong], ids=str
)
def test_out_of_range_is_one_sentence_with_the_metric_s_name(name, params, annotated):
    with pytest.raises(BenchError, match=name):
        status(name, annotated, **params)
