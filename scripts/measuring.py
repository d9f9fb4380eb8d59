"""What the scripts share: times taken in turn, rows by several processes, tables in Markdown, and parts of a page."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from axiom_bench.errors import BenchError

T = TypeVar("T")
Calls = Mapping[str, Callable[[], object]]
CPU = torch.device("cpu")
DOCS = Path(__file__).resolve().parent.parent / "docs"
END = "<!-- end of the tables -->"


def timed(
    calls: Calls, repeats: int, clock: Callable[[], float] = time.perf_counter, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of every case in every repeat, the device synchronised, after one warm-up turn.

    All cases run in turn, repeat after repeat, so that other load on the machine affects all of them alike.
    """
    seconds: dict[str, list[float]] = {title: [] for title in calls}
    for repeat in range(repeats + 1):
        for title, call in calls.items():
            _synchronise(device)
            start = clock()
            call()
            _synchronise(device)
            if repeat:
                seconds[title].append(clock() - start)
    return seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """One case's time divided by another's, in every repeat."""
    return [seconds / other for seconds, other in zip(times, others, strict=True)]


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the repeats of one case's time divided by another's."""
    return statistics.median(ratios(times, others))


def machine(device: torch.device = CPU) -> str:
    """torch's version and what it runs on."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"torch {torch.__version__}, {name}"


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


def markdown(rows: Sequence[Sequence[str]], rule: str | None = None) -> str:
    """A table whose first row is its header; pipes in cells are escaped. rule: below the header; by default the first
    column is text and the others are numbers."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|:---|" + "---:|" * (len(rows[0]) - 1) if rule is None else rule)
    return "\n".join(lines)


def text_columns(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, its first row the header."""
    return markdown(rows, "| " + " | ".join("---" for _ in rows[0]) + " |")


def with_part(page: str, start: str, end: str, part: str) -> str:
    """The page with this part between its two markers. Raises BenchError for a page without them."""
    before, has_start, rest = page.partition(start)
    _, has_end, after = rest.partition(end)
    if not has_start or not has_end:
        raise BenchError(f"The page needs the lines {start!r} and {end!r} around what is written into it.")
    return f"{before}{start}\n\n{part}\n\n{end}{after}"


def start_of(script: str) -> str:
    """What begins a script's part of its page; END ends it."""
    return f"<!-- written by scripts/{script}.py -->"


def publish(parts: Iterable[str], script: str, page: Path, is_whole: bool) -> int:
    """Print the parts, and write them into the page where all was simulated that it is to say. 0, for `main`."""
    text = "\n\n".join(parts)
    print(text)
    if is_whole:
        written = with_part(page.read_text(encoding="utf-8"), start_of(script), END, text)
        page.write_text(written, encoding="utf-8")
        print(f"written to {page.name}")
    return 0
