"""Fixtures that the tests of the commands share."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from axiom_bench.run import verification
from tests.made_runs import undrawn  # noqa: F401
from tests.made_suites import tiny_suite  # noqa: F401


def forget(folder: Path) -> None:
    """Remove the modules below a folder from this process, so that an import reads them again."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
    importlib.invalidate_caches()


class InThisProcess:
    """An executor that computes here, since a new process takes three seconds to import torch.

    Like a new process, it hasn't imported any module below `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> InThisProcess:
        forget(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        forget(self.folder)

    def submit(self, function: Callable, *arguments: object) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """An executor for `verify` that computes in this process."""
    monkeypatch.setattr(verification, "ProcessPoolExecutor", lambda *_: InThisProcess(tmp_path))
