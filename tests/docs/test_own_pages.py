"""Test that the examples of the pages on a user's own metric and CAM work as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILE_NAME = re.compile(r"# (\w+\.py)\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "test_file", "test_name"),
    [
        ("your-metric.md", "test_my_metrics.py", "test_share_in_centre"),
        ("your-cam.md", "test_team_cam.py", "test_team_cam"),
    ],
)
def test_examples_of_the_page_work(page: str, test_file: str, test_name: str, tmp_path: Path):
    """Write the page's files into an empty folder, run its test, then its other examples."""
    text = (DOCS / page).read_text(encoding="utf-8")
    examples = []
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = FILE_NAME.match(code)
        if name is None:
            examples.append(code)
        else:
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
    commands = [["-m", "pytest", "-q", "-p", "no:cacheprovider", f"{test_file}::{test_name}"]]
    commands += [["-c", code] for code in examples]
    assert len(commands) >= 2
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
