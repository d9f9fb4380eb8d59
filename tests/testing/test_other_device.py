"""The stand-in for a GPU lets through what a GPU lets through, and refuses what it refuses."""

import pytest
import torch

from axiom_bench.methods.eigen_cam import leading_vector
from axiom_bench.testing.other_device import MixedDevices, OtherDevice


@pytest.fixture
def device():
    with OtherDevice() as device:
        yield device


@pytest.fixture
def maps(device):
    maps = torch.arange(24.0).view(2, 3, 4)
    device.put(maps)
    return maps


def copied_from_the_cpu(maps):
    return torch.zeros(2, 3, 4, device=maps.device).copy_(torch.ones(2, 3, 4))


def gradient_of_relu(maps):
    weights = maps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weights.relu().sum(), weights)
    return gradient


def quantile(maps):
    return maps.flatten(1).quantile(0.3, dim=1)


ALLOWED = {
    "a number": lambda maps: maps * 2 + torch.tensor(3.0),
    "a factory on the device": lambda maps: maps + torch.ones(3, 4, device=maps.device),
    "new_ones": lambda maps: maps + maps.new_ones(3, 4),
    "like": lambda maps: maps + torch.ones_like(maps),
    "moved to the device": lambda maps: maps + torch.ones(3, 4).to(maps.device),
    "moved to a tensor's": lambda maps: maps + torch.ones(3, 4).to(maps),
    "a view": lambda maps: maps[0].T + 1,
    "indices of the CPU": lambda maps: maps[torch.tensor([1, 0])],
    "a quantile, which torch computes with tensors of its own": quantile,
    "copied there": copied_from_the_cpu,
    "to another type": lambda maps: maps.to(torch.float64) + maps.double(),
    "a gradient": gradient_of_relu,
}


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_allowed(device, maps, call):
    assert device.holds(call(maps))


REFUSED = {
    "a factory": lambda maps: maps + torch.ones(3, 4),
    "behind a view": lambda maps: maps[0] + torch.ones(3, 4)[1],
    "after .cpu()": lambda maps: maps + maps.cpu(),
    "after .to('cpu')": lambda maps: maps + maps.to("cpu", torch.float64),
    "moved to a tensor of the CPU": lambda maps: maps + maps.to(torch.ones(1)),
    "joined": lambda maps: torch.cat([maps, torch.zeros(1, 3, 4)]),
    "from NumPy": lambda maps: maps * torch.from_numpy(maps.cpu().numpy()),
    "to NumPy": lambda maps: maps.numpy(),
    "a mask": lambda maps: maps.masked_fill(torch.zeros(3, 4, dtype=torch.bool), 0),
    "in place": lambda maps: maps.add_(torch.ones(4)),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused(maps, call):
    with pytest.raises(MixedDevices):
        call(maps)


def test_devices_compare_as_they_are(device, maps):
    assert maps.device == maps.relu().device == torch.ones(1).to(maps).device
    assert maps.device != torch.ones(1).device
    assert maps.device != maps.cpu().device


def test_what_other_threads_would_compute_is_on_the_device_too():
    """Check a computation for which torch would use two threads.

    In other threads, nothing would be marked.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with OtherDevice() as device:
            symmetric = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
            device.put(symmetric)
            leading_vector(symmetric, symmetric[:, 0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_memory_used_again_is_of_no_device_and_nothing_is_refused_outside():
    with OtherDevice() as device:
        for _ in range(100):
            device.put(torch.zeros(1000))
        assert not any(device.holds(torch.zeros(1000)) for _ in range(100))
        maps = torch.zeros(3, 4)
        device.put(maps)
    assert (maps + torch.ones(3, 4)).shape == maps.shape


WAITED_FOR = {
    "a number": lambda maps: float(maps.sum()),
    "a condition": lambda maps: bool((maps > 3).any()),
    "a list": lambda maps: maps.tolist(),
    "to the CPU": lambda maps: maps.cpu(),
    "to the CPU by .to": lambda maps: maps.to("cpu", torch.float32),
    "from the CPU": lambda maps: torch.ones(3).to(maps.device),
    "made of numbers": lambda maps: torch.tensor([1.0], device=maps.device),
    "places": lambda maps: (maps > 3).nonzero(),
    "a mask": lambda maps: maps[maps > 3],
    "indices of the CPU": lambda maps: maps[torch.tensor([1, 0])],
}
NOT_WAITED_FOR = {
    "a sum": lambda maps: maps.sum(),
    "a factory": lambda maps: torch.zeros(3, device=maps.device),
    "sent on its way": lambda maps: maps.to("cpu", non_blocking=True),
    "received on its way": lambda maps: torch.ones(3).to(maps.device, non_blocking=True),
    "where": lambda maps: torch.where(maps > 3, maps, 0.0),
    "its own indices": lambda maps: maps[torch.zeros(1, dtype=torch.long, device=maps.device)],
    "on the CPU": lambda maps: torch.ones(3).tolist(),
}


@pytest.mark.parametrize("call", WAITED_FOR.values(), ids=WAITED_FOR)
def test_waits_are_counted(device, maps, call):
    call(maps)
    ((place, count),) = device.waits.items()
    file = place.rpartition(":")[0].split()[-1]
    assert count == 1
    assert file == "test_other_device.py"


@pytest.mark.parametrize("call", NOT_WAITED_FOR.values(), ids=NOT_WAITED_FOR)
def test_what_needs_no_wait_is_not_counted(device, maps, call):
    call(maps)
    assert not device.waits
