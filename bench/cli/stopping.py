"""Ctrl-C, SIGTERM and SIGHUP end a command within two seconds: one line, and 128 + the signal as the exit code.

Python runs a handler between two of its own instructions, so a long call into a library holds it up, and what it raises
in a callback, as at a fork, is lost. Therefore a thread, which the signal wakes by itself (`signal.set_wakeup_fd`),
raises it again, and ends a process that takes too long. That is safe at any moment, as a kill is: a file is complete or
not there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

GRACE = 1.0  # seconds in which a command may end by itself
LOOK = 0.02  # seconds between two looks at how far it is
LOOK_FOR_PARENT = 0.5  # seconds
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
LINE = "axiom-bench: stopped. Finished shards are kept: the same command goes on from there."


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to end. number: the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class _State:
    """handled: the signals that are, in this process. stopping: one has come; lost: in a callback. said: so has the
    line."""

    handled: tuple[int, ...] = ()
    stopping: bool = False
    lost: bool = False
    said: bool = False


_state = _State()


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the signals raise Stopped, and a process that is still there after GRACE seconds ends.

    A signal that the process inherited as ignored (nohup, `trap '' INT`) stays ignored, and a caller's own handler
    stays in place. Without effect outside of the main thread, where Python sets no handlers.
    """
    numbers = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
    numbers = tuple(number for number in numbers if signal.getsignal(number) in DEFAULTS)
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _stop) for number in numbers}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _state.handled, sys.unraisablehook = numbers, _unraisable
    threading.Thread(target=_end_in_time, args=(reader, numbers), daemon=True).start()
    try:
        yield
    finally:
        if not _state.stopping:  # else the thread waits for the process to end
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            _state.handled, sys.unraisablehook = (), sys.__unraisablehook__
            os.close(writer)


def end_with(parent: int) -> None:
    """Ends this process as SIGTERM does, within a second of its parent, however that ended."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_FOR_PARENT)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as a shell has it."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


def end(stop: KeyboardInterrupt) -> int:
    """Says the line. Ends the process, after a signal; else the exit code, to the caller of a library's function."""
    _say()
    if isinstance(stop, Stopped):
        with suppress(OSError):
            sys.stdout.flush()
        _leave(stop.number)
    return exit_code(stop)


def _say() -> None:
    """The one line, once; on a terminal below the bar and the ^C that stand there."""
    if not _state.said:
        _state.said = _state.stopping
        with suppress(OSError):
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # the bar hides the cursor
            sys.stderr.write(f"{LINE}\n")
            sys.stderr.flush()


def _leave(number: int) -> None:
    """Ends the process and those that it forked, without the seconds that an interpreter's own end may take."""
    if processes := sys.modules.get("multiprocessing"):
        children = processes.active_children()  # they decode images
        for child in children:
            child.kill()
        for child in children:
            child.join(LOOK)
    os._exit(128 + number)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _state.stopping:  # what cleans up isn't stopped again
        _state.stopping = True
        raise Stopped(number)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    if issubclass(lost.exc_type, Stopped):
        _state.lost = True
    else:
        sys.__unraisablehook__(lost)


def _end_in_time(reader: int, numbers: tuple[int, ...]) -> None:
    while byte := os.read(reader, 1):  # of any signal that Python handles; none once the writer is closed
        if byte[0] in numbers:
            _raise_until_it_ends(byte[0])
    os.close(reader)


def _raise_until_it_ends(number: int) -> None:
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        time.sleep(LOOK)
        if _state.lost:
            _state.lost = _state.stopping = False
            os.kill(os.getpid(), number)
    _say()
    _leave(number)


def _in_child() -> None:
    """A forked process decodes images for its parent, which ends it: a Ctrl-C at the terminal reaches both."""
    if _state.handled:
        signal.set_wakeup_fd(-1)
        for number in _state.handled:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        _state.handled, sys.unraisablehook = (), sys.__unraisablehook__


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
