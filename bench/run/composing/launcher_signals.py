"""What a launcher's signal handler raises inside a job, as submitit's does when Slurm stops it: the end of the job, and
no error of the code that it interrupts.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class _Raised(BaseException):
    """Passes by whatever catches the errors of a user's code, sys.exit among them."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@contextmanager
def apart() -> Iterator[None]:
    """Inside, what a signal handler of the process raises leaves this context as it is, whatever it interrupted.

    But for SIGCHLD's: torch's raises where a process that decodes images was killed, which is the loader's error.
    Without effect outside of the main thread, the only one that handlers interrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    of_children = getattr(signal, "SIGCHLD", None)  # Windows has none
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals() if number != of_children}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in before.items():
        signal.signal(number, _marking(handler))
    try:
        yield
    except _Raised as raised:
        raise raised.error from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _marking(handler: Handler) -> Handler:
    """The handler, whose errors are marked; KeyboardInterrupt passes by other code as it is."""

    def marking(number: int, frame: FrameType | None) -> object:
        try:
            return handler(number, frame)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - all of them are a launcher's
            raise _Raised(error) from None

    return marking
