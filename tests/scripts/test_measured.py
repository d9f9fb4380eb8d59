"""What the comments above measured tables say, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import measured
import pytest

ROOT = Path(__file__).resolve().parents[2]
Git = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path, git: Git) -> Path:
    """A checkout with one commit: two files of code and the pages that need a comment, without one."""
    for name in ("code/a.py", "code/b.py", *measured.REQUIRED, "docs/studies/speed.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def comment(root: Path, text: str) -> None:
    for name in (*measured.REQUIRED, "docs/studies/speed.md"):
        (root / name).write_text("# Title\n")
    (root / "docs/studies/speed.md").write_text(f"# Title\n\n<!-- measured: {text} -->\n")


def test_this_project_has_no_wrong_comment():
    assert not list(measured.problems(ROOT))


def test_a_page_without_a_comment(root: Path):
    pages = sorted(problem.partition(":")[0] for problem in measured.problems(root))
    assert pages == ["README.md", "docs/findings.md", "docs/studies/speed.md", "docs/which-metric.md"]


@pytest.mark.parametrize(("text", "problem"), [
    ("yesterday", "write '<!-- measured: COMMIT YYYY-MM-DD CODE -->', CODE being files or folders"),
    ("HEAD 2026-02-30 code", "2026-02-30 is no day"),
    ("HEAD 2026-11-20 code lost.py", "there is no lost.py"),
    ("0123456 2026-11-20 code", "there is no commit 0123456"),
    ("HEAD 2026-11-20 code", None),
])  # fmt: skip
def test_a_wrong_comment(root: Path, git: Git, text: str, problem: str | None):
    comment(root, text.replace("HEAD", git(root, "rev-parse", "HEAD").strip()))
    found = [line for line in measured.problems(root) if line.startswith("docs/studies/")]
    assert found == ([f"docs/studies/speed.md:3: {problem}"] if problem else [])


def test_a_table_is_outdated_by_its_own_code_alone(root: Path, git: Git):
    comment(root, f"{git(root, 'rev-parse', '--short', 'HEAD').strip()} 2026-11-20 code/a.py")
    git(root, "add", ".")
    for name in ("code/b.py", "code/a.py"):
        assert not list(measured.outdated(root))
        (root / name).write_text("x = 1\n")
        git(root, "commit", "-qam", name)
    day = git(root, "log", "-1", "--format=%cs").strip()
    expected = f"docs/studies/speed.md:3: measured 2026-11-20, 1 commits to code/a.py since, the last {day}"
    assert list(measured.outdated(root)) == [expected]


def test_without_git_it_says_so(root: Path):
    comment(root, "0123456 2026-11-20 code")
    (root / ".git").rename(root / "moved")
    assert [problem for problem in measured.problems(root) if "studies" in problem] == []
    (line,) = measured.outdated(root)
    assert line.startswith("Without git")
