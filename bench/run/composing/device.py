"""Where and how precisely to compute: conf/device/ as a checked value."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from axiom_bench.cutting.passes import check_precision
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import shown

EACH_GPU = "each_gpu"
NAMES = ("auto", "cpu", "cuda", "cuda:1", EACH_GPU)
NUMBERED = re.compile(r"cuda:([0-9]{1,4})")
UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@dataclass(frozen=True)
class Device:
    """The torch device, the precisions of trunk and head, the bytes that ablations may hold, deterministic kernels or
    not."""

    device: torch.device
    precision: str
    head_precision: str
    ablation_memory: int
    deterministic: bool

    @staticmethod
    def of(config: Mapping[str, Any]) -> Device:
        """From conf/device/<name>.yaml. Raises BenchError for a value that can't be, and for a GPU that isn't there."""
        check(config)
        return Device(
            device=_device(config["name"]),
            precision=config["precision"],
            head_precision=config["head_precision"],
            ablation_memory=bytes_of(config["ablation_memory"]),
            deterministic=bool(config["deterministic"]),
        )

    def prepare(self) -> None:
        """Select deterministic kernels if `deterministic` is set, else let cuDNN choose the fastest.

        cuDNN's switch doesn't reach torch's own kernels, of which some add in any order (as scatter_add does), nor
        cuBLAS, which needs memory of a fixed size. Those that have no other form run all the same.
        """
        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = not self.deterministic
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams and events are those of the current one
            torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value that can't be on any machine."""
    if config["name"] not in NAMES and not NUMBERED.fullmatch(config["name"]):
        raise unknown("device", config["name"], NAMES)
    check_precision(config["precision"])
    check_precision(config["head_precision"])
    bytes_of(config["ablation_memory"])


def bytes_of(size: int | str) -> int:
    """A number of bytes from "1GiB", "512 MiB", "2GB" or a plain number. Raises BenchError for another text.

    >>> bytes_of("1.5 KiB")
    1536
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)", str(size).strip())
    count = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if count < 1:
        raise BenchError(f"Invalid size {shown(size)}; give bytes or a number with a unit, such as 512MiB or 1GiB.")
    return count


def _device(name: str) -> torch.device:
    """The first GPU unless the name has a number; of `each_gpu` too, since its other processes see one alone."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise BenchError(f"device={name} needs an NVIDIA GPU that torch can use, and there is none; use device=cpu.")
    match = NUMBERED.fullmatch(name)
    number = int(match[1]) if match else 0
    if number >= gpus:
        raise BenchError(f"There is no GPU {number} for device.name={name}: this machine has {gpus}, counted from 0.")
    return torch.device("cuda", number)


def keep_freed_memory() -> bool:
    """Keeps freed memory in the process, so that the next pass needn't ask the system for it page by page: whether it
    does. Settings in the user's environment come first.

    glibc returns large blocks to the system as they are freed. A network's activations are such blocks, so each pass
    asks for pages that the pass before had (docs/studies/performance.md has the cost).
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries than glibc have none
    return mallopt is not None and all(mallopt(*pair) == 1 for pair in ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0)))
