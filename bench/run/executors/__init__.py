"""The executors, existing engines that run the tasks of a job behind one small interface, futures.

An engine queues tasks, and runs a task again if its process died. The run reports which task
failed.
"""

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
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.run.progress import silent
from axiom_bench.run.result import Failure

# the extra that installs an engine's package; the other packages are in "executors"
EXTRAS = {"ray": "ray"}
ONE_AT_A_TIME = threading.Lock()  # the tasks of a process share torch's settings and the loaded job


class Future(Protocol):
    """The result that a task is going to return."""

    def result(self) -> Any:
        """Wait for the task and return its result. Raise the engine's error if the process couldn't
        end the task.
        """

    def cancel(self) -> object:
        """Skip the task if it hasn't begun, since its result isn't needed."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        """Call the function with this future once the result exists."""


class Executor(Protocol):
    """An engine that runs tasks. Only the command writes into the run folder: see `run.parcels`."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Have a process call an importable function with arguments that can be pickled."""


class Local:
    """The command's own process. It computes a task when the result is requested."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """See `Executor`."""
        return _Deferred(partial(_answer, function, *arguments))


class _Deferred:
    """A future whose task runs when the result is requested."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result = call

    def cancel(self) -> None:
        """Do nothing, since a task runs only if its result is requested."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> None:
        function(self)


@contextmanager
def local() -> Iterator[Executor]:
    """Yield the executor of conf/executor/local.yaml."""
    yield Local()


@contextmanager
def opened(config: Mapping[str, Any], folder: Path) -> Iterator[Executor]:
    """Start and yield the executor of a run's settings.

    Args:
        config: The executor's settings.
        folder: The run folder.

    Raises:
        BenchError: If a setting is unknown, or if the engine isn't installed or can't be reached.
    """
    function, settings = checked(config)
    run_folder = {"folder": folder} if "folder" in inspect.signature(function).parameters else {}
    with ExitStack() as stack:
        with _engine_errors(config, "be started"):
            executor = stack.enter_context(function(**settings, **run_folder))
        yield executor


def checked(
    config: Mapping[str, Any],
) -> tuple[Callable[..., AbstractContextManager[Executor]], dict[str, Any]]:
    """Check the executor's settings. Return the function that starts it, and its arguments, or
    raise BenchError.
    """
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
            f"'.[{EXTRAS.get(package, 'executors')}]' in axiom-bench's checkout, or choose "
            "executor=local."
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        # a name such as "..", or an object that isn't a function
        raise BenchError(
            f"executor._target_={target} names nothing that can be imported ({error})."
        ) from error
    for key in settings:
        if key not in accepted:
            raise unknown_name(
                f"setting of {_named(config)}", key, [name for name in accepted if name != "folder"]
            )
    kinds.check(function, settings, "executor.")
    return function, settings


def result(future: Future, config: Mapping[str, Any]) -> Any:
    """Wait for a task and return its result.

    Args:
        future: The task.
        config: The executor's settings.

    Raises:
        Failure: If the function has raised an error.
        BenchError: If the engine has raised an error.
    """
    with _engine_errors(config, "end a task"):
        answer = future.result()
    if isinstance(answer, Failure):
        raise answer
    return answer


def call(folder: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(*arguments)` in an engine's process, without showing progress. An error is
    returned as a Failure.

    Progress isn't shown, since many processes may share a terminal.

    Args:
        folder: The folder in which the command was started. It becomes the current folder if this
            machine has it.
        function: The function.
        arguments: Its arguments.
    """
    with ONE_AT_A_TIME, silent():
        if os.path.isdir(folder):
            os.chdir(folder)
        return _answer(function, *arguments)


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of the function, or its error as a Failure, which any process can
    unpickle.
    """
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        return Failure.of(error)


def remote(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the function and the arguments for an engine to run: `call`, with the arguments of
    `call`.
    """
    return call, os.getcwd(), function, *arguments


@contextmanager
def _engine_errors(config: Mapping[str, Any], what: str) -> Iterator[None]:
    """Raise an error of the engine as a BenchError, which says that the engine couldn't do
    `what`.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:  # every engine has errors of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
            "no reason given"
        ]
        reason = lines[0].partition(". ")[0].rstrip(".")[:300]
        raise BenchError(
            f"{_named(config)} couldn't {what} ({type(error).__name__}: {reason}). Finished "
            "shards are kept: the same command goes on from there."
        ) from error


def _named(config: Mapping[str, Any]) -> str:
    return f"executor={str(config.get('_target_')).rpartition('.')[2]}"
