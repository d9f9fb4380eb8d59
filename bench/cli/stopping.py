"""Ctrl-C, SIGTERM and SIGHUP end a command: one line, 128 + the signal as the exit code, and no process is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE = 1.0  # seconds in which a command may end by itself
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
LINE = "axiom-bench: stopped."
RESUMED = f"{LINE} Finished shards are kept: the same command goes on from there."  # of a command that computes records
_leaving = threading.Lock()
_asked: list[int] = []  # the signal that has asked this process's command to end


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to end. number: the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stoppable(line: str = LINE) -> Iterator[None]:
    """Inside, the first signal raises Stopped, and ends a process that is still there after GRACE seconds. Of another
    error after that, Stopped is raised too: code that a signal interrupts may make an error of its own of it. A signal
    that the process inherited as ignored (nohup, `trap '' INT`) stays ignored, and a caller's own handler stays in
    place. Without effect outside of the main thread, where Python sets no handlers. line: what is printed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()
    _asked.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # forked, to decode images for the command, which ends it
            if number == signal.SIGTERM:
                os._exit(128 + number)
        elif not _asked:  # what cleans up isn't stopped again
            _asked.append(number)
            timer = threading.Timer(GRACE, _leave, [number, line])
            timer.daemon = True
            timer.start()
            raise Stopped(number)

    def ignored(error: sys.UnraisableHookArgs) -> None:  # of Stopped in a finaliser: _leave or check comes
        if not isinstance(error.exc_value, Stopped):
            hook(error)

    hook, sys.unraisablehook = sys.unraisablehook, ignored
    numbers = (getattr(signal, name) for name in NAMES if hasattr(signal, name))
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) in DEFAULTS}
    try:
        yield
    except Exception:
        check()
        raise
    finally:
        if not _asked:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


def check() -> None:
    """Raises Stopped where a signal has asked the command to end."""
    if _asked:
        raise Stopped(_asked[0])


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as a shell has it."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


def end(stop: KeyboardInterrupt, line: str = LINE) -> int:
    """Print the line. Ends the process, after a signal; else the exit code, to the caller of a library's function."""
    if isinstance(stop, Stopped):
        with suppress(OSError):
            sys.stdout.flush()
        _leave(stop.number, line)
    _say(line)
    return exit_code(stop)


def _say(line: str) -> None:
    """Print the one line; on a terminal below the bar and the ^C that stand there."""
    with suppress(OSError):
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # the bar hides the cursor
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _leave(number: int, line: str) -> None:
    """Ends the process and those that it forked, without the seconds that an interpreter's own end may take."""
    _leaving.acquire()  # for good: the other thread that comes here waits for the end
    _say(line)
    if processes := sys.modules.get("multiprocessing"):
        children = processes.active_children()  # they decode images
        for child in children:
            child.kill()
        for child in children:
            child.join()
    os._exit(128 + number)
