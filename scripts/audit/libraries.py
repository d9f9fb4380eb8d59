"""What both parts of the audit need of the other libraries: their versions, and calls without their output."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.metadata import PackageNotFoundError, version

import torch

from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision, CPU-only torch needs this

PEERS = ("grad-cam", "torchcam", "captum")
REQUIRED = {"methods": PEERS, "metrics": (*PEERS, "quantus", "scikit-image")}  # beside what the project itself needs


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    installed = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def missing(parts: Iterable[str]) -> list[str]:
    """The distributions that these parts of the audit need and that aren't installed."""
    required = dict.fromkeys(name for part in parts for name in REQUIRED[part])
    installed = versions(required)
    return [name for name in required if name not in installed]


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and warnings, and with torch's global generator seeded."""
    sink = io.StringIO()
    with redirect_stdout(sink), redirect_stderr(sink), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        yield


@contextmanager
def silent_deletion() -> Iterator[None]:
    """Without the errors of `__del__`: grad-cam's ShapleyCAM fails once more when Python deletes it."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
