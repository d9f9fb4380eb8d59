"""Why a baseline is what it is: a line for each time that it was written, with its date, commit and reason."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

MAX_LENGTH = 500  # characters of a reason


def line(reason: str, baseline: Path) -> str:
    """The date, the commit that the folder of the baseline is at, and the reason, in one line."""
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    commit = _commit(baseline.absolute().parent)
    at = f" at commit {commit}" if commit else ""
    return f"{datetime.now(UTC):%Y-%m-%d}{at}: {' '.join(words)[:MAX_LENGTH]}"


def _commit(folder: Path) -> str | None:
    """None outside of a git repository."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
