"""Ctrl-C, SIGTERM and SIGHUP end a command: one line, 128 + the signal as the exit code, and no
process is left. On Windows Ctrl-C and Ctrl-Break do.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

GRACE = 1.0  # seconds in which a command may end by itself
CODES = {
    "SIGINT": 130,
    "SIGTERM": 143,
    "SIGHUP": 129,
    "SIGBREAK": 143,
}  # Windows has SIGBREAK and no SIGHUP
LINE = "axiom-bench: stopped."
# of a command that computes records
RESUMED = f"{LINE} Finished shards are kept: the same command goes on from there."


@contextmanager
def stoppable(line: str = LINE) -> Iterator[None]:
    """End the process if a signal comes inside.

    The first signal raises KeyboardInterrupt, so that code inside can clean up. The process ends
    when that is done, after GRACE seconds, or at a second signal, whatever other code makes of the
    exception. A signal that the process inherited as ignored (nohup, `trap '' INT`) stays ignored,
    and a caller's own handler stays in place.

    Args:
        line: The line that is printed.
    """
    command = os.getpid()
    codes = {getattr(signal, name): code for name, code in CODES.items() if hasattr(signal, name)}
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != command:  # forked, to decode images for the command, which ends it
            if number == signal.SIGTERM:
                os._exit(codes[number])
            return
        if _leaving.locked():
            return
        received.append(number)
        if len(received) > 1:
            _leave(codes[received[0]], line)
        sys.unraisablehook = lambda error: None  # of KeyboardInterrupt in a finaliser
        timer = threading.Timer(GRACE, _leave, [codes[number], line])
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {
        number: signal.signal(number, stop)
        for number in codes
        if signal.getsignal(number) in defaults
    }
    try:
        yield
    finally:
        if received:
            with suppress(OSError):
                sys.stdout.flush()
            _leave(codes[received[0]], line)
        for number, handler in before.items():
            signal.signal(number, handler)


_leaving = threading.Lock()


def _leave(code: int, line: str) -> NoReturn:
    """End the process and those that it started, without the seconds that an interpreter's own end
    may take.
    """
    _leaving.acquire()  # for good: the other thread that comes here waits for the end
    start = "\x1b[?25h\n" if os.isatty(2) else ""  # a bar hides the cursor, and ^C stands behind it
    with suppress(OSError):
        os.write(2, f"{start}{line}\n".encode())
    if processes := sys.modules.get("multiprocessing"):
        children = processes.active_children()  # they decode images, or run tasks
        for child in children:
            child.kill()
        for child in children:
            child.join(GRACE)
    os._exit(code)
