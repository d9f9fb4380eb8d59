"""Shared by all tests: where the real photographs and weights are, and one thread a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import bench  # noqa: F401 - before torchvision, which a CPU-only torch needs


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # as many workers as cores; more threads would only wait for each other


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of real images and weights; skips where it is absent."""
    root = Path(os.environ.get("AXIOM_BENCH_REAL", Path(__file__).resolve().parents[1].parent / "shared"))
    if not (root / "data" / "imagenet").is_dir():
        pytest.skip(f"no real images: {root}/data/imagenet is not there (set AXIOM_BENCH_REAL)")
    return root
