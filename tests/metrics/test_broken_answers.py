"""A model whose answer to a changed image is NaN: no metric has a value, and the status says why."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import OUTPUTS
from axiom_bench.metrics.shared.similarity import KINDS
from axiom_bench.testing.metric_checks import parts_of
from tests.metrics.fewer import with_fewer

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
def trace() -> ab.Trace:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    net = nn.Sequential(
        Only(image), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return ab.cut(net.double().eval(), "2").trace(image, torch.tensor([0]), interventions=[parts_of(image[0], 0)])


def of(trace: ab.Trace, method) -> Explanation:
    note = ab.Annotation(torch.tensor([0, 1]), torch.tensor([[0.0, 0, 6, 6], [6, 6, 12, 12]]))
    return Explanation.of(trace, method(trace), ab.Batch(trace.images, ("a",), trace.targets, (note,)), method)


def weights(trace: ab.Trace) -> Tensor:
    return trace.gradients.abs() + 1e-3


@pytest.mark.parametrize(("name", "params"), each(OF_CHANGED_IMAGES, "output", OUTPUTS), ids=str)
def test_no_value_where_the_model_has_no_answer(name, params, trace):
    actual = measure(with_params("metric", name, {**with_fewer(name).params, **params}), of(trace, weights), True)
    for value, (values, statuses) in actual.items():
        assert statuses == (("ok",) if value == "complexity" else ("not_finite",)), value
        assert values.isnan().all() == (value != "complexity")


@pytest.mark.parametrize("name", OF_VERSIONS)
def test_no_value_where_the_score_without_a_part_is_not_finite(name, trace):
    for values, statuses in measure(metrics.get(name), of(trace, weights), True).values():
        assert statuses == ("not_finite",)
        assert values.isnan().all()


@pytest.mark.parametrize(("name", "params"), each(OF_THE_SAME_IMAGE, "similarity", KINDS), ids=str)
def test_no_similarity_with_a_map_that_is_not_finite(name, params, trace):
    model = trace.cut_model.model

    def once(trace: ab.Trace) -> Tensor:
        first = trace.cut_model.model is model and int(trace.targets[0]) == 0
        return weights(trace) if first else weights(trace) * torch.nan

    actual = measure(with_params("metric", name, params), of(trace, once), True)
    assert {status for _, statuses in actual.values() for status in statuses} == {"not_finite"}
