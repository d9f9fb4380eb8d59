"""Paths that docs/architecture.md and docs/performance.md cite exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("architecture.md", "performance.md")
PATH = re.compile(r"`([\w./-]+(?:\.py|\.md|\.yaml|/))`")
BENEATH = ("", "bench", "bench/cutting", "bench/cutting/ablation")  # where a page's short names may lie
WRITTEN_BY_RUNS = {"curves/", "records/"}


@pytest.mark.parametrize("page", PAGES)
def test_cited_paths_exist(page):
    paths = set(PATH.findall((ROOT / "docs" / page).read_text())) - WRITTEN_BY_RUNS
    assert paths
    assert not [path for path in sorted(paths) if not any((ROOT / folder / path).exists() for folder in BENEATH)]


def test_table_of_rooms_is_complete():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "bench").iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    assert not [room for room in rooms if f"| `bench/{room}/` |" not in text]
