"""Pages whose prose is written by hand and whose tables and cases are measured; and the cases, one function each.

A case's docstring begins with its claim. It prints what it measured, and returns whether the claim holds with the
installed versions. A case of methods says in its docstring, too:

Class: "documented choice" where the library's documentation or source says so; "other reading" where the paper leaves
    it open or can be read so; "defect" where the result isn't what the library's own documentation or the paper says,
    depends on what it shouldn't, or something stays on the model.
Ours: this project's reading, with the paper's formula.
Theirs: a distribution, its file, and the words there; once for each quotation, none where the library has no words.
Photographs: the pairs that show it, or what photographs showed at a commit; absent where no image matters.
"""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .libraries import Quotation, named, quiet

DOCS = Path(__file__).resolve().parents[2] / "docs"
CASES = Path(__file__).parent / "cases"
AGREES = 1e-5  # the largest difference of two that agree: the libraries compute in float32
ABOUT = {  # by the name of a case's file
    "both": ("grad-cam", "torchcam"), "captum": ("captum",), "grad_cam": ("grad-cam",), "torchcam": ("torchcam",),
}  # fmt: skip


class Page:
    """A page of docs/. Its methods raise SystemExit where it lacks what they replace."""

    def __init__(self, name: str) -> None:
        self.name, self.text = name, (DOCS / name).read_text(encoding="utf-8")

    def replace(self, pattern: str, text: str) -> None:
        """What a pattern matches first, `^` and `$` the ends of a line."""
        match = re.search(pattern, self.text, re.MULTILINE)
        if match is None:
            raise SystemExit(f"docs/{self.name} lacks what is to be replaced: {pattern}")
        self.text = self.text[: match.start()] + text + self.text[match.end() :]

    def replace_head(self, distributions: Iterable[str], counts: Iterable[str]) -> None:
        """The versions behind "don't edit", and the list of counts."""
        self.replace(r"(?<=don't edit\. ).*\.$", f"{named(distributions)}.")
        self.replace(r"^(- .*\n)+", "".join(f"- {line}\n" for line in counts))

    def replace_table(self, header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> None:
        """The table that has this header; its first `text_columns` columns are aligned to the left."""
        alignment = [":---" if column < text_columns else "---:" for column in range(len(header))]
        lines = [f"| {' | '.join(row)} |\n" for row in (header, alignment, *rows)]
        self.replace(rf"^{re.escape(lines[0])}(\|.*\n)+", "".join(lines))

    def replace_cases(self, kind: str, shown: Mapping[str, str]) -> None:
        """Run all cases of a kind, and replace them at the page's end. shown: what photographs showed of a pair."""
        lines = [line for case in cases(kind) for line in case.section(shown)]
        self.replace(r"^### (.|\n)*", "\n".join(lines))

    def write(self, folder: Path) -> None:
        """Under its name in a folder."""
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text.rstrip() + "\n", encoding="utf-8")
        print(f"page: {path}", flush=True)


def difference(value: float | None) -> str:
    """A difference as a table shows it: bold above AGREES, a dash where it wasn't measured."""
    if value is None:
        return "-"
    text = "0" if value == 0 else f"{value:.1e}"
    return text if value <= AGREES else f"**{text}**"


@dataclass(frozen=True)
class Case:
    """A function of a file of cases/methods/ or cases/metrics/."""

    path: Path
    name: str
    text: str
    code: str

    @cached_property
    def _paragraphs(self) -> list[str]:
        """The claim; then each name of a field, followed by its text."""
        parts = re.split(r"^(Class|Ours|Theirs|Photographs): ", self.text, flags=re.MULTILINE)
        return [" ".join(part.split()) for part in parts]

    def field(self, name: str) -> list[str]:
        """What the docstring says behind that name, each time that it has it."""
        pairs = zip(self._paragraphs[1::2], self._paragraphs[2::2], strict=True)
        return [text for key, text in pairs if key == name]

    @property
    def claim(self) -> str:
        """One sentence that starts with the library and class."""
        return self._paragraphs[0]

    @property
    def kind(self) -> str:
        """The class of a case of methods; empty of others."""
        return "".join(self.field("Class"))

    @property
    def libraries(self) -> str:
        """The distributions that a case of methods is about, with their versions."""
        return named(ABOUT[self.path.stem])

    @property
    def quotations(self) -> list[Quotation]:
        """The library's own words."""
        parts = [text.split(" ", 2) for text in self.field("Theirs")]
        return [Quotation(library, file.rstrip(":"), words) for library, file, words in parts]

    def run(self) -> tuple[str, bool]:
        """(what it prints, whether its claim holds), with torch's and numpy's generators seeded."""
        names = runpy.run_path(str(self.path))
        with quiet() as printed:
            np.random.seed(0)
            holds = names[self.name]()
        return printed.getvalue().strip(), bool(holds)

    def section(self, shown: Mapping[str, str]) -> list[str]:
        """What a page says of it: the claim, what its docstring says below it, the code and what that prints."""
        output, holds = self.run()
        if not holds:
            return [f"### {self.claim}", "", f"Not reproduced with these versions (`{self.name}`).", ""]
        about = []
        if self.kind:
            photographs = [
                " ".join(shown.get(name, name) for name in re.split(", (?=[a-z_]+@)", text))
                for text in self.field("Photographs")
            ]
            nothing = "what it shows is on the model or in the call, and doesn't depend on the image."
            theirs = "; ".join(map(str, self.quotations)) or "not documented"
            about = [f"- Class: {self.kind}. {self.libraries}.", f"- Ours: {' '.join(self.field('Ours'))}"]
            about += [f"- Theirs, in their own words: {theirs}."]
            about += [f"- Photographs: {' '.join(photographs) or nothing}", ""]
        parts = ["```python", self.code, "```", "", "prints", "", "```text", output, "```", ""]
        return [f"### {self.claim}", "", *about, *parts]


def cases(kind: str) -> list[Case]:
    """Of the files of cases/methods/ or cases/metrics/: the functions that are named after their file."""
    found = []
    for path in sorted((CASES / kind).glob("*.py")):
        source = path.read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith(f"{path.stem}_"):
                body = "\n".join(source.splitlines()[node.body[1].lineno - 1 : node.end_lineno])
                code = f"def {node.name}():\n{body}"
                found.append(Case(path, node.name, ast.get_docstring(node) or "", code))
    return found
