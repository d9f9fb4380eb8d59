"""The device of a run: its checked settings, and torch's device. Functions that need torch import
it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Group, Name, shorten_for_error, whole_number

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")
NUMBERED = re.compile(r"cuda:([0-9]{1,4})")
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)")  # a number and a unit
UNITS = {  # bytes
    "": 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


class DeviceSettings(Group):
    """The settings of conf/device/*.yaml."""

    name: Name
    precision: Name
    head_precision: Name
    ablation_memory: int | Name
    ablation_channels: Annotated[int, whole_number(1, "a number of channels")] | None
    deterministic: bool

    def check(self) -> None:
        """Raise BenchError for a value that is wrong on every machine."""
        from axiom_bench.cutting.passes import check_precision

        if self.name not in DEVICES and not NUMBERED.fullmatch(self.name):
            raise no_device(self.name)
        check_precision(self.precision)
        check_precision(self.head_precision)
        bytes_of(self.ablation_memory)


@dataclass(frozen=True)
class Device:
    """A device of this machine.

    Attributes:
        device: torch's device.
        precision: The precision of the trunk, the layers up to the target layer.
        head_precision: The precision of the head, the layers after the target layer.
        ablation_memory: The bytes that ablations may hold.
        ablation_channels: The number of channels whose ablations are computed; None for all.
        deterministic: Whether kernels are deterministic.
    """

    device: torch.device
    precision: str
    head_precision: str
    ablation_memory: int
    ablation_channels: int | None
    deterministic: bool

    @staticmethod
    def of(settings: DeviceSettings) -> Device:
        """Return the device of the settings.

        Raises:
            BenchError: If a value is wrong, or the GPU is missing.
        """
        settings.check()
        return Device(
            device=_device(settings.name),
            precision=settings.precision,
            head_precision=settings.head_precision,
            ablation_memory=bytes_of(settings.ablation_memory),
            ablation_channels=settings.ablation_channels,
            deterministic=settings.deterministic,
        )

    def prepare(self) -> None:
        """Select deterministic kernels if `deterministic` is set, otherwise let cuDNN choose the
        fastest.

        cuDNN's switch affects neither torch's own kernels nor cuBLAS. Some kernels of torch add in
        any order, such as scatter_add. cuBLAS needs memory of a fixed size. Kernels that have no
        deterministic form still run.
        """
        import torch

        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = not self.deterministic
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams and events are those of the current one
            torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def no_device(name: str) -> BenchError:
    """Return the error for a device that no machine has."""
    if name == "mps":
        return BenchError(
            "Apple's GPUs have no float64, in which values are measured; use device=cpu."
        )
    message = f"There is no device {name!r}; set device=auto, device=cpu, or device=cuda for a GPU"
    if number := re.search(r"[0-9]+$", name):
        message += (
            f"; for GPU {number[0]} put CUDA_VISIBLE_DEVICES={number[0]} in front of the command"
        )
    return BenchError(f"{message}.")


def bytes_of(size: int | str) -> int:
    """Return the number of bytes of "1GiB", "512 MiB", "2GB" or a plain number.

    Raises:
        BenchError: If the text is no size, or the size is less than a byte.

    >>> bytes_of("1.5 KiB")
    1536
    """
    count = 0
    if match := SIZE.fullmatch(str(size).strip()):
        number, unit = match.groups()
        count = int(float(number) * UNITS[unit]) if unit in UNITS else 0
    if count < 1:
        raise BenchError(
            f"Invalid size {shorten_for_error(size)}; give bytes or a number with a unit, such as "
            "512MiB or 1GiB."
        )
    return count


def _device(name: str) -> torch.device:
    """Return torch's device of this name: the first GPU unless the name has a number. Raise
    BenchError for a GPU that this machine hasn't.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise BenchError(
            f"device={name} needs an NVIDIA GPU that torch can use, and there is none; use "
            "device=cpu."
        )
    match = NUMBERED.fullmatch(name)
    number = int(match[1]) if match else 0
    if number >= gpus:
        raise BenchError(
            f"There is no GPU {number} for device.name={name}: this machine has {gpus}, counted "
            "from 0."
        )
    return torch.device("cuda", number)
