"""What the scripts simulate_*.py share: rows by several processes, Markdown, and the part of a page that is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
DOCS = Path(__file__).resolve().parent.parent / "docs"
END = "<!-- end of the tables -->"


def parallel(row: Callable[..., T], cases: Iterable[Sequence[object]]) -> list[T]:
    """What `row` returns for the arguments of each case, in order."""
    with ProcessPoolExecutor() as processes:
        return list(processes.map(row, *zip(*cases, strict=True)))


def percent(share: float) -> str:
    """
    >>> percent(0.0512)
    '5.1'
    """
    return f"{100 * share:.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header and whose first column is text."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|:---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines)


def start_of(script: str) -> str:
    """What begins a script's part of its page; END ends it."""
    return f"<!-- written by scripts/{script}.py -->"


def written(page: str, parts: Sequence[str], script: str) -> str:
    """The page with these parts between the script's two markers. Raises SystemExit for a page without them."""
    before, start, rest = page.partition(start_of(script))
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"the page has no lines {start_of(script)} and {END}")
    return "\n\n".join([before + start, *parts, end]) + after


def publish(parts: Iterable[str], script: str, page: Path, is_whole: bool) -> int:
    """Print the parts, and write them into the page where all was simulated that it is to say. 0, for `main`."""
    parts = list(parts)
    print("\n\n".join(parts))
    if is_whole:
        page.write_text(written(page.read_text(encoding="utf-8"), parts, script), encoding="utf-8")
        print(f"written to {page.name}")
    return 0
