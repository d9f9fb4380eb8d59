"""Parameters out of range: one sentence for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from axiom_bench.cutting.trace import cut
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation

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
def explanation() -> Explanation:
    """Of two images with a box and a mask each."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
    notes = [
        Annotation(torch.tensor([label]), torch.tensor([[2.0, 2.0, 8.0, 8.0]]), torch.full((12, 12), label))
        for label in (0, 1)
    ]
    batch = Batch(torch.randn(2, 3, 12, 12), ("a", "b"), torch.tensor([0, 1]), tuple(notes))
    trace = cut(net, "1").trace(batch.images, batch.targets)
    return Explanation.of(trace, torch.ones(2, 4, 1, 1), batch, plugins.of("method", "grad_cam"))


@pytest.mark.parametrize(
    ("name", "params"), [(name, params) for name, wrong in WRONG.items() for params in wrong], ids=str
)
def test_out_of_range_is_one_sentence_with_the_metric_s_name(explanation: Explanation, name: str, params: dict):
    with pytest.raises(BenchError, match=name):
        measure(plugins.with_params("metric", name, params), explanation, True)
