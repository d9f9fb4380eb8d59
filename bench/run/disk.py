"""The space on a disk, for what says before it writes how much that will be."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """That are free where this folder is, or would be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def size_text(count: float) -> str:
    """
    >>> size_text(150_000), size_text(7.53e9)
    ('0.1 MB', '7.5 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
