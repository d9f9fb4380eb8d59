"""What a command is at, while it is at it: a line with a bar on a terminal, in a log a plain line now and then. A
thread shows it, so that a long call into a library is no silence; of several inside each other the innermost is
shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec

from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

FIRST_BEAT, BEAT = 0.1, 0.5  # seconds until the first look at what is to be shown, and between two
BESIDE, BESIDE_COUNTED = 10, 52  # characters of a terminal's line that the time, and a bar with its numbers, take
SHORTEST = 20  # of a title
FIRST_LINE, NEXT_LINES = 1.5, 10.0  # seconds without a line, in a log
SHORTEST_ESTIMATE = 10.0  # seconds: a shorter run ends before the next line of a log


def rate(images: float, seconds: float) -> str:
    """Images a second, or seconds an image where that is more than one; "" for no image or no time.

    >>> rate(64, 3.2), rate(3, 61)
    ('20.0 images/s', '20.3 s/image')
    """
    if images <= 0 or seconds <= 0:
        return ""
    return f"{images / seconds:.1f} images/s" if images >= seconds else f"{seconds / images:.1f} s/image"


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which it has at least two.

    >>> duration(0.2), duration(100), duration(1000), duration(9000)
    ('0 s', '100 s', '17 min', '2.5 h')
    """
    if seconds < 2 * 60:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@dataclass
class Estimate:
    """How long a command will take, at the rate of the job that it computes."""

    jobs: int
    """The jobs that haven't begun."""
    images: int = 0
    """Their images, as if each job had as many as the one that is computed."""
    is_printed: bool = False

    def seconds(self, remaining: int, done: int, seconds: float) -> float:
        """Return the time that is left, if `done` images took `seconds` and `remaining` ones of their job are left."""
        return seconds / done * (remaining + self.images)


class Shown:
    """Something that a command is at. title: what; total: of how many images; None: there is nothing to count."""

    def __init__(
        self,
        title: str,
        total: int | None,
        console: Console,
        now: Callable[[], float] = time.perf_counter,
        estimate: Estimate | None = None,
    ) -> None:
        self.title, self.total, self.console = title, total, console
        self.estimate = estimate
        self._now = now
        self._begun = self._printed = now()
        self.done = 0
        self.step = ""  # of an image, if one takes long
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def advance(self, images: int) -> None:
        """So many more images are done. Print once how long the command will take, unless that is a moment."""
        self.done += images
        seconds = self.seconds_left()
        if self.estimate is None or self.estimate.is_printed or seconds is None:
            return
        self.estimate.is_printed = True
        if seconds >= SHORTEST_ESTIMATE:
            line = f"The run will take about {duration(seconds)} at this rate; Ctrl-C keeps what is done."
            self.console.print(line, highlight=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """Return the time that the command will still take, or None if it isn't known."""
        if self.estimate is None or not self.done or self.total is None:
            return None
        return self.estimate.seconds(self.total - self.done, self.done, self._now() - self._begun)

    def says(self, title: str) -> None:
        """It is at something else."""
        self.title = title

    def start(self) -> None:
        """Shows it from now on."""
        self._ended.clear()
        self._thread = threading.Thread(target=beating, args=(self.beat, self._ended.wait), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Shows it no more, for a while or for good."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def beat(self) -> None:
        """Shows what is new, if it is time."""


def beating(beat: Callable[[], None], wait: Callable[[float], bool]) -> None:
    """Calls beat soon, so that what starts ends a silence, and then every BEAT seconds. wait: returns whether it has
    ended, after so many seconds or when it does."""
    seconds = FIRST_BEAT
    while not wait(seconds):
        seconds = BEAT
        with suppress(OSError, ValueError):  # the reader of the output has gone: the next line of the command says so
            beat()


class Bar(Shown):
    """On a terminal: begins with the first beat, and goes away at the end unless it counts."""

    _progress: Progress | None = None

    def beat(self) -> None:
        if self._progress is None:
            count = (BarColumn(), TextColumn("{task.completed}/{task.total}"), _Rate())
            left = (TextColumn("left"), TimeRemainingColumn())
            is_counted = self.total is not None
            room = max(self.console.width - (BESIDE_COUNTED if is_counted else BESIDE), SHORTEST)
            self._progress = Progress(
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=room)),
                *(count if is_counted else ()),
                TimeElapsedColumn(),  # a batch may take a while
                *(left if is_counted else ()),
                console=self.console,
                auto_refresh=False,
                transient=self.total is None,
            )
            self._task = self._progress.add_task(self.title, total=self.total)
            self._progress.start()
        description = f"{self.title}, {self.step}" if self.step else self.title
        seconds = self.seconds_left()
        if seconds is not None and self.estimate is not None and self.estimate.images:
            description = f"{description}, all jobs {duration(seconds)}"
        self._progress.update(self._task, description=description, completed=self.done, refresh=True)

    def stop(self) -> None:
        super().stop()
        if self._progress is not None:
            self._progress.update(self._task, completed=self.done)
            self._progress.stop()
            self._progress = None


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate(task.speed or 0, 1))


