"""Tests that no sentence of the documentation or of a docstring has more than 35 words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 35  # words
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODULES = sorted(
    path for room in ("bench", "methods", "metrics") for path in (ROOT / room).rglob("*.py")
)
NOT_PROSE = re.compile(
    r"^ *```.*?^ *```$|<!--.*?-->|<[^>\n]+>|^ *(?:\||>>>|\$|:::)[^\n]*$", re.M | re.S
)
NAMES = re.compile(r"`[^`]+`(?:,\s+`[^`]+`)*")  # one word, as is a list of them
QUOTATION = re.compile(r'"[^"\n]*"')
BLOCK = re.compile(r"\n\s*\n|\n\s*(?:[-*+]|\d+\.|#+) ")  # paragraphs, list items, headings
END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<! al)[.!?][)\"'*`]*\s")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a Markdown text without its code and tables, each on one line."""
    text = re.sub(r"\]\([^)]*\)", "]", NOT_PROSE.sub("\n\n", text))  # a link's address is no words
    text = NAMES.sub("`names`", QUOTATION.sub("quotation", text))
    for block in BLOCK.split("\n" + text):
        yield from END.split(" ".join(block.split()) + " ")


def too_long(text: str) -> list[str]:
    counted = ((len(re.findall(r"\S*\w\S*", sentence)), sentence) for sentence in sentences(text))
    return [f"{count} words: {sentence}" for count, sentence in counted if count > LONGEST]


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield re.sub(r"\n +", "\n", ast.get_docstring(node) or "")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages(path: Path):
    assert not too_long(path.read_text(encoding="utf-8"))


def test_docstrings():
    texts = ((path.relative_to(ROOT), text) for path in MODULES for text in docstrings(path))
    assert not [f"{path}: {line}" for path, text in texts for line in too_long(text)]


def test_a_long_sentence_is_found():
    long = "word " * 36
    assert len(too_long(f"A short one. {long.strip()}. Another.")) == 1
    assert len(too_long(f"- {long}")) == 1
    assert not too_long(f"- {long[:100]}\n- {long[:100]}\n\n| {long} |\n")
    assert len(too_long(f"| a table |\n\n{long}")) == 1
