"""What a command is doing, while it does it: rich's bar on a terminal, elsewhere a plain line every ten seconds. Of
several inside each other the innermost is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec

from rich import get_console
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

BESIDE, BESIDE_COUNTED = 10, 52  # characters of a terminal's line that the time, and a bar with its numbers, take
SHORTEST = 20  # of a title
PAUSE = 10.0  # seconds between two lines, in a log
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
    """Something that a command is doing.

    title: what it is. total: of how many images; None: there is nothing to count.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        console: Console,
        estimate: Estimate | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.title = title
        self.total = total
        self.console = console
        self.estimate = estimate
        self.done = 0
        self.step = ""  # of an image, if one takes long
        self._now = now
        self._begun = now()

    def start(self) -> None:
        """Show it from now on."""

    def stop(self) -> None:
        """Stop showing it, for a while or for good."""

    def advance(self, images: int) -> None:
        """Advance by so many images."""
        self.done += images

    def says(self, title: str) -> None:
        """Change the title."""
        self.title = title

    def seconds_left(self) -> float | None:
        """Return the time that the command will still take, or None if it isn't known."""
        if self.estimate is None or not self.done or self.total is None:
            return None
        return self.estimate.seconds(self.total - self.done, self.done, self._now() - self._begun)

    def print_estimate(self) -> None:
        """Print once how long the command will take, unless that is a moment."""
        seconds = self.seconds_left()
        if self.estimate is None or self.estimate.is_printed or seconds is None:
            return
        self.estimate.is_printed = True
        if seconds >= SHORTEST_ESTIMATE:
            line = f"The run will take about {duration(seconds)} at this rate; Ctrl-C keeps what is done."
            self.console.print(line, highlight=False, soft_wrap=True)


class Silent(Shown):
    """In a process whose command shows what it is doing."""


class Bar(Shown):
    """On a terminal: rich's bar, which disappears at the end unless it counts."""

    _progress: Progress | None = None

    def start(self) -> None:
        columns: list[ProgressColumn] = [_Title(self)]
        if self.total is not None:
            columns += [BarColumn(), TextColumn("{task.completed}/{task.total}"), _Rate()]
        columns.append(TimeElapsedColumn())  # a batch may take a while
        if self.total is not None:
            columns += [TextColumn("left"), TimeRemainingColumn()]
        is_transient = self.total is None
        self._progress = Progress(*columns, console=self.console, refresh_per_second=2, transient=is_transient)
        self._task = self._progress.add_task(self.title, total=self.total, completed=self.done)
        self._progress.start()

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def advance(self, images: int) -> None:
        super().advance(images)
        if self._progress is not None:
            self._progress.update(self._task, completed=self.done)
        self.print_estimate()

    def description(self) -> str:
        """Return the title with the step of an image, and with the time that all jobs will still take."""
        parts = [self.title, self.step]
        seconds = self.seconds_left()
        if seconds is not None and self.estimate is not None and self.estimate.images:
            parts.append(f"all jobs {duration(seconds)}")
        return ", ".join(filter(None, parts))


class _Title(ProgressColumn):
    def __init__(self, bar: Bar) -> None:
        others = BESIDE if bar.total is None else BESIDE_COUNTED
        room = max(bar.console.width - others, SHORTEST)
        super().__init__(Column(no_wrap=True, max_width=room))
        self.bar = bar

    def render(self, task: Task) -> Text:
        return Text(self.bar.description())


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate(task.speed or 0, 1))


class Lines(Shown):
    """Elsewhere: a plain line every PAUSE seconds, whatever is shown by then."""

    printed = time.perf_counter()
    """The time of the last line of the process."""
    _lines: _Ticker | None = None

    def start(self) -> None:
        self._lines = _Ticker(self)
        self._lines.start()

    def stop(self) -> None:
        if self._lines is not None:
            self._lines.stop()
            self._lines = None

    def advance(self, images: int) -> None:
        super().advance(images)
        self.print_estimate()
        self.print_if_due()

    def print_if_due(self) -> None:
        """Print the line, if the last one was PAUSE seconds ago."""
        now = self._now()
        if now - Lines.printed >= PAUSE:
            Lines.printed = now
            self.console.print(self.line(now - self._begun), highlight=False, soft_wrap=True, markup=False)

    def line(self, seconds: float) -> str:
        """Return the line, so many seconds after the beginning."""
        if self.total is None:
            return f"{self.title}: {seconds:.0f} s"
        speed = rate(self.done, seconds) or f"{seconds:.0f} s"
        left = self.seconds_left()
        time_left = "" if left is None else f", about {duration(left)} left"
        step = f", {self.step}" if self.step else ""
        return f"{self.title}: {self.done} of {self.total} images, {speed}{time_left}{step}"


class _Ticker(Live):
    """rich's thread, which prints lines instead of drawing."""

    def __init__(self, lines: Lines) -> None:
        plain = Console(stderr=True, force_terminal=False)
        super().__init__(
            console=plain, refresh_per_second=2, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.lines = lines

    def refresh(self) -> None:
        """Print the line if it is due."""
        if self.is_started:
            with suppress(OSError, ValueError):  # the reader has gone: the next line of the command says so
                self.lines.print_if_due()


@contextmanager
def silent() -> Iterator[None]:
    """Nothing of what the code inside is doing is shown."""
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
    shown: Shown = Bar(title, total, console, estimate)
    if _stack and isinstance(_stack[0], Silent):
        shown = Silent(title, total, console)
    elif not has_bars:
        shown = Lines(title, total, Console(stderr=True), estimate)
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
