"""The methods that draw the same map because of the layers after the target layer."""

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.examination.examine import LINEAR, POOLING, SAME_BEHIND, what_follows

FEATURES = [nn.Conv2d(3, 6, 3), nn.ReLU()]
POOLED = [*FEATURES, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
HEADS = {
    LINEAR: [*POOLED, nn.Linear(6, 4)],
    POOLING: [*POOLED, nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)],
    "": [*FEATURES, nn.Flatten(), nn.Linear(6 * 36, 4)],
}
NAMES = {"Grad-CAM": "grad_cam", "XGrad-CAM": "xgrad_cam", "HiResCAM": "hires_cam", "CAM": "cam"}
NAMES["Ablation-CAM (axiomatic)"] = "ablation_cam_axiomatic"


@pytest.mark.parametrize("follows", HEADS)
def test_methods_coincide_behind_pooling(follows):
    torch.manual_seed(0)
    network = nn.Sequential(*HEADS[follows]).double()
    trace = ab.trace(network, "1", torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert what_follows(trace) == follows

    def raw_map(title):
        weights = ab.methods.get(NAMES[title])(trace)
        return (weights * trace.activations).sum(1)

    same = SAME_BEHIND.get(follows, "")
    for title in NAMES:
        is_listed = title in same.replace(" and ", ", ").split(", ")
        if title == "CAM" and not is_listed:
            continue  # it has no map here
        is_equal = torch.allclose(raw_map(title), raw_map("Grad-CAM"), rtol=1e-9, atol=1e-12)
        assert is_equal == (is_listed or title == "Grad-CAM"), title


def test_a_layer_without_positions_says_nothing():
    network = nn.Sequential(*HEADS[LINEAR])
    assert what_follows(ab.trace(network, "2", torch.randn(1, 3, 8, 8))) == ""
