"""Smallest cases: one file each, runnable alone, that shows what a library computes or leaves behind.

A file's docstring is its claim. It prints what it measured, and its variable `reproduced` says whether the claim holds
with the installed versions.
"""

from __future__ import annotations

import io
import runpy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch

from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision, CPU-only torch needs this

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A case that was run."""

    path: Path
    claim: str
    output: str
    reproduced: bool

    @property
    def code(self) -> str:
        """The file without its docstring."""
        return self.path.read_text().split('"""', 2)[2].strip()


def paths(kind: str) -> list[Path]:
    """The files of cases/methods/ or cases/metrics/, sorted."""
    return sorted((FOLDER / kind).glob("*.py"))


def libraries_of(case: str) -> tuple[str, ...]:
    """The distributions that a case of methods is about: its file is named after them."""
    prefixes = {"both": ("grad-cam", "torchcam"), "captum": ("captum",), "torchcam": ("torchcam",)}
    return prefixes.get(case.partition("_")[0], ("grad-cam",))


def run(path: Path) -> Case:
    """Run a file with torch's generator seeded."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        names = runpy.run_path(str(path))
    return Case(path, " ".join(str(names["__doc__"]).split()), printed.getvalue().strip(), bool(names["reproduced"]))


def section(kind: str, about: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """The lines of a page about all cases of a kind, each run now. about: more lines of a case, by its file's name."""
    lines = [
        "## Smallest cases",
        "",
        f"The script runs each; below its code is what it printed. The files: `scripts/audit/cases/{kind}/`.",
        "",
    ]
    return [*lines, *(line for path in paths(kind) for line in _lines(run(path), (about or {}).get(path.stem, ())))]


def _lines(case: Case, about: Sequence[str]) -> list[str]:
    title = f"### {case.claim}"
    if not case.reproduced:
        return [title, "", f"Not reproduced with these versions (`{case.path.name}`).", ""]
    return [title, "", *about, "```python", case.code, "```", "", "prints", "", "```text", case.output, "```", ""]
