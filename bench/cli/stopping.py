"""Ctrl-C, SIGTERM and SIGHUP end a command within two seconds: one line, and 128 + the signal as the exit code.

Python runs a handler between two of its own instructions, so a long call into a library holds it up, and an exception
that a handler raises in a callback is lost. Therefore a thread, which the signal wakes by itself (PEP 475's wakeup
descriptor), ends a process that hasn't ended. That is safe at any moment, as a kill is: a file is complete, or not there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

GRACE = 1.0  # seconds in which a command may end by itself
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
LINE = "axiom-bench: stopped. Finished shards are kept: the same command goes on from there."


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to end. number: the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as a shell has it."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


def say() -> None:
    """The one line, once; on a terminal below the bar and the ^C that stand there."""
    if _state.said:
        return
    _state.said = _state.stopping
    shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the bar hides the cursor
    sys.stderr.write(f"{shown}{LINE}\n")
    sys.stderr.flush()


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the signals raise Stopped, and a process that is still there after GRACE seconds ends.

    A signal that the process inherited as ignored (nohup, `trap '' INT`) stays ignored, and a caller's own handler
    stays in place. Without effect outside of the main thread, where Python sets no handlers.
    """
    numbers = [number for number in _numbers() if signal.getsignal(number) in DEFAULTS]
    if threading.current_thread() is not threading.main_thread() or not numbers or _state.handled:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _stop) for number in numbers}
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _state.handled = tuple(numbers)
    threading.Thread(target=_end_in_time, args=(reader, frozenset(numbers)), daemon=True).start()
    try:
        yield
    finally:
        if not _state.stopping:  # else the thread waits for the process to end, which it may have to help
            _state.handled = ()
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)


DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


@dataclass
class _State:
    """handled: the signals that are, in this process. stopping: one has come. said: so has the line."""

    handled: tuple[int, ...] = ()
    stopping: bool = False
    said: bool = False


_state = _State()


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def _stop(number: int, frame: FrameType | None) -> None:
    if not _state.stopping:  # what cleans up isn't stopped again
        _state.stopping = True
        raise Stopped(number)


def _end_in_time(reader: int, numbers: frozenset[int]) -> None:
    while byte := os.read(reader, 1):  # of any signal that Python handles; none once the writer is closed
        if byte[0] in numbers:
            time.sleep(GRACE)
            _end(byte[0])
    os.close(reader)


def _end(number: int) -> None:
    if processes := sys.modules.get("multiprocessing"):
        for child in processes.active_children():  # they decode images
            child.kill()
    say()
    os._exit(128 + number)


def _in_child() -> None:
    """A forked process decodes images for its parent, which ends it: a Ctrl-C at the terminal reaches both."""
    if _state.handled:
        signal.set_wakeup_fd(-1)
        for number in _state.handled:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        _state.handled = ()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
