"""Error messages for parameters outside of their range."""

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


@pytest.mark.parametrize(("name", "params", "message"), WRONG, ids=[f"{name} {message}" for name, _, message in WRONG])
def test_parameter_out_of_range_error_message(name, params, message):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    trace = ab.trace(net, "1", torch.randn(2, 3, 8, 8))
    method = plugins.load("method", name)
    config = {**method.spec.as_dict(), "_target_": method.target, "params": {**method.params, **params}}
    with pytest.raises(BenchError, match=message):
        plugins.from_config("method", name, config)(trace)
