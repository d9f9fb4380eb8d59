"""A run's process keeps what it frees; a user's environment, and any other process, is left alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from axiom_bench.run.composing.device import USER_SETTINGS, keep_freed_memory

MIB = 2**20
FEW = 16  # pages; 64 MiB are 16,384, or 32 where the system hands out large ones
SCRIPT = f"""
import resource, sys
{{before}}
import torch
def fault():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({64 * MIB // 4})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fault()
print(min(fault() for _ in range(20)))  # a small object may lie in the first freed blocks, which then are too small
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is set")


def faults(before: str, **environment: str) -> int:
    """Pages that a block of 64 MiB asks the system for although one like it was freed just before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)], env={**clean, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(process.stdout)


# As in a run: torch is loaded before.
KEEP = "import torch; from axiom_bench.run.composing.device import keep_freed_memory; keep_freed_memory()"


@glibc
@pytest.mark.slow
def test_freed_memory_is_taken_again_without_asking_the_system():
    assert faults("") > FEW
    assert faults(KEEP) <= FEW


@glibc
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")]
)
def test_the_users_own_setting_wins(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    for setting in USER_SETTINGS:
        monkeypatch.delenv(setting, raising=False)
    assert keep_freed_memory()
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()


@glibc
@pytest.mark.slow
def test_a_notebooks_process_is_left_alone():
    assert faults("import axiom_bench") > FEW
