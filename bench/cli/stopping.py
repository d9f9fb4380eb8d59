"""Ctrl-C, SIGTERM and SIGHUP end a command, on Windows Ctrl-C and Ctrl-Break.

The command prints one line, returns 128 + the signal as its exit code, and leaves no process
behind.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import NoReturn

GRACE = 1.0  # seconds in which a command may end by itself
# exit code by signal; Windows has SIGBREAK and no SIGHUP
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGBREAK": 143}
STOPPED_LINE = "axiom-bench: stopped."
# the line of a command that computes records
STOPPED_RESUMABLE_LINE = (
    f"{STOPPED_LINE} Finished shards are kept: the same command continues from there."
)


@contextmanager
def stoppable(line: str = STOPPED_LINE) -> Iterator[None]:
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
        if os.getpid() != command:  # a fork that decodes images; the command ends it
            if number == signal.SIGTERM:
                os._exit(codes[number])
            return
        if _leaving.locked():
            return
        received.append(number)
        if len(received) > 1:
            _leave(codes[received[0]], line)
        sys.unraisablehook = lambda error: None  # hides KeyboardInterrupt in a finaliser
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

    def stop_without_main_thread(number: int) -> None:
        if signal.getsignal(number) is stop:  # not while a library handles the signal itself
            time.sleep(GRACE)
            _leave(codes[number], line)

    with _signals_watched(stop_without_main_thread):
        try:
            yield
        finally:
            if received:
                with suppress(OSError):
                    sys.stdout.flush()
                _leave(codes[received[0]], line)
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _signals_watched(react: Callable[[int], None]) -> Iterator[None]:
    """Call `react` with the number of each signal that has a handler, in a thread of its own.

    Python runs handlers in the main thread, between two of its instructions. A signal that comes
    just before the main thread begins to wait, or while it computes in C, would be handled only
    when that is over.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # a signal of a forked process isn't the command's
        os.register_at_fork(after_in_child=partial(signal.set_wakeup_fd, -1))

    def watch() -> None:
        with reader:
            while number := reader.recv(1)[0]:
                react(number)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with writer:
            writer.send(b"\0")  # ends the thread


_leaving = threading.Lock()


def _leave(code: int, line: str) -> NoReturn:
    """End this process and its children at once. An interpreter's own end may take seconds."""
    _leaving.acquire()  # for good: the other thread that comes here waits for the end
    start = "\x1b[?25h\n" if os.isatty(2) else ""  # shows the cursor again, below the bar and ^C
    with suppress(OSError):
        os.write(2, f"{start}{line}\n".encode())
    if processes := sys.modules.get("multiprocessing"):
        children = processes.active_children()  # they decode images, or run tasks
        for child in children:
            child.kill()
        for child in children:
            child.join(GRACE)
    os._exit(code)
