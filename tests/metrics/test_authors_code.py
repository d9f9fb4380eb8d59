"""Values that the authors' own code printed, on a case without randomness.

visinf/idsds, single_deletion.py at commit 8e84200, `--grid_rows_and_cols 4 --sd_baseline zeros`, one image at a time.
adreamwu/SaCo, compute_SaCo.py at commit b293527, with the groups' salience and drops filled in as the paper says.
bluecher31/pixel-flipping, pixel_flipping.py at commit 2c6af4f, on 25 squares, `scale_spacing=linear
n_measurements=25`, zeros: the area between both of its curves by trapezoids. Its own, by adaptive quadrature, differs
by up to 2e-5.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.explanation.explanation import Explanation

PRINTED = {
    "single_deletion": [0.2588235294117647, 0.023529411764705882, -0.19117647058823528],
    "saco": [0.299128562650115, -0.33581752298059914, -0.10745181092414931],
    "srg": [-0.20948445662040927, -0.4005290120943317, -0.0906893862924612],
}


def wave(*shape: int, step: float) -> Tensor:
    """sin(step), sin(2 step), ... in reading order."""
    return torch.sin(step * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).view(shape)


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    """Three images of 20 x 20 pixels, of which no two pixels of a resized map are equal to 1e-6."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=5, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    net = net.double().eval()
    steps = {net[0].weight: 1.3, net[0].bias: 0.7, net[3].weight: 2.1, net[3].bias: 0.0}
    with torch.no_grad():
        for parameter, step in steps.items():
            parameter.copy_(wave(*parameter.shape, step=step))
    trace = ab.trace(net, "1", wave(3, 3, 20, 20, step=0.9), torch.tensor([0, 1, 2]))
    return Explanation.of(trace, ab.Map(wave(3, 4, 4, step=1.9) ** 3))


@pytest.mark.parametrize("name", PRINTED)
def test_values_are_those_that_the_authors_code_printed(name, explanation):
    answer = metrics.get(name)(explanation)
    values = answer[name] if isinstance(answer, dict) else answer
    assert values.tolist() == pytest.approx(PRINTED[name], abs=1e-13)
