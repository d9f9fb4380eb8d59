"""Numbers that a method's formula has no meaning for: one sentence that names them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins

WRONG = [
    ("centered", {"sigma": 0.0}, "sigma=0.0"),
    ("group_cam", {"sigma": 0.0}, "sigma=0.0"),
    ("integrated_gradients", {"steps": 0}, "steps=0"),
    ("opti_cam", {"learning_rate": -0.1}, "learning_rate=-0.1"),
    ("smooth_grad_cam_pp", {"sigma": -1.0}, "sigma=-1.0"),
    ("smoothed_xgrad_cam", {"sigma": -1.0}, "sigma=-1.0"),
    ("ss_cam", {"sigma": -1.0}, "sigma=-1.0"),
]


@pytest.mark.parametrize(("name", "params", "said"), WRONG, ids=[f"{name} {said}" for name, _, said in WRONG])
def test_a_number_out_of_range_is_one_sentence(name, params, said):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    trace = ab.trace(net, "1", torch.randn(2, 3, 8, 8))
    method = plugins.load("method", name)
    config = {**method.spec.as_dict(), "_target_": method.target, "params": {**method.params, **params}}
    with pytest.raises(BenchError, match=said):
        plugins.from_config("method", name, config)(trace)
