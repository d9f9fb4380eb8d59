"""What a release relies on: one version, a change log that has it, and workflows that may do no more than they must."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


def workflow(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), yaml.BaseLoader)  # `on` stays a word


def test_the_change_log_has_the_version_below_what_is_unreleased():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_wheels_in_the_documentation_have_the_version():
    wheels = {name for path in TEXTS for name in re.findall(r"axiom_bench-([\d.]+)-py3", path.read_text())}
    assert wheels == {PROJECT["version"]}


def test_nothing_reads_as_if_it_were_published():
    """`pip install axiom-bench` would fetch whatever has that name by then."""
    sources = [path for folder in ("bench", "methods", "metrics") for path in (ROOT / folder).rglob("*.py")]
    texts = {path: path.read_text() for path in (*TEXTS, *sources, *(ROOT / "docs/notebooks").glob("*.ipynb"))}
    published = re.compile(r"(?:pip|uv|pipx|uvx)\b[^\n`']* (?:install|add|run) [^\n`']*axiom[-_]bench(?!-[\d.]+-py3)")
    assert not [str(path) for path, text in texts.items() if published.search(text)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_only_publishing_gets_a_token(path: Path):
    """And each action is pinned: GitHub's own by a version, others by a commit."""
    of = workflow(path)
    assert of["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in of["jobs"].items() if "permissions" in job}
    assert more == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})
    for job in of["jobs"].values():
        for step in job.get("steps", []):
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+|[\w/-]+@[0-9a-f]{40}", step["uses"])


def test_workflows_try_the_lowest_python_and_the_lowest_dependencies():
    matrix = workflow(ROOT / ".github/workflows/tests.yml")["jobs"]["versions"]["strategy"]["matrix"]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"][0] == least
    assert {"os": "ubuntu-latest", "python": least, "resolution": "lowest-direct"} in matrix["include"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
