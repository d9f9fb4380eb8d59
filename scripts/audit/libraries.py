"""What the audit needs of the installed libraries: versions, calls without output, and words of their files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import torch

from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision, CPU-only torch needs this

PEERS = ("grad-cam", "torchcam", "captum")


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    installed = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def named(distributions: Iterable[str]) -> str:
    """Those that are installed with their versions, as in "torch 2.13.0, numpy 2.4.6"."""
    return ", ".join(" ".join(entry) for entry in versions(distributions).items())


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Without warnings, what is printed in a buffer, and with torch's global generator seeded."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        yield printed


@dataclass(frozen=True)
class Quotation:
    """Words of an installed distribution's file, white space and comment signs aside."""

    distribution: str
    file: str
    words: str

    @property
    def line(self) -> int | None:
        """The line of the file where the words begin, from 1 on; None where this version hasn't got them."""
        installed = distribution(self.distribution)
        path = Path(str(installed.locate_file(self.file)))
        if self.file == "METADATA":  # the distribution's description on PyPI
            path = next(Path(str(file.locate())) for file in installed.files or () if file.name == "METADATA")
        lines = [line.strip().lstrip("#") for line in path.read_text().splitlines()]
        holds = [self.words in " ".join(" ".join(lines[start : start + 12]).split()) for start in range(len(lines))]
        last_before = (start for start, here in enumerate(holds) if here and not any(holds[start + 1 : start + 2]))
        return next((start + 1 for start in last_before), None)

    def __str__(self) -> str:
        place = "not in this version" if self.line is None else f"`{self.file}`, line {self.line}"
        return f'"{self.words}" ({place})'
