"""What all parts of the audit need of the libraries: their versions, and calls without their output."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision, CPU-only torch needs this
from axiom_bench.evaluation.plugins import Plugin

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


def with_params(plugin: Plugin, params: Mapping[str, Any]) -> Plugin:
    """One of our methods or metrics with other parameters than those of its YAML."""
    return replace(plugin, call=partial(plugin.call, **params), params={**plugin.params, **params})
