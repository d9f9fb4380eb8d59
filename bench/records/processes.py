"""Processes by their numbers: where a number means something, and what the process does."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def host() -> str:
    """The name of this machine."""
    return platform.node() or "this machine"


@cache
def place() -> str:
    """Eight hexadecimal digits of this machine and its table of processes: a container has a table of its own."""
    table = ""
    with suppress(OSError):  # other systems than Linux have one table
        table = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{host()} {table}".encode()).hexdigest()[:8]


def is_alive(number: int) -> bool:
    """Whether a process of this machine has this number; True where the system can't be asked."""
    if os.name != "posix":  # where signal 0 isn't a question
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def is_stopped(number: int) -> bool:
    """Whether a process of this machine is stopped, by Ctrl-Z or SIGSTOP; False where the system doesn't tell."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return False
    return state in ("T", "t")
