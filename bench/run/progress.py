"""Show what a command is doing: rich's bar on a terminal, and a plain line every ten seconds
elsewhere.

Everything that may take seconds runs in `with progress(TITLE)`. A title describes what the command
is doing, such as "Loading methods and metrics" or "MODEL: measuring run times". If several
activities are nested, the innermost one is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec

from rich import get_console
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

BESIDE = 10  # the characters next to the title if nothing is counted: the time
# the characters next to the title if images are counted: "1 of 64 images, 20.0 images/s, about
# 100 s left", and in a wide terminal a bar before it
BESIDE_COUNTED = 52
BAR = 20
WIDE = 100  # characters of a terminal that has room for a bar
SHORTEST = 8  # a title has room for at least so many characters
PAUSE = 10.0  # seconds between two lines of a log
SHORTEST_ESTIMATE = 10.0  # seconds: a shorter run ends before the next line of a log
MANY_PASSES = 20  # a step of fewer passes doesn't count them


def rate(images: float, seconds: float, noun: str = "image") -> str:
    """Return a text with the images per second, or the seconds per image if they are more than one.

    The text is "" if there is no image or no time. `noun` says what is counted instead of images.

    >>> rate(64, 3.2), rate(3, 61)
    ('20.0 images/s', '20.3 s/image')
    """
    if images <= 0 or seconds <= 0:
        return ""
    if images >= seconds:
        return f"{images / seconds:.1f} {noun}s/s"
    return f"{seconds / images:.1f} s/{noun}"


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
    """The time that a command will take, at the rate of the job that it is computing."""

    jobs: int
    """The number of jobs that haven't begun."""
    images: int = 0
    """The number of their images, as if each job had as many as the one that is being computed."""
    is_printed: bool = False
    """True once the estimate has been printed. It is printed only once."""

    def seconds(self, remaining: int, done: int, seconds: float) -> float:
        """Return the seconds left if `done` images took `seconds` and `remaining` images of the job
        are left.
        """
        return seconds / done * (remaining + self.images)


