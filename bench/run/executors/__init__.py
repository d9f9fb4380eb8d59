"""The executors, existing engines that run the tasks of a job in other processes or on other
machines.

A run sees one small interface, futures. An engine queues tasks, and runs a task again if its
process died; the tasks themselves are in `run.worker`, which this package doesn't import.
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

# the extra that installs an engine's package; the other packages are in "executors"
EXTRAS = {"ray": "ray"}
# Held while a task runs: the tasks of a process share torch's settings and the loaded job.
ONE_AT_A_TIME = threading.Lock()


class Future(Protocol):
    """The result that a task is going to return."""

    def result(self) -> Any:
        """Wait for the task and return its result. Raise the engine's error if the process couldn't
        end the task.
        """

    def cancel(self) -> object:
        """Skip the task if it hasn't begun, since its result isn't needed."""

    def add_done_callback(self, function: Callable[[Future], object], /) -> None:
        """Call the function with this future once the result exists."""


class Executor(Protocol):
    """An engine that runs tasks. Only the command writes into the run folder: see `run.parcels`."""

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future:
        """Have a process call an importable function with arguments that can be pickled."""


class Local:
    """The command's own process. It computes a task when the result is requested."""

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future:
        """See `Executor`."""
        return _Deferred(partial(function, *arguments))


class _Deferred:
    """A future whose task runs when the result is requested."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result = call

    def cancel(self) -> None:
        """Do nothing, since a task runs only if its result is requested."""

    def add_done_callback(self, function: Callable[[Future], object], /) -> None:
        function(self)


@contextmanager
def local() -> Iterator[Executor]:
    """Yield the executor of conf/executor/local.yaml."""
    yield Local()


@contextmanager
def opened(config: Mapping[str, object], folder: Path) -> Iterator[Executor]:
    """Start and yield the executor of a run's settings. All jobs of a command share it.

    Args:
        config: The executor's settings.
        folder: The run folder.

    Raises:
        BenchError: If a setting is unknown, or if the engine isn't installed or can't be reached.
    """
    function, settings = checked(config)
    if "folder" in inspect.signature(function).parameters:
        settings["folder"] = folder
    with ExitStack() as stack:
        with _engine_errors(config, "be started"):
            executor = stack.enter_context(function(**settings))
        yield executor


def checked(
    config: Mapping[str, object],
) -> tuple[Callable[..., AbstractContextManager[Executor]], dict[str, object]]:
    """Check the executor's settings. Return the function that starts it, and its arguments, or
    raise BenchError.

    A command checks them before it loads a model, which may take minutes.
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
            # the run itself sets the folder
            keys = [name for name in accepted if name != "folder"]
            raise unknown_name("setting", key, keys, place=f"of {_named(config)}")
    kinds.check(function, settings, "executor.")
    return function, settings


def result(future: Future, config: Mapping[str, object]) -> Any:
    """Wait for a task and return its result.

    Args:
        future: The task.
        config: The executor's settings.

    Raises:
        BenchError: If the engine has raised an error.
    """
    with _engine_errors(config, "end a task"):
        return future.result()


def call(folder: str, function: Callable[..., object], *arguments: object) -> object:
    """Call `function(*arguments)` in an engine's process, in the command's folder if it exists.

    Users' own modules and relative paths in the settings then mean the same as in the command.

    Args:
        folder: The folder in which the command was started. Another machine may lack it.
        function: The function.
        arguments: Its arguments.
    """
    with ONE_AT_A_TIME:
        if os.path.isdir(folder):
            os.chdir(folder)
        return function(*arguments)


Call = tuple[Any, ...]
"""A function, followed by the arguments with which an engine calls it."""


def remote(function: Callable[..., object], arguments: tuple[object, ...]) -> Call:
    """Return the function and the arguments for an engine to run: `call`, with the arguments of
    `call`.
    """
    return call, os.getcwd(), function, *arguments


@contextmanager
def _engine_errors(config: Mapping[str, object], action: str) -> Iterator[None]:
    """Raise an error of the engine as a BenchError, which says that the engine couldn't do the
    action.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:  # every engine has errors of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first_line = lines[0] if lines else "no reason given"
        reason = first_line.partition(". ")[0].rstrip(".")[:300]
        raise BenchError(
            f"{_named(config)} couldn't {action} ({type(error).__name__}: {reason}). Finished "
            "shards are kept: the same command continues from there."
        ) from error


def _named(config: Mapping[str, object]) -> str:
    return f"executor={str(config.get('_target_')).rpartition('.')[2]}"
