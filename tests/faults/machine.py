"""What a machine does to the runs on it: a clock that jumps, a user with few permissions, a file system of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DAY = 86_400.0
NOBODY = 65534


def let_clock_jump() -> None:
    count, true_time = 0, time.time

    def jumping() -> float:
        nonlocal count
        count += 1
        return true_time() + DAY * (count // 5 % 2)

    time.time = jumping


def become_nobody() -> None:
    if os.geteuid() == 0:  # whom no permission stops
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def set_modes(results: Path, mode: int) -> None:
    for folder in (results, *results.rglob("*")):
        if folder.is_dir():
            folder.chmod(mode)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    if os.geteuid() != 0 or mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder)) != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode
