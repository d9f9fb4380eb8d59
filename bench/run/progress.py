"""What is seen while a run computes: a bar with its rate on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]
SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "")


@contextmanager
def progress(title: str, total: int, console: Console) -> Iterator[Advance]:
    """Gives a function to call with the number of images that were finished. total: images to compute."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, _Rate(), TimeRemainingColumn(), console=console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda images: bars.advance(task, images)
    else:
        yield _lines(title, total, console)


def _lines(title: str, total: int, console: Console) -> Advance:
    start = said = time.perf_counter()
    done = 0

    def advance(images: int) -> None:
        nonlocal said, done
        done += images
        now = time.perf_counter()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            console.print(f"{title}: {done} of {total} images, {done / (now - start):.1f} images/s", highlight=False)
            said = now

    return advance