class Lines(Shown):
    """In a log: a line when it has been silent for a moment, and then seldom."""

    _pause = FIRST_LINE

    def start(self) -> None:
        self._printed, self._pause = self._now(), FIRST_LINE
        super().start()

    def beat(self) -> None:
        now = self._now()
        if now - self._printed >= self._pause:
            self.console.print(self.line(now - self._begun), highlight=False, soft_wrap=True, markup=False)
            self._printed, self._pause = now, NEXT_LINES

    def line(self, seconds: float) -> str:
        """So long after it has begun."""
        if self.total is None:
            return f"{self.title}: {seconds:.0f} s"
        speed = rate(self.done, seconds) or f"{seconds:.0f} s"
        step = f", {self.step}" if self.step else ""
        left = self.seconds_left()
        time_left = "" if left is None else f", about {duration(left)} left"
        return f"{self.title}: {self.done} of {self.total} images, {speed}{time_left}{step}"


class Silent(Shown):
    """In a process whose command shows what it is at."""

    def start(self) -> None:
        """Shows nothing."""

    def advance(self, images: int) -> None:
        """Prints nothing."""
        self.done += images


@contextmanager
def silent() -> Iterator[None]:
    """What the code inside is at isn't shown."""
    _stack.append(Silent("", None, get_console()))
    try:
        yield
    finally:
        _stack.pop()


@contextmanager
def where_seen() -> Iterator[None]:
    """For Python: what the code inside is at, and prints, is shown on a terminal and in a notebook alone."""
    console = get_console()
    before, is_seen = console.quiet, _is_terminal(console) or console.is_jupyter
    console.quiet = before or not is_seen
    try:
        with nullcontext() if is_seen else silent():
            yield
    finally:
        console.quiet = before


def _is_terminal(console: Console) -> bool:
    return console.is_terminal and console.file.isatty()  # not a log with colours, as FORCE_COLOR asks for


def advance(images: int) -> None:
    """So many more images are done of what is shown."""
    if _stack:
        _stack[-1].advance(images)


def at(step: str) -> None:
    """Show which step of an image is computed from now on."""
    if _stack:
        _stack[-1].step = step


@contextmanager
def progress(
    title: str,
    total: int | None = None,
    console: Console | None = None,
    estimate: Estimate | None = None,
) -> Iterator[Shown]:
    """Shows what the code inside is at; what was shown until then goes on when it ends. total, estimate: see `Shown`. A
    log's lines go to standard error, since how many there are depends on the machine."""
    console = console or get_console()
    has_bars = _is_terminal(console) or (console.is_jupyter and find_spec("ipywidgets") is not None)
    kind, place = (Bar, console) if has_bars else (Lines, Console(stderr=True))
    shown: Shown = kind(title, total, place, estimate=estimate)
    if _stack and isinstance(_stack[0], Silent):
        shown = Silent(title, total, console)
    if _stack:
        _stack[-1].stop()
    _stack.append(shown)
    try:
        shown.start()
        yield shown
    finally:
        shown.stop()
        _stack.remove(shown)
        if _stack:
            _stack[-1].start()


_stack: list[Shown] = []  # of this process, since it has one terminal; the last one is shown