class Step:
    """A step of an image, such as a method, with the model's passes if they are counted.

    Attributes:
        title: The step's name.
    """

    def __init__(
        self,
        title: str,
        passes: Callable[[], int] | None = None,
        total: int | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin the step.

        Args:
            title: The step's name.
            passes: Returns the number of the model's passes until now; None if they don't count.
            total: The number of passes that the step will take; None if it isn't known.
            now: The clock.
        """
        self.title = title
        self._passes = passes
        self._total = total
        self._now = now
        self._begun = now()
        self._passes_before = passes() if passes else 0

    def done(self) -> int:
        """Return the number of passes since the step began."""
        return self._passes() - self._passes_before if self._passes else 0

    def total(self) -> int | None:
        """Return the number of passes that the step takes. Return None if it isn't known, or if
        more passes are done already.
        """
        return None if self._total is None or self.done() > self._total else self._total

    def counts(self) -> str:
        """Return how many passes are done and the time that is left, or "" for a few passes."""
        done = self.done()
        total = self.total()
        if max(done, total or 0) < MANY_PASSES:
            return ""
        if total is None:
            return f"{done:,} passes"
        time_left = ""
        if done:
            seconds_left = (self._now() - self._begun) / done * (total - done)
            time_left = f", about {duration(seconds_left)} left"
        return f"{done:,} of {total:,} passes{time_left}"

    def share(self) -> str:
        """Return the share of the passes that are done, such as "31 %", or "" if it isn't known."""
        total = self.total()
        return f"{self.done() / total * 100:.0f} %" if total and total >= MANY_PASSES else ""


class Shown:
    """An activity of a command, with its display.

    Attributes:
        title: What the command is doing.
        total: The number of its images; None if there is nothing to count.
        console: The console that shows it.
        estimate: The estimate of the command's time, or None.
        noun: What is counted, such as "image".
        done: The number of images that are done.
        step: The step of an image that is computed, or None.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        console: Console,
        estimate: Estimate | None = None,
        now: Callable[[], float] = time.perf_counter,
        noun: str = "image",
    ) -> None:
        self.title = title
        self.total = total
        self.console = console
        self.estimate = estimate
        self.noun = noun
        self.done = 0
        self.step: Step | None = None
        self._now = now
        self._begun = now()

    def start(self) -> None:
        """Show the activity from now on."""

    def stop(self) -> None:
        """Stop showing the activity, for a while or for good."""

    def advance(self, images: int) -> None:
        """Advance by `images`."""
        self.done += images

    def says(self, title: str) -> None:
        """Change the title."""
        self.title = title

    def seconds_left(self, seconds: float) -> float | None:
        """Return the seconds that the command will still take, `seconds` after the activity began.
        Return None if they aren't known.
        """
        if not self.done or self.total is None:
            return None
        remaining = self.total - self.done
        return (self.estimate or Estimate(0)).seconds(remaining, self.done, seconds)

    def elapsed(self) -> float:
        """Return the seconds since the activity began."""
        return self._now() - self._begun

    def counts(self, seconds: float) -> str:
        """Return how many images are done, their rate, and the time that is left, `seconds` after
        the activity began. Before the first batch the text has only the time.
        """
        images = f"{self.done} of {self.total} {self.noun}s"
        speed = rate(self.done, seconds, self.noun)
        if not speed:
            return f"{images} after {duration(seconds)}"
        left = self.seconds_left(seconds)
        time_left = "" if left is None else f", about {duration(left)} left"
        return f"{images}, {speed}{time_left}"

    def print_estimate(self) -> None:
        """Print once how long the command will take, unless it takes less than
        SHORTEST_ESTIMATE.
        """
        seconds = self.seconds_left(self.elapsed())
        if self.estimate is None or self.estimate.is_printed or seconds is None:
            return
        self.estimate.is_printed = True
        if seconds >= SHORTEST_ESTIMATE:
            line = (
                f"The run will take about {duration(seconds)} at this rate; Ctrl-C keeps what is "
                "done."
            )
            self.console.print(line, highlight=False, soft_wrap=True)


class Silent(Shown):
    """An activity that isn't shown, such as those of a worker's process."""


class Bar(Shown):
    """An activity on a terminal: rich's bar, which disappears at the end unless it counts
    images.
    """

    _progress: Progress | None = None

    def start(self) -> None:
        columns: list[ProgressColumn] = [_Title(self)]
        if self.total is None:
            columns.append(TimeElapsedColumn())
        else:
            if self.console.width >= WIDE:
                columns.append(BarColumn(BAR))
            columns.append(_Counts(self))
        is_transient = self.total is None
        self._progress = Progress(
            *columns, console=self.console, refresh_per_second=2, transient=is_transient
        )
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
        """Return the title with the step of an image, and with the time that all jobs will still
        take.
        """
        parts = [self.title]
        seconds = self.seconds_left(self.elapsed())
        if self.step is not None:
            # before the first batch the column of counts has the passes of the step
            share = "" if seconds is None else self.step.share()
            parts.append(f"{self.step.title} {share}".rstrip())
        if seconds is not None and self.estimate is not None and self.estimate.images:
            parts.append(f"all jobs {duration(seconds)}")
        return ", ".join(filter(None, parts))

    def counted_text(self) -> str:
        """Return how many images are done. Before the first one, return the passes of its step, if
        they are counted.
        """
        passes = "" if self.done or self.step is None else self.step.counts()
        return passes or self.counts(self.elapsed())


class _Title(ProgressColumn):
    """The column with the description of a bar."""

    def __init__(self, bar: Bar) -> None:
        others = BESIDE
        if bar.total is not None:
            others = BESIDE_COUNTED + (BAR + 1) * (bar.console.width >= WIDE)
        room = max(bar.console.width - others, SHORTEST)
        super().__init__(Column(no_wrap=True, max_width=room))
        self.bar = bar

    def render(self, task: Task) -> Text:
        return Text(self.bar.description())


class _Counts(ProgressColumn):
    """The column with the images that are done, their rate and the time that is left."""

    def __init__(self, bar: Bar) -> None:
        super().__init__(Column(no_wrap=True))
        self.bar = bar

    def render(self, task: Task) -> Text:
        return Text(self.bar.counted_text())


class Lines(Shown):
    """An activity in a log: a plain line every PAUSE seconds, also if the activity has changed
    meanwhile.
    """

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
        """Print the line if the last one is at least PAUSE seconds old."""
        now = self._now()
        if now - Lines.printed >= PAUSE:
            Lines.printed = now
            self.console.print(
                self.line(now - self._begun), highlight=False, soft_wrap=True, markup=False
            )

    def line(self, seconds: float) -> str:
        """Return the line, `seconds` after the activity began."""
        if self.total is None:
            return f"{self.title} ... {seconds:.0f} s"
        line = f"{self.title}: {self.counts(seconds)}"
        if self.step is None:
            return line
        passes = self.step.counts()
        return f"{line}, {self.step.title}: {passes}" if passes else f"{line}, {self.step.title}"


class _Ticker(Live):
    """A thread of rich, which prints lines instead of drawing."""

    def __init__(self, lines: Lines) -> None:
        plain = Console(stderr=True, force_terminal=False)
        super().__init__(
            console=plain,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.lines = lines

    def refresh(self) -> None:
        """Print the line if it is due."""
        if self.is_started:
            # nobody reads the log any more: the next line of the command raises the error
            with suppress(OSError, ValueError):
                self.lines.print_if_due()


@contextmanager
def silent() -> Iterator[None]:
    """Show no activity while the block runs."""
    _stack.append(Silent("", None, get_console()))
    try:
        yield
    finally:
        _stack.pop()


@contextmanager
def without_lines() -> Iterator[None]:
    """Show neither activities nor lines, such as a run's notes, while the block runs."""
    console = get_console()
    was_quiet = console.quiet
    console.quiet = True
    try:
        with silent():
            yield
    finally:
        console.quiet = was_quiet


@contextmanager
def only_interactive() -> Iterator[None]:
    """Show the activities and lines of the block only on a terminal and in a notebook. Python's
    functions use this.
    """
    console = get_console()
    is_seen = _is_terminal(console) or console.is_jupyter
    with nullcontext() if is_seen else without_lines():
        yield


def _is_terminal(console: Console) -> bool:
    # FORCE_COLOR makes rich take a log for a terminal.
    return console.is_terminal and console.file.isatty()


def advance(images: int) -> None:
    """Advance the display by `images`."""
    if _stack:
        _stack[-1].advance(images)


def show_step(step: Step | None) -> None:
    """Show which step of an image is computed from now on; None if no step is shown."""
    if _stack:
        _stack[-1].step = step


@contextmanager
def progress(
    title: str,
    total: int | None = None,
    console: Console | None = None,
    estimate: Estimate | None = None,
    noun: str = "image",
) -> Iterator[Shown]:
    """Show an activity while the block runs. The activity that was shown before continues when the
    block ends.

    The lines of a log go to standard error, since their number depends on the speed of the machine.

    Args:
        title: What the command is doing.
        total: The number of its images; None if there is nothing to count.
        console: The console; None for rich's.
        estimate: The estimate of the command's time.
        noun: What is counted.
    """
    console = console or get_console()
    # rich draws in a notebook by ipywidgets
    has_bars = _is_terminal(console) or (console.is_jupyter and find_spec("ipywidgets") is not None)
    shown: Shown = Bar(title, total, console, estimate, noun=noun)
    if _stack and isinstance(_stack[0], Silent):
        shown = Silent(title, total, console)
    elif not has_bars:
        shown = Lines(title, total, Console(stderr=True), estimate, noun=noun)
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


# the nested activities of this process, which has one terminal; the last one is shown
_stack: list[Shown] = []
