"""Copies of the repository in which one file at a time is changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import time

from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bench", "methods", "metrics", "conf", "results/baselines")  # what decides what a gate says
COPIED = (*CODE, "tests", "scripts", "docs")
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "CONTRIBUTING.md", "Makefile", "requirements.lock")
_SECONDS = count(int(time()))


class Copy:
    """A copy in `folder`. package: the folder to import from, with links as an editable install has them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "build" / "editable"
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        subprocess.run([sys.executable, folder / "hatch_build.py"], check=True)

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """With the mutant in place. Raises ValueError where its old text doesn't occur exactly once."""
        file = self.folder / mutant.file
        before = file.read_text(encoding="utf-8")
        if before.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: its old text occurs {before.count(mutant.old)} times in {mutant.file}.")
        _write(file, before.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            _write(file, before)


def digest(*texts: str) -> str:
    """Of the code that a gate's run uses, and of these texts."""
    digest = hashlib.sha256("\0".join(texts).encode())
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _write(file: Path, text: str) -> None:
    """With a time of its own: compiled code is told from its source by whole seconds and the size alone."""
    file.write_text(text, encoding="utf-8")
    second = next(_SECONDS)
    os.utime(file, (second, second))
