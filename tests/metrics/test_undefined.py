"""The cases in which a metric has no value, and parameters that are out of range.

The cases are models without an answer, and models of one logit.
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

PART_METRICS = ["ground_reliance", "object_deletion", "object_effects"]
# The metrics that ask the model for further passes.
ASKING = [
    name
    for name in metrics.names()
    if inspect.isgeneratorfunction(inspect.unwrap(metrics.get(name).call.func))
]
WITH_SIMILARITY = [name for name in ASKING if "similarity" in metrics.get(name).params]


def with_each_value(
    names: list[str], key: str, values: tuple[str, ...]
) -> list[tuple[str, dict[str, str]]]:
    """Return each metric with each value of the parameter.

    A metric without such a parameter is returned once.
    """
    rows: list[tuple[str, dict[str, str]]] = []
    for name in names:
        if key in metrics.get(name).params:
            rows += [(name, {key: value}) for value in values]
        else:
            rows.append((name, {}))
    return rows


class Only(nn.Module):
    """A layer that passes its own image on, and replaces any other by NaN, which it notes."""

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
    cut_model = with_copy(ab.cut(net, "2"))
    parts = [parts_of(image[0], 0)]
    return cut_model.trace(image, torch.tensor([0]), interventions=parts)


def explained_with_note(trace: ab.Trace, method) -> Explanation:
    mask = torch.where(torch.arange(12) < 6, 0, -1).expand(12, 12)
    boxes = torch.tensor([[0.0, 0, 6, 6], [6, 6, 12, 12]])
    note = ab.Annotation(torch.tensor([0, 1]), boxes, mask)
    batch = ab.Batch(trace.images, ("a",), trace.targets, (note,))
    return Explanation.of(trace, method(trace), batch, method)


def weights(trace: ab.Trace) -> Tensor:
    return trace.gradients.abs() + 1e-3


@pytest.mark.parametrize(("name", "params"), with_each_value(ASKING, "output", OUTPUTS), ids=str)
def test_no_value_where_the_model_has_no_answer(name, params, answering_once):
    """Check that a metric that asks for another image has no value.

    A metric that asks for no other image has values, or statuses of its needs.
    """
    params = with_fewer(name).params | params
    try:
        new_trace = replace(answering_once)  # nothing has been asked of it yet
        actual = statuses(name, explained_with_note(new_trace, weights), **params)
    except BenchError:  # raised by metrics that explain one object of several
        return
    if Only.saw_another:
        for value, row_statuses in actual.items():
            assert row_statuses == (("ok",) if value == "complexity" else ("not_finite",))
    else:
        assert ("not_finite",) not in actual.values()


@pytest.mark.parametrize("name", PART_METRICS)
def test_no_value_where_the_score_without_a_part_is_not_finite(name, answering_once):
    assert status(name, explained_with_note(answering_once, weights)) == {"not_finite"}


@pytest.mark.parametrize(
    ("name", "params"), with_each_value(WITH_SIMILARITY, "similarity", KINDS), ids=str
)
def test_no_similarity_with_a_map_that_is_not_finite(name, params, answering_once):
    model = answering_once.cut_model.model

    def finite_once(trace: ab.Trace) -> Tensor:
        is_first = trace.cut_model.model is model and int(trace.targets[0]) == 0
        return weights(trace) if is_first else weights(trace) * torch.nan

    params = with_fewer(name).params | params
    actual = status(name, explained_with_note(answering_once, finite_once), **params)
    # A need may be unmet, such as several objects when there is one.
    unmet = {PRECONDITIONS[need].status for need in plugins.precondition_names(metrics.get(name))}
    assert actual == {"not_finite"} or actual <= unmet


OF_PROBABILITY = (
    "adcc",
    "arcc",
    "average_drop",
    "average_gain",
    "effective_complexity",
    "increase_in_confidence",
    "irof",
)
WITH_OUTPUT = [name for name in metrics.names() if "output" in metrics.get(name).params]


@pytest.fixture(scope="module")
def of_one_logit() -> Explanation:
    """An explanation of a network whose softmax is always 1.

    The metrics of a probability are undefined.
    """
    net = pooled_network(1).double()
    cut_model = with_copy(ab.cut(net, "1"))
    trace = cut_model.trace(torch.randn(2, 3, 12, 12, dtype=torch.float64))
    return explained(trace, lambda trace: trace.gradients.abs())


ONE_LOGIT_CASES: list[tuple[str, dict[str, str], str]] = [
    (name, {}, "one_logit") for name in OF_PROBABILITY
]
for name_with_output in WITH_OUTPUT:
    ONE_LOGIT_CASES += [
        (name_with_output, {"output": "probability"}, "one_logit"),
        (name_with_output, {"output": "accuracy"}, "one_logit"),
        (name_with_output, {"output": "logit"}, "ok"),
    ]


@pytest.mark.parametrize(("name", "params", "expected"), ONE_LOGIT_CASES)
def test_one_logit_has_no_probability(name, params, expected, of_one_logit):
    assert status(name, of_one_logit, **params) == {expected}


NAN = float("nan")
INFINITE = float("inf")


def wrong_values(key: str, values: list[Any], sentence: str) -> list[tuple[dict[str, Any], str]]:
    """Return one row per wrong value of a parameter: the parameter, and what the message says."""
    return [({key: value}, sentence) for value in values]


# The wrong parameters of each metric, and what the message says.
WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "box_iou": [
        *wrong_values("fraction", [15, 1.0, -0.1, "worst"], "below 1 or 'best'"),
        ({"connectivity": 6}, "4 or 8"),
        ({"regions": "some"}, "'largest' or 'all'"),
    ],
    "mask_iou": wrong_values("fraction", [15, 1.0, -0.1, "mean"], "below 1 or 'best'"),
    "drop_outside_map": wrong_values("fraction", [0, 1, 50], "above 0 and below 1"),
    "max_box_acc": [
        *wrong_values("iou", [50, 0], "above 0 and up to 1"),
        ({"protocol": "paper"}, "protocol"),
    ],
    "max_box_acc_v2": [
        *wrong_values(
            "ious", [[0.3, 50], [], [0.0], [0.5, 0.5], [0.3, 0.301]], "above 0 and up to 1"
        ),
        ({"protocol": "paper"}, "protocol"),
    ],
    "gt_known_loc": [({"iou": NAN}, "not nan"), ({"fraction": NAN}, "not nan")],
    "pxap": [({"protocol": "paper"}, "protocol")],
    "top1_loc": wrong_values("iou", [0, 1.5], "above 0 and up to 1"),
    "pointing_game": wrong_values("tolerance", [-5, NAN], ""),
    "class_discriminability": [({"region": "pixels"}, "'boxes', 'cells' or 'masks'")],
    "effective_complexity": [
        ({"tolerance": -1}, ""),
        ({"tolerance": 2}, ""),
        ({"steps": 0}, "at least one step"),
    ],
    "confidence_drop": [
        ({"fill": "blur", "blur": -1}, ""),
        ({"fill": "blur", "blur": 5}, ""),
        ({"fill": "blur", "blur": NAN}, ""),
        ({"mode": "hard", "fraction": 2}, "2"),
        ({"mode": "middle"}, "soft"),
    ],
    "f_fidelity": [
        ({"fractions": []}, "above 0 and at most 1"),
        ({"fractions": [1.5]}, "above 0 and at most 1"),
        ({"alpha": 0.0}, "above 0 and at most 1"),
        ({"beta": 2.0}, "above 0 and at most 1"),
        ({"samples": 0}, "above 0 and at most 1"),
    ],
    "insertion_auc": [({"steps": 0}, "steps=0")],
    "insertion_auc_fast": [({"passes": 0}, "at least one pass"), ({"steps": 0}, "steps=0")],
    "deletion_auc": [
        ({"steps": -1}, "steps=-1"),
        ({"fill": [NAN, 0.0, 0.0]}, ""),
        ({"first": "middle"}, "highest, lowest"),
    ],
    "road_morf": [
        *wrong_values("fractions", [[], [0.1, 10], [0.5, 1.0], [0.0]], "between 0 and 1"),
        ({"noise": -1}, ""),
        ({"noise": INFINITE}, ""),
    ],
    "infidelity": [
        *wrong_values("sides", [[], [10], [0.0]], r"sides in \(0, 1\]"),
        ({"squares": 0}, ""),
    ],
    "local_completeness": [
        ({"sides": []}, ""),
        ({"sides": [2.0]}, ""),
        ({"kept": 0.0}, ""),
        ({"subsets": 1}, ""),
    ],
    "sensitivity_n": [
        *wrong_values("fractions", [[], [10], [0.5, 1.0]], "between 0 and 1"),
        ({"subsets": 1}, "2 subsets or more"),
    ],
    "mu_fidelity": [
        ({"fraction": 10}, "between 0 and 1"),
        ({"subsets": 1}, "2 subsets or more"),
        ({"grid": 13}, "2 to 12 cells"),
    ],
    "faithfulness_correlation": [
        ({"fraction": 10}, "between 0 and 1"),
        ({"subsets": 1}, "2 subsets or more"),
    ],
    "explanation_sensitivity": [
        *wrong_values("radius", [-1, INFINITE], ""),
        ({"samples": 0}, "at least one sample"),
    ],
    "relative_stability": [
        *wrong_values("smallest", [0, 2], r"not smallest="),
        ({"samples": 0}, "at least one sample"),
    ],
    "local_lipschitz": [({"radius": 0}, "radius above 0"), ({"samples": 0}, "at least one sample")],
    "model_parameter_randomisation": [
        ({"stages": 0}, "at least one stage"),
        ({"order": "cascade"}, "cascading"),
        ({"similarity": "spearmen"}, "spearman"),
    ],
    "model_parameter_randomisation_efficient": [({"bins": 1}, "")],
    "model_parameter_randomisation_smooth": [
        ({"samples": 0}, ""),
        ({"noise": -1}, ""),
        ({"noise": INFINITE}, ""),
    ],
    "saco": [({"groups": 1}, ""), ({"groups": 145}, "")],
    "faithfulness_estimate": [({"groups": 1}, ""), ({"groups": 145}, "")],
    "monotonicity": [({"steps": 0}, "steps=0")],
    "monotonicity_correlation": [
        ({"samples": 0}, "at least one sample"),
        ({"groups": 1}, "2 groups"),
    ],
    "single_deletion": wrong_values("grid", [1, 13], "2 to 12 cells"),
    "non_sensitivity": [
        ({"grid": 1}, "2 to 12 cells"),
        *wrong_values("tolerance", [-0.1, 1], "below 1"),
    ],
    "irof": wrong_values("grid", [1, 13], "2 to 12 cells"),
    "srg": wrong_values("grid", [1, 13], "2 to 12 cells"),
    "arcc": [
        ({"fractions": []}, "between 0 and 1"),
        ({"fractions": [1.0]}, "between 0 and 1"),
        ({"noise": -1}, ""),
    ],
    "top_k_intersection": [({"k": 0}, "1 or more")],
}
# The wrong values of a parameter, for every metric that has such a parameter.
WRONG_FIELDS = {
    "fill": [
        ({"fill": "grey"}, "'mean', 'zero', 'blur', 'rise' or 3 numbers"),
        ({"fill": [0.0, 1.0]}, "3 numbers"),
        ({"fill": "blur", "blur": 0}, "above 0 and up to 1"),
    ],
    "output": [({"output": "softmax"}, "accuracy, logit, probability")],
}
CASES: list[tuple[str, dict[str, Any], str]] = []
for metric_name, wrong_rows in WRONG.items():
    CASES += [(metric_name, *row) for row in wrong_rows]
for metric_name in metrics.names():
    for field in sorted(WRONG_FIELDS.keys() & metrics.get(metric_name).params):
        CASES += [(metric_name, *row) for row in WRONG_FIELDS[field]]


@pytest.fixture(scope="module")
def annotated() -> Explanation:
    """An explanation of two images with a box and a mask each."""
    box = torch.tensor([[2.0, 2.0, 8.0, 8.0]])
    notes = []
    for label in (0, 1):
        mask = torch.full((12, 12), label)
        notes.append(ab.Annotation(torch.tensor([label]), box, mask))
    net = pooled_network(3)
    images = torch.randn(2, 3, 12, 12)
    batch = ab.Batch(images, ("a", "b"), torch.tensor([0, 1]), tuple(notes))
    trace = with_copy(ab.cut(net, "1")).trace(batch.images, batch.targets)
    return Explanation.of(trace, torch.ones(2, 4, 1, 1), batch, methods.get("grad_cam"))


@pytest.mark.parametrize(("name", "params", "sentence"), CASES, ids=str)
def test_out_of_range_is_one_sentence_with_the_metric_s_name(name, params, sentence, annotated):
    with pytest.raises(BenchError, match=f"(?s)(?=.*{name})(?=.*{sentence})") as caught:
        status(name, annotated, **params)
    assert "\n" not in str(caught.value)
