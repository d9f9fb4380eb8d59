"""Golden values of methods that iterate or draw: maps of three scenes on both embedded networks, in float64.

A change that moves a value on purpose writes them again: `python tests/methods/test_golden.py`.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

import axiom_bench as ab
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.base import subset
from axiom_bench.data.loading import batches
from axiom_bench.data.registry import load_dataset
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

FILE = Path(__file__).with_name("golden.json")
GOLDEN = json.loads(FILE.read_text())
NETWORKS = ("scenes_vgg", "scenes_resnet")
CELLS = 3  # maps are averaged over 3 x 3 cells
# Parameters that decide how often a method runs the network, not what it does.
FEWER = {"is_cam": {"steps": 2}, "ss_cam": {"samples": 2}, "opti_cam": {"iterations": 20}}


@cache
def trace_of(network: str) -> Trace:
    """Three scenes, each explained as its label, in float64."""
    loaded = load_model({**model_config(network), "name": network})
    scenes = load_dataset({"kind": "scenes", "size": 3, "seed": 0})
    (batch,) = batches(scenes, subset(scenes, 3, 0), loaded.preprocessing, "label", 3, 0)
    return ab.trace(loaded.module.double(), loaded.layer, batch.images.double(), batch.targets)


def cell_means(method: str, network: str, scenes: int = 3) -> list[list[float]]:
    """The mean of the raw map in each cell, per scene."""
    trace = trace_of(network)[:scenes]
    answer = plugins.with_params("method", method, FEWER.get(method, {}))(trace)
    raw_map = Explanation.of(trace, answer).raw_map
    assert raw_map is not None
    cells: Tensor = adaptive_avg_pool2d(raw_map[:, None], CELLS).flatten(1)
    return [[float(f"{value:.10g}") for value in row] for row in cells.tolist()]


# Of a masked image for each of many channels: on the other network alone they are quick.
MASKED = {("scenes_resnet", method) for method in ("is_cam", "ss_cam")}
CASES = [
    pytest.param(scenes, method, network, marks=[pytest.mark.slow] * (scenes == 3 or (network, method) in MASKED))
    for scenes in (1, 3)
    for method in GOLDEN[NETWORKS[0]]
    for network in NETWORKS
]


@pytest.mark.parametrize(("scenes", "method", "network"), CASES)
def test_golden_values(method, network, scenes):
    """1e-6 of the largest cell: float64 rounds at 1e-16, and iterations enlarge it."""
    expected = torch.tensor(GOLDEN[network][method][:scenes], dtype=torch.float64)
    values = torch.tensor(cell_means(method, network, scenes), dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


if __name__ == "__main__":
    torch.set_num_threads(1)
    blocks = []
    for network in NETWORKS:
        lines = [f"{json.dumps(method)}: {json.dumps(cell_means(method, network))}" for method in GOLDEN[network]]
        blocks.append(json.dumps(network) + ": {\n" + ",\n".join(lines) + "\n}")
    FILE.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
