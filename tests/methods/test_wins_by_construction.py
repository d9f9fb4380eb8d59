"""The YAML key `wins_by_construction` says what the formula does, for values that exist."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.evaluation import plugins

CLAIMS = {name: plugins.load("method", name).spec.wins_by_construction for name in plugins.names("method")}
OWN = sorted((name, metric) for name, metrics in CLAIMS.items() for metric in metrics)


@pytest.mark.parametrize(("name", "metric"), OWN)
def test_the_value_is_rounding(name: str, metric: str) -> None:
    """Behind a ReLU, where other methods have errors."""
    torch.manual_seed(0)
    head = (nn.Flatten(), nn.Linear(6 * 16, 12), nn.ReLU(), nn.Linear(12, 4))
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *head).eval()
    batch = (torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]))
    table = ab.evaluate(model, "2", [batch], methods=[name, "grad_cam"], metrics=[metric])
    values = table[table["metric"] == metric].set_index("method")["value"]
    assert (values[name].abs() < 1e-5).all()
    assert (values["grad_cam"] > 1e-3).all()


def test_some_method_claims_it() -> None:
    assert OWN
