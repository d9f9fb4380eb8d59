"""Hydra's launchers, which spread the jobs of a run over processes and machines: what they need, how they fail, and the
signals by which they end a job, as submitit's does when Slurm stops it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.kinds import shown as shortened
from axiom_bench.run.composing.hydra_inside import BASIC_LAUNCHER
from axiom_bench.run.progress import progress

SLURM = ".SlurmLauncher"
LOCAL = (".JoblibLauncher", ".LocalLauncher")
TERMINAL = "TTY_COMPATIBLE"  # which rich reads
WARNINGS = "PYTHONWARNINGS"
STARTED_BY = "AXIOM_BENCH_STARTED_BY"  # a process's number
LOOK_FOR_COMMAND = 0.5  # seconds
EXTRAS = {"hydra_joblib_launcher": "launchers", "hydra_submitit_launcher": "launchers", "hydra_ray_launcher": "ray"}
Handler = Callable[[int, FrameType | None], object]


class _Raised(BaseException):
    """Passes by whatever catches the errors of a user's code, sys.exit among them."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def check(launcher: Any, device: object) -> None:
    """Raises BenchError for a launcher that isn't installed, and for one with a device that starts processes itself.

    launcher: the configuration's node of it. device: the name.
    """
    if not is_of_several(launcher):
        return
    target = str(launcher["_target_"])
    module = target.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        extra = next((extra for package, extra in EXTRAS.items() if package in target), None)
        remedy = f"pip install '.[{extra}]' in axiom-bench's checkout" if extra else "install the package that has it"
        raise BenchError(f"The launcher {shortened(target)} isn't installed; {remedy}, or leave hydra/launcher out.")
    if device == "each_gpu":
        raise BenchError(
            "device=each_gpu starts its processes itself, on the machine of this command; leave hydra/launcher out, or "
            "choose device=cuda and one GPU for each of the launcher's processes."
        )


def is_of_several(launcher: Any) -> bool:
    """Whether it starts processes."""
    return bool(launcher["_target_"] != BASIC_LAUNCHER)


@contextmanager
def shown(jobs: int, launcher: Any) -> Iterator[None]:
    """Shows that so many jobs go on elsewhere. All processes show what they are at as in a log: several bars on one
    terminal would overwrite each other."""
    if str(launcher["_target_"]).endswith(SLURM):
        name = shlex.quote(str(launcher["name"]))
        print(
            f"Slurm's jobs outlive this command: squeue --me --name={name} shows them, scancel --name={name} ends "
            "them.",
            flush=True,
        )
    changed = {TERMINAL: "0", **_of_this_machine(launcher)}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        with progress(f"{jobs} {'job' if jobs == 1 else 'jobs'} in other processes"):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _of_this_machine(launcher: Any) -> dict[str, str]:
    """What processes that it starts on this machine find in their environment: which process started them, and no
    warnings of what they leave when that one is stopped, which Python removes behind them."""
    if os.name == "nt" or not str(launcher["_target_"]).endswith(LOCAL):  # Windows can't ask for a process by number
        return {}
    warnings = (os.environ.get(WARNINGS), "ignore:resource_tracker")
    return {STARTED_BY: str(os.getpid()), WARNINGS: ",".join(text for text in warnings if text)}


def end_with_command() -> None:
    """In a process that a launcher started on the command's machine: ends it soon after the command, however that
    ended. It is as safe as a kill: a file is complete or not there."""
    command = int(os.environ.get(STARTED_BY, os.getpid()))
    if command == os.getpid() or any(thread.name == STARTED_BY for thread in threading.enumerate()):
        return

    def look() -> None:
        while _runs(command):
            time.sleep(LOOK_FOR_COMMAND)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=look, name=STARTED_BY, daemon=True).start()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True


def failed(error: Exception) -> BenchError:
    """The sentence for what a launcher raises where it can't start processes, or one of them was killed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    reason = lines[0].partition(". ")[0].rstrip(".")[:300]
    return BenchError(
        f"hydra/launcher couldn't end all jobs ({type(error).__name__}: {reason}). Finished shards "
        "are kept: the same command goes on from there."
    )


@contextmanager
def signals_apart() -> Iterator[None]:
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
