"""Progress of a computation: a bar with its rate on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]
SECONDS_BETWEEN_LINES = 10.0


def rate(images: float, seconds: float) -> str:
    """Images a second, or seconds an image where that is more than one; "" for no image or no time.

    >>> rate(64, 3.2), rate(3, 61)
    ('20.0 images/s', '20.3 s/image')
    """
    if images <= 0 or seconds <= 0:
        return ""
    return f"{images / seconds:.1f} images/s" if images >= seconds else f"{seconds / images:.1f} s/image"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate(task.speed or 0, 1))


@contextmanager
def progress(title: str, total: int, console: Console) -> Iterator[Advance]:
    """Yields a function to call with the number of images that were finished. total: images to compute."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, _Rate(), TimeRemainingColumn(), console=console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda images: bars.advance(task, images)
    else:
        yield _lines(title, total, console)


def _lines(title: str, total: int, console: Console) -> Advance:
    start = printed = time.perf_counter()
    done = 0

    def advance(images: int) -> None:
        nonlocal printed, done
        done += images
        now = time.perf_counter()
        if now - printed >= SECONDS_BETWEEN_LINES and done < total:
            console.print(f"{title}: {done} of {total} images, {rate(done, now - start)}", highlight=False)
            printed = now

    return advance
