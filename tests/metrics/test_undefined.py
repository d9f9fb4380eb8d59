"""Where a metric has no value: models without an answer, or of one logit; and parameters out of
range.
"""

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.preconditions import PRECONDITIONS
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import OUTPUTS
from axiom_bench.metrics.shared.similarity import KINDS
from axiom_bench.testing.metric_checks import parts_of
from tests.metrics.build import explained, pooled_network, status, statuses, with_copy, with_fewer

OF_VERSIONS = ["ground_reliance", "object_deletion", "object_effects"]
ASKING = [
    name
    for name in metrics.names()
    if inspect.isgeneratorfunction(inspect.unwrap(metrics.get(name).call.func))
]
WITH_SIMILARITY = [name for name in ASKING if "similarity" in metrics.get(name).params]


def each(names: list[str], key: str, values: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Each metric with each of the parameter's values; once where it has no such parameter."""
    return [
        (name, params)
        for name in names
        for params in (
            [{key: value} for value in values] if key in metrics.get(name).params else [{}]
        )
    ]


class Only(nn.Module):
    """Returns the image that it was made for as it is, and any other as NaN, which it notes."""

    saw_another = False

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, images: Tensor) -> Tensor:
        changed = (images != self.image).flatten(1).any(1)
        Only.saw_another |= bool(changed.any())
        return images.masked_fill(changed[:, None, None, None], torch.nan)


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch):
    monkeypatch.setattr(Only, "saw_another", False)


@pytest.fixture(scope="module")
def answering_once() -> ab.Trace:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    net = pooled_network(5, Only(image)).double()
    return with_copy(ab.cut(net, "2")).trace(
        image, torch.tensor([0]), interventions=[parts_of(image[0], 0)]
    )


def of(trace: ab.Trace, method) -> Explanation:
    mask = torch.where(torch.arange(12) < 6, 0, -1).expand(12, 12)
    note = ab.Annotation(torch.tensor([0, 1]), torch.tensor([[0.0, 0, 6, 6], [6, 6, 12, 12]]), mask)
    return Explanation.of(
        trace, method(trace), ab.Batch(trace.images, ("a",), trace.targets, (note,)), method
    )


def weights(trace: ab.Trace) -> Tensor:
    return trace.gradients.abs() + 1e-3


@pytest.mark.parametrize(("name", "params"), each(ASKING, "output", OUTPUTS), ids=str)
def test_no_value_where_the_model_has_no_answer(name, params, answering_once):
    """A metric that asks for no other image has values, or statuses of its needs."""
    try:
        explanation = of(replace(answering_once), weights)  # on which nothing has been asked yet
        actual = statuses(name, explanation, **{**with_fewer(name).params, **params})
    except BenchError:  # which explains one object of several
        return
    if Only.saw_another:
        assert actual == {
            value: ("ok",) if value == "complexity" else ("not_finite",) for value in actual
        }
    else:
        assert ("not_finite",) not in actual.values()


@pytest.mark.parametrize("name", OF_VERSIONS)
def test_no_value_where_the_score_without_a_part_is_not_finite(name, answering_once):
    assert status(name, of(answering_once, weights)) == {"not_finite"}


@pytest.mark.parametrize(("name", "params"), each(WITH_SIMILARITY, "similarity", KINDS), ids=str)
def test_no_similarity_with_a_map_that_is_not_finite(name, params, answering_once):
    model = answering_once.cut_model.model

    def once(trace: ab.Trace) -> Tensor:
        first = trace.cut_model.model is model and int(trace.targets[0]) == 0
        return weights(trace) if first else weights(trace) * torch.nan

    actual = status(name, of(answering_once, once), **{**with_fewer(name).params, **params})
    unmet = {PRECONDITIONS[need].status for need in plugins.needs_of(metrics.get(name))}
    # such as one object, where several are compared
    assert actual == {"not_finite"} or actual <= unmet


