"""scripts/bench_launches.py counts what reaches a device, and what VGG-16's batch asks of it stays within bounds."""

import pytest
import torch
from bench_launches import Launches, counts
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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.slow
def test_a_batch_asks_for_no_more(batch):
    counted = counts(vgg16(batch, CPU))
    assert counted.keys() == BOUNDS.keys()
    for case, (once, of_image, waits) in BOUNDS.items():
        assert counted[case].operations.total() <= once + of_image * batch, case
        assert counted[case].waits.total() <= waits, case
