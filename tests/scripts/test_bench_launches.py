"""scripts/bench_launches.py counts what reaches a device, and what VGG-16's batch asks of it stays within bounds."""

import pytest
import torch
from bench_launches import CASES, Launches, counts
from bench_speed import vgg16
from measuring import CPU

from axiom_bench.testing.other_device import OtherDevice

# Of a batch: launches whatever its size, launches an image, and waits. One more of either is to be meant.
BOUNDS = {"trace": (65, 0, 0), "and all drops": (100, 3, 1), "and five methods": (180, 3, 1),
          "and both axioms": (240, 3, 1)}  # fmt: skip


def test_what_counts_as_a_launch_and_its_bytes():
    x, on_cpu = torch.ones(4, 2), torch.ones(3)
    with OtherDevice() as device, Launches(device) as launches:
        device.put(x)
        x.t().contiguous().view(2, 2, 2)[0].relu()  # a copy between views
        torch.empty_like(x)
        on_cpu.exp()
    assert launches.operations == {"clone": 1, "relu": 1}
    assert launches.bytes == 2 * 32 + 2 * 16


@pytest.fixture(scope="module")
def counted():
    networks = {batch: vgg16(batch, CPU) for batch in (1, 3)}
    return {name: [counts(network, case) for network in networks.values()] for name, case in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_batch_asks_for_no_more(counted, case):
    once, of_image, waits = BOUNDS[case]
    for batch, counts_of_batch in zip((1, 3), counted[case], strict=True):
        assert counts_of_batch.operations.total() <= once + of_image * batch
        assert counts_of_batch.waits.total() <= waits
