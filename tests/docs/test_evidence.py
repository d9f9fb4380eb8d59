"""What README.md and docs/ cite exists: paths and rooms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("README.md", "docs/architecture.md", "docs/game.md", "docs/performance.md", "docs/targets.md"),
    "docs/planted.md",
    "docs/security.md",
    "docs/reliability.md",
    "docs/scale.md",
    "docs/transformers.md",
)
PATH = re.compile(r"`([\w./-]+(?:\.py|\.md|\.yaml|/))`")
FOLDERS = ("", "bench", "bench/cutting", "bench/cutting/ablation")  # that short names may be relative to
WRITTEN_BY_RUNS = {"curves/", "records/", "tables/", "figures/", "running/", "tables/runtime.md"}


@pytest.mark.parametrize("page", PAGES)
def test_cited_paths_exist(page):
    paths = set(PATH.findall((ROOT / page).read_text())) - WRITTEN_BY_RUNS
    assert paths
    assert not [path for path in sorted(paths) if not any((ROOT / folder / path).exists() for folder in FOLDERS)]


def test_table_of_rooms_is_complete():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "bench").iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    assert not [room for room in rooms if f"| `bench/{room}/` |" not in text]
