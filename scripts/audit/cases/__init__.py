"""Smallest cases: one file each, runnable alone, that shows what a library computes or leaves behind.

The first paragraph of a file's docstring is its claim. It prints what it measured, and its variable `reproduced` says
whether the claim holds with the installed versions. A case of methods says in its docstring, too:

Class: "documented choice" where the library's documentation or source says so; "other reading" where the paper leaves
    it open or can be read so; "defect" where the result isn't what the library's own documentation or the paper says,
    depends on what it shouldn't, or something stays on the model.
Ours: this project's reading, with the paper's formula.
Theirs: a distribution, its file, and the words there; once for each quotation, none where the library has no words.
Photographs: the pairs or the measures of photographs.py that show it; absent where it doesn't depend on the image.
"""

from __future__ import annotations

import ast
import io
import re
import runpy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path

import torch

from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision, CPU-only torch needs this

from ..pages import Page

FOLDER = Path(__file__).parent
LIBRARIES = {"both": ("grad-cam", "torchcam"), "captum": ("captum",), "torchcam": ("torchcam",)}


@dataclass(frozen=True)
class Quotation:
    """Words of an installed distribution's file, white space and comment signs aside."""

    distribution: str
    file: str
    words: str

    @property
    def line(self) -> int | None:
        """The line of the file where the words begin, from 1 on; None where this version hasn't got them."""
        lines = [line.strip().lstrip("#") for line in self._path.read_text().splitlines()]
        holds = [self.words in " ".join(" ".join(lines[start : start + 12]).split()) for start in range(len(lines))]
        last_before = (start for start, here in enumerate(holds) if here and not any(holds[start + 1 : start + 2]))
        return next((start + 1 for start in last_before), None)

    @property
    def _path(self) -> Path:
        """The file; METADATA is the distribution's description on PyPI."""
        installed = distribution(self.distribution)
        if self.file != "METADATA":
            return Path(str(installed.locate_file(self.file)))
        (path,) = (file for file in installed.files or () if file.name == "METADATA")
        return Path(str(path.locate()))

    def __str__(self) -> str:
        place = "not in this version" if self.line is None else f"`{self.file}`, line {self.line}"
        return f'"{self.words}" ({place})'


@dataclass(frozen=True)
class Case:
    """A file of cases/methods/ or cases/metrics/."""

    path: Path

    @cached_property
    def _paragraphs(self) -> list[str]:
        """The claim; then each name of a field, followed by its text."""
        text = ast.get_docstring(ast.parse(self.path.read_text())) or ""
        parts = re.split(r"^(Class|Ours|Theirs|Photographs): ", text, flags=re.MULTILINE)
        return [" ".join(part.split()) for part in parts]

    def _of(self, name: str) -> list[str]:
        fields = zip(self._paragraphs[1::2], self._paragraphs[2::2], strict=True)
        return [text for key, text in fields if key == name]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def claim(self) -> str:
        """One sentence that starts with the library and class."""
        return self._paragraphs[0]

    @property
    def code(self) -> str:
        """The file without its docstring."""
        return self.path.read_text().split('"""', 2)[2].strip()

    @property
    def kind(self) -> str:
        """The class of a case of methods."""
        return self._of("Class")[0]

    @property
    def ours(self) -> str:
        """This project's reading, of a case of methods."""
        return self._of("Ours")[0]

    @property
    def documented(self) -> list[Quotation]:
        """The library's own words."""
        parts = [text.split(" ", 2) for text in self._of("Theirs")]
        return [Quotation(library, file.rstrip(":"), words) for library, file, words in parts]

    @property
    def photographs(self) -> list[str]:
        """The pairs and measures whose photographs show it."""
        return [name for text in self._of("Photographs") for name in text.split(", ")]

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that a case of methods is about: its file is named after them."""
        return LIBRARIES.get(self.name.partition("_")[0], ("grad-cam",))


@dataclass(frozen=True)
class Run:
    """What a case printed, and whether its claim holds."""

    output: str
    reproduced: bool


def cases(kind: str) -> list[Case]:
    """All of cases/methods/ or cases/metrics/, sorted."""
    return [Case(path) for path in sorted((FOLDER / kind).glob("*.py"))]


def run(case: Case) -> Run:
    """Run a file with torch's generator seeded."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        names = runpy.run_path(str(case.path))
    return Run(printed.getvalue().strip(), bool(names["reproduced"]))


def replace_cases(page: Page, kind: str, about: Mapping[str, Sequence[str]]) -> None:
    """Run all cases of a kind, and replace them at the end of a page. about: more lines of a case, by its name."""
    lines = [line for case in cases(kind) for line in lines_of(case, about.get(case.name, ()))]
    page.replace(r"^### (.|\n)*", "\n".join(lines))


def lines_of(case: Case, about: Sequence[str]) -> list[str]:
    """What a page says of a case, which is run."""
    title, done = f"### {case.claim}", run(case)
    if not done.reproduced:
        return [title, "", f"Not reproduced with these versions (`{case.path.name}`).", ""]
    return [title, "", *about, "```python", case.code, "```", "", "prints", "", "```text", done.output, "```", ""]