OF_PROBABILITY = (
    "adcc", "arcc", "average_drop", "average_gain", "effective_complexity", "increase_in_confidence", "irof",
)  # fmt: skip
WITH_OUTPUT = [name for name in metrics.names() if "output" in metrics.get(name).params]


@pytest.fixture(scope="module")
def of_one_logit() -> Explanation:
    """Its softmax is 1 whatever it sees, so metrics of a probability are undefined."""
    net = pooled_network(1).double()
    trace = with_copy(ab.cut(net, "1")).trace(torch.randn(2, 3, 12, 12, dtype=torch.float64))
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
WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "box_iou": [
        *(({"fraction": each}, "below 1 or 'best'") for each in (15, 1.0, -0.1, "worst")),
        ({"connectivity": 6}, "4 or 8"), ({"regions": "some"}, "'largest' or 'all'"),
    ],
    "mask_iou": [({"fraction": each}, "below 1 or 'best'") for each in (15, 1.0, -0.1, "mean")],
    "drop_outside_map": [({"fraction": each}, "above 0 and below 1") for each in (0, 1, 50)],
    "max_box_acc": [
        *(({"iou": each}, "above 0 and up to 1") for each in (50, 0)), ({"protocol": "paper"}, "protocol"),
    ],
    "max_box_acc_v2": [
        *(({"ious": each}, "above 0 and up to 1") for each in ([0.3, 50], [], [0.0], [0.5, 0.5], [0.3, 0.301])),
        ({"protocol": "paper"}, "protocol"),
    ],
    "gt_known_loc": [({"iou": NAN}, "not nan"), ({"fraction": NAN}, "not nan")],
    "pxap": [({"protocol": "paper"}, "protocol")],
    "top1_loc": [({"iou": each}, "above 0 and up to 1") for each in (0, 1.5)],
    "pointing_game": [({"tolerance": each}, "") for each in (-5, NAN)],
    "class_discriminability": [({"region": "pixels"}, "'boxes', 'cells' or 'masks'")],
    "effective_complexity": [({"tolerance": -1}, ""), ({"tolerance": 2}, ""), ({"steps": 0}, "at least one step")],
    "confidence_drop": [
        *(({"fill": "blur", "blur": each}, "") for each in (-1, 5, NAN)), ({"mode": "hard", "fraction": 2}, "2"),
        ({"mode": "middle"}, "soft"),
    ],
    "f_fidelity": [
        *((each, "above 0 and at most 1") for each in (
            {"fractions": []}, {"fractions": [1.5]}, {"alpha": 0.0}, {"beta": 2.0}, {"samples": 0},
        )),
    ],
    "insertion_auc": [({"steps": 0}, "steps=0")],
    "insertion_auc_fast": [({"passes": 0}, "at least one pass"), ({"steps": 0}, "steps=0")],
    "deletion_auc": [
        ({"steps": -1}, "steps=-1"), ({"fill": [NAN, 0.0, 0.0]}, ""), ({"first": "middle"}, "highest, lowest"),
    ],
    "road_morf": [
        *(({"fractions": each}, "between 0 and 1") for each in ([], [0.1, 10], [0.5, 1.0], [0.0])),
        ({"noise": -1}, ""), ({"noise": INFINITE}, ""),
    ],
    "infidelity": [
        *(({"sides": each}, r"sides in \(0, 1\]") for each in ([], [10], [0.0])), ({"squares": 0}, ""),
    ],
    "local_completeness": [
        *((each, "") for each in ({"sides": []}, {"sides": [2.0]}, {"kept": 0.0}, {"subsets": 1})),
    ],
    "sensitivity_n": [
        *(({"fractions": each}, "between 0 and 1") for each in ([], [10], [0.5, 1.0])),
        ({"subsets": 1}, "2 subsets or more"),
    ],
    "mu_fidelity": [
        ({"fraction": 10}, "between 0 and 1"), ({"subsets": 1}, "2 subsets or more"), ({"grid": 13}, "2 to 12 cells"),
    ],
    "faithfulness_correlation": [({"fraction": 10}, "between 0 and 1"), ({"subsets": 1}, "2 subsets or more")],
    "explanation_sensitivity": [
        *(({"radius": each}, "") for each in (-1, INFINITE)), ({"samples": 0}, "at least one sample"),
    ],
    "relative_stability": [
        *(({"smallest": each}, r"not smallest=") for each in (0, 2)), ({"samples": 0}, "at least one sample"),
    ],
    "local_lipschitz": [({"radius": 0}, "radius above 0"), ({"samples": 0}, "at least one sample")],
    "model_parameter_randomisation": [
        ({"stages": 0}, "at least one stage"), ({"order": "cascade"}, "cascading"),
        ({"similarity": "spearmen"}, "spearman"),
    ],
    "model_parameter_randomisation_efficient": [({"bins": 1}, "")],
    "model_parameter_randomisation_smooth": [({"samples": 0}, ""), ({"noise": -1}, ""), ({"noise": INFINITE}, "")],
    **{each: [({"groups": 1}, ""), ({"groups": 145}, "")] for each in ("saco", "faithfulness_estimate")},
    "monotonicity": [({"steps": 0}, "steps=0")],
    "monotonicity_correlation": [({"samples": 0}, "at least one sample"), ({"groups": 1}, "2 groups")],
    "single_deletion": [({"grid": each}, "2 to 12 cells") for each in (1, 13)],
    "non_sensitivity": [({"grid": 1}, "2 to 12 cells"), *(({"tolerance": each}, "below 1") for each in (-0.1, 1))],
    "irof": [({"grid": each}, "2 to 12 cells") for each in (1, 13)],
    "srg": [({"grid": each}, "2 to 12 cells") for each in (1, 13)],
    "arcc": [({"fractions": []}, "between 0 and 1"), ({"fractions": [1.0]}, "between 0 and 1"), ({"noise": -1}, "")],
    "top_k_intersection": [({"k": 0}, "1 or more")],
}  # fmt: skip
OF_FIELDS = {  # of every metric that has such a parameter
    "fill": [
        ({"fill": "grey"}, "'mean', 'zero', 'blur', 'rise' or 3 numbers"), ({"fill": [0.0, 1.0]}, "3 numbers"),
        ({"fill": "blur", "blur": 0}, "above 0 and up to 1"),
    ],
    "output": [({"output": "softmax"}, "accuracy, logit, probability")],
}  # fmt: skip
CASES = [(name, *each) for name, wrong in WRONG.items() for each in wrong]
CASES += [
    (name, *each)
    for name in metrics.names()
    for field in sorted(OF_FIELDS.keys() & metrics.get(name).params)
    for each in OF_FIELDS[field]
]


@pytest.fixture(scope="module")
def annotated() -> Explanation:
    """Of two images with a box and a mask each."""
    notes = [ab.Annotation(torch.tensor([label]), torch.tensor([[2.0, 2.0, 8.0, 8.0]]), torch.full((12, 12), label))
             for label in (0, 1)]  # fmt: skip
    net = pooled_network(3)
    batch = ab.Batch(torch.randn(2, 3, 12, 12), ("a", "b"), torch.tensor([0, 1]), tuple(notes))
    trace = with_copy(ab.cut(net, "1")).trace(batch.images, batch.targets)
    return Explanation.of(trace, torch.ones(2, 4, 1, 1), batch, methods.get("grad_cam"))


@pytest.mark.parametrize(("name", "params", "sentence"), CASES, ids=str)
def test_out_of_range_is_one_sentence_with_the_metric_s_name(name, params, sentence, annotated):
    with pytest.raises(BenchError, match=f"(?s)(?=.*{name})(?=.*{sentence})") as caught:
        status(name, annotated, **params)
    assert "\n" not in str(caught.value)
