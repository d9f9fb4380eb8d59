"""Rows of a pass: as memory allows, by nothing that an image shows; halved where they don't fit,
down to one row.
"""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting import passes
from axiom_bench.cutting.passes import (
    LEAST_MEMORY,
    LIVE_OUTPUTS,
    Limits,
    halve_until_it_fits,
    measured_outputs,
)
from axiom_bench.errors import BenchError
from axiom_bench.notes import MachineNote, Notes
from tests.cutting.conftest import Network, conv

SIZE = 8


def regions(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Like a detector: as many regions as the image has pixels above 0."""
    maps = net.conv(images)
    kept = maps.flatten(2).mT[0][images[0, 0].flatten() > 0]
    return maps.mean((2, 3)) + (kept.repeat_interleave(50, dim=0) ** 2).sum()


def net(width):
    features = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True)]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]
    return nn.Sequential(*features, *classifier).eval()


def traced(width, size):
    images = torch.rand(2, 3, size, size)
    return ab.cut(net(width), "0").trace(images), images[0]


def sizes_of(network, image):
    with torch.no_grad(), measured_outputs(image) as sizes:
        network(image)
    return sizes


def test_sizes_are_counted_once_for_each_result_whatever_the_image_shows():
    ones = torch.ones(1, 3, SIZE, SIZE)
    sizes = sizes_of(net(12), ones)
    # A convolution of 12 maps, to which ReLU writes in place; 12 means; 5 logits. Flattening gives
    # a view.
    assert sizes.widest == 4
    assert sizes.total == pytest.approx(1 + 4 + (12 + 5) / (3 * SIZE * SIZE))
    sparse = sizes_of(
        lambda x: torch.sparse.mm(x.flatten(1).to_sparse(), torch.ones(3 * SIZE * SIZE, 5)), ones
    )
    assert sparse.widest == 1
    model = Network(regions, conv=conv()).eval()
    assert sizes_of(model, ones) == sizes_of(model, -ones)
    assert sizes_of(model, ones).widest == 4 / 3


def test_memory_bounds_a_pass_and_a_gradient_keeps_all_outputs():
    """12 maps are four times an image of 3 KiB, and a pass holds three such tensors of each
    image.
    """
    # a CPU has no use for more than 32
    for width, expected in (
        (12, 32),
        (12 * 32, 10),
        (12 * 32 * 32, 1),
    ):
        trace, image = traced(width, 16)
        trace.cut_model.limits.memory = 370 * 2**15
        assert trace.cut_model.rows_at_once(image) == expected
    trace, image = traced(12, SIZE)
    size = image.numel() * image.element_size()
    trace.cut_model.limits.memory = int(7.5 * LIVE_OUTPUTS * 4 * size)
    assert trace.cut_model.rows_at_once(image) == 7
    # 90 sizes over 5.09, all outputs
    assert trace.cut_model.rows_at_once(image, with_gradient=True) == 17
    trace.cut_model.limits.memory = 1
    assert (
        trace.cut_model.rows_at_once(image)
        == trace.cut_model.limits.head_rows_at_once(trace.activations[0])
        == 1
    )


def test_other_models_of_the_same_network_have_equal_passes():
    trace, image = traced(24, 224)
    trace.cut_model.limits.memory = 100 * 2**20
    other = trace.cut_model.on(net(24)).trace(image[None])
    assert other.cut_model.rows_at_once(image) == trace.cut_model.rows_at_once(image) == 7


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the garbage of a test session takes half a second."""
    monkeypatch.setattr(passes, "free", lambda: None)


class Machine:
    """A machine that can compute at most `fits` rows at once."""

    def __init__(self, fits: int, error: BaseException = OUT_OF_MEMORY) -> None:
        self.fits = fits
        self.error = error
        self.tried: list[tuple[range, int]] = []

    def __call__(self, rows: range, size: int) -> list[int]:
        self.tried.append((rows, size))
        if size > self.fits:
            raise self.error
        return list(rows)


@pytest.mark.parametrize("fits", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("rows", [1, 5, 8])
def test_every_row_once_and_in_order(fits, rows):
    limits = Limits(2**30)
    answers = list(halve_until_it_fits(range(rows), 8, limits, Machine(fits)))
    assert [row for answer in answers for row in answer] == list(range(rows))
    assert limits.rows_per_pass(8) == {1: 1, 2: 2, 3: 2, 8: 8, 100: 8}[fits]
    assert limits.memory == 2**30


def test_each_halving_is_noted_and_stays_for_the_batches_after_it():
    limits = Limits(2**30)
    machine = Machine(2)
    notes = Notes()
    list(halve_until_it_fits(range(8), 8, limits, machine, notes))
    assert [sentence.partition(" (")[0] for sentence in notes.sentences(MachineNote)] == [
        "out of memory with 8 rows in a batch: continuing with 4",
        "out of memory with 4 rows in a batch: continuing with 2",
    ]
    machine.tried.clear()
    list(halve_until_it_fits(range(8), 8, limits, machine))
    assert machine.tried == [(range(first, first + 2), 2) for first in (0, 2, 4, 6)]


def test_inside_one_row_its_extra_passes_get_less_memory_until_it_is_an_error():
    limits = Limits(2**30)

    def compute(rows: range, size: int) -> int:
        if limits.memory > 2**25:
            raise OUT_OF_MEMORY
        return limits.memory

    assert list(halve_until_it_fits(range(2), 4, limits, compute)) == [2**24, 2**24]
    assert limits.rows == 1
    with pytest.raises(
        BenchError, match=r"A single image doesn't fit into the memory .*Tried to allocate 20"
    ):
        list(halve_until_it_fits(range(4), 4, limits, Machine(0)))
    assert limits.memory == LEAST_MEMORY


def test_other_errors_are_raised_at_once():
    for error in (RuntimeError("sizes don't match"), ValueError("out of memory"), BenchError("no")):
        machine = Machine(2, error)
        with pytest.raises(type(error)):
            list(halve_until_it_fits(range(8), 8, Limits(2**30), machine))
        assert len(machine.tried) == 1


SCRIPT = """
import resource, torch
from torch import nn
import axiom_bench as ab

torch.set_num_threads(1)
torch.manual_seed(0)
first = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(16))
maps = nn.Sequential(*first, nn.Conv2d(32, 8, 3), nn.ReLU())
network = nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
images = torch.randn(16, 3, 128, 128)
methods = ["grad_cam"]
metrics = ["sensitivity_error", "confidence_drop"]
ab.evaluate(network, "4", [(images[:1], None)], methods, metrics)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {free} * 2**20, resource.RLIM_INFINITY))
key = ["image_id", "method", "metric"]
limited = ab.evaluate(network, "4", [(images, None)], methods, metrics).set_index(key)
limited = limited["value"].sort_index()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
free = ab.evaluate(network, "4", [(images, None)], methods, metrics).set_index(key)
free = free["value"].sort_index()
print(len(limited), float((limited - free).abs().max()))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.system() != "Linux", reason="only Linux limits a process's address space"
)
def test_a_process_under_a_real_limit():
    """The allocator's own error, with 48 MiB where 16 images need 32 MiB for each layer; 4 s, most
    for torch.
    """
    command = [sys.executable, "-c", SCRIPT.format(free=48)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    assert "out of memory with 16 rows in a batch: continuing with 8" in process.stderr
    count, difference = process.stdout.split()
    assert int(count) == 32
    assert float(difference) < 1e-6
