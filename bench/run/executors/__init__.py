"""What runs the tasks of a job: engines that exist, behind one small interface, futures. The engine queues tasks and
does one again whose process died; the run says what failed."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from axiom_bench import kinds
from axiom_bench.errors import BenchError, unknown
from axiom_bench.run.progress import silent
from axiom_bench.run.result import Failure

EXTRAS = {"ray": "ray"}  # of an engine's package; the others are in "executors"
ONE_AT_A_TIME = threading.Lock()  # tasks of a process: torch's settings, and the job that is kept, are the process's


class Future(Protocol):
    """What a task is going to return."""

    def result(self) -> Any:
        """What the task returned, once it has. Raises the engine's error where its process couldn't end it."""

    def cancel(self) -> object:
        """Leave the task out if it hasn't begun: nobody needs its result."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        """Have a function called with this future once its result is there."""


class Executor(Protocol):
    """Where tasks are done. Only the command writes into the run folder: see `run.parcels`."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Has a process call an importable function with arguments that can be pickled."""


class Local:
    """The command's own process, which computes a result when it is asked for."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """See `Executor`."""
        return _Deferred(partial(_answer, function, *arguments))


class _Deferred:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.result = call

    def cancel(self) -> None:
        """A task that nobody asks for isn't computed."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        function(self)


@contextmanager
def local() -> Iterator[Executor]:
    """conf/executor/local.yaml."""
    yield Local()


@contextmanager
def opened(config: Mapping[str, Any], folder: Path) -> Iterator[Executor]:
    """The executor of a run's settings. folder: the run's. Raises BenchError for a setting that it doesn't take, and
    where its engine isn't installed, or can't be reached."""
    function, settings = checked(config)
    beside = {"folder": folder} if "folder" in inspect.signature(function).parameters else {}
    with ExitStack() as stack:
        with _engine_errors(config, "be started"):
            executor = stack.enter_context(function(**settings, **beside))
        yield executor


def checked(config: Mapping[str, Any]) -> tuple[Callable[..., AbstractContextManager[Executor]], dict[str, Any]]:
    """(the function that starts an executor, its settings). Raises BenchError."""
    settings = {key: value for key, value in config.items() if key != "_target_"}
    target = str(config.get("_target_"))
    module, _, name = target.rpartition(".")
    try:
        function = getattr(import_module(module), name)
        accepted = inspect.signature(function).parameters
    except ImportError as error:
        package = str(getattr(error, "name", "")).partition(".")[0]
        raise BenchError(
            f"{_named(config)} needs the package {package}, which isn't installed; pip install "
            f"'.[{EXTRAS.get(package, 'executors')}]' in "
            "axiom-bench's checkout, or choose executor=local."
        ) from error
    except (ValueError, AttributeError, TypeError) as error:  # as of "..", or of what isn't a function
        raise BenchError(f"executor._target_={target} names nothing that can be imported ({error}).") from error
    for key in settings:
        if key not in accepted:
            raise unknown(f"setting of {_named(config)}", key, [name for name in accepted if name != "folder"])
    kinds.check(function, settings, "executor.")
    return function, settings


def result(future: Future, config: Mapping[str, Any]) -> Any:
    """Return what a task returned. config: the executor's settings.

    Raises:
        Failure: For an error of the function's.
        BenchError: For an error of the engine's.
    """
    with _engine_errors(config, "end a task"):
        answer = future.result()
    if isinstance(answer, Failure):
        raise answer
    return answer


def call(folder: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function(*arguments)` in an engine's process, in the folder that the command was given in if this
    machine has it. What it is at isn't shown, since many processes may share a terminal."""
    with ONE_AT_A_TIME, silent():
        if os.path.isdir(folder):
            os.chdir(folder)
        return _answer(function, *arguments)


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a task hands back: an error as the Failure that any process can read."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        return Failure.of(error)


def remote(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A function and its arguments, as an engine is to have them: those of `call`."""
    return call, os.getcwd(), function, *arguments


@contextmanager
def _engine_errors(config: Mapping[str, Any], what: str) -> Iterator[None]:
    try:
        yield
    except BenchError:
        raise
    except Exception as error:  # every engine has errors of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        reason = lines[0].partition(". ")[0].rstrip(".")[:300]
        raise BenchError(
            f"{_named(config)} couldn't {what} ({type(error).__name__}: {reason}). Finished shards are kept: the same "
            "command goes on from there."
        ) from error


def _named(config: Mapping[str, Any]) -> str:
    return f"executor={str(config.get('_target_')).rpartition('.')[2]}"
