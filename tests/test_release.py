"""A release has one version, in the change log too, and no text reads as if the package were
published.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").rglob("*.md"),
]


def test_the_change_log_has_the_version_below_what_is_unreleased():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_wheels_in_the_documentation_have_the_version():
    wheels = {
        name for path in TEXTS for name in re.findall(r"axiom_bench-([\d.]+)-py3", path.read_text())
    }
    assert wheels == {PROJECT["version"]}


def test_nothing_reads_as_if_it_were_published():
    """`pip install axiom-bench` would fetch whatever has that name by then."""
    sources = [
        path for folder in ("bench", "methods", "metrics") for path in (ROOT / folder).rglob("*.py")
    ]
    texts = {
        path: path.read_text()
        for path in (*TEXTS, *sources, *(ROOT / "docs/notebooks").glob("*.ipynb"))
    }
    published = re.compile(
        r"(?:pip|uv|pipx|uvx)\b[^\n`']* (?:install|add|run) [^\n`']*axiom[-_]bench(?!-[\d.]+-py3)"
    )
    assert not [str(path) for path, text in texts.items() if published.search(text)]
