"""The fixtures and settings that all tests share.

They contain the command as a user types it, the real photographs and weights, and one thread per
process.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Any

import hypothesis
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from omegaconf import OmegaConf

from axiom_bench.data.formats import urls
from axiom_bench.data.torchvision_import import torchvision  # noqa: F401 - which a CPU-only torch needs first

pytest_plugins = ("tests.browser",)
MAX_RUN_AGAIN = 2  # tests of a session; one more fails it
OBJECTS_BEFORE_COLLECTION = 20_000


def pytest_configure(config: pytest.Config) -> None:
    # There are as many workers as cores, so more threads would only wait for each other.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for processes that tests start
    # Lines of a command are as wide everywhere. A worker of pytest-xdist has 80 columns.
    os.environ["COLUMNS"] = "120"
    # No test cuts the power, and each write would wait for the disk.
    os.fsync = lambda descriptor: None
    # Examples are the same each time, whatever else was imported. A slow machine is no failure.
    is_same = config.getoption("--hypothesis-seed") is None
    hypothesis.settings.register_profile("same", deadline=None, derandomize=is_same, database=None)
    hypothesis.settings.load_profile("same")
    providers._get_local_constants = Constants


@pytest.hookimpl(trylast=True)  # after pytest-rerunfailures has connected
def pytest_sessionstart(session: pytest.Session) -> None:
    """Send the messages with which pytest-rerunfailures counts failures without delay.

    A worker of xdist sends two of them for each test. By default the operating system holds the
    second one back for 40 ms, which took two minutes of all tests.
    """
    connection = getattr(getattr(session.config, "failures_db", None), "sock", None)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tests_run_again(config: pytest.Config) -> list[pytest.TestReport]:
    """Return the failures after which `--reruns` ran a test again.

    A worker of xdist has no list, since its parent has it.
    """
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return terminal.stats.get("rerun", []) if terminal else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    if len(_tests_run_again(session.config)) > MAX_RUN_AGAIN:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for report in _tests_run_again(config):
        terminalreporter.write_line(f"Run again: {report.nodeid}\n{report.longreprtext}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude libraries and tests from garbage collection, and collect more rarely.

    They stay until the end, and each collection would visit them. With Python's own threshold of
    700 new objects, collections took 5 % of the tests' time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(OBJECTS_BEFORE_COLLECTION, 10, 10)
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _each_yaml_text_is_parsed_once() -> Iterator[None]:
    """Parse each YAML text once.

    The tests compose a thousand command lines from the same files, and YAML's parser takes most of
    the time.
    """
    load = OmegaConf.load
    cached = {}

    def load_once(file: str | Path | IO[Any]) -> Any:
        if isinstance(file, (str, Path)):
            return load(file)
        text = file.read()
        file.seek(0)
        if text not in cached:
            cached[text] = pickle.dumps(load(file))
        return pickle.loads(cached[text])  # ten times as fast as parsing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        yield


@pytest.fixture(scope="session")
def real_root() -> Path:
    """Return the folder of real images and weights. Skip if it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    root = Path(os.environ.get("AXIOM_BENCH_REAL", default))
    if not (root / "data" / "imagenet").is_dir():
        pytest.skip(f"no real images: {root}/data/imagenet is not there (set AXIOM_BENCH_REAL)")
    return root


@pytest.fixture
def memory_store(tmp_path, monkeypatch) -> Path:
    """Empty the store of memory:// and return the folder of its copies."""
    monkeypatch.setenv(urls.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return Path(tmp_path / "cache/data/memory")


@pytest.fixture(scope="session")
def git() -> Callable[..., str]:
    """Return a function (folder, *arguments) that runs git with its own author and returns the
    output. Skip if git isn't installed.
    """
    if shutil.which("git") is None:
        pytest.skip("no git")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")

    def run(folder: Path, *arguments: str) -> str:
        result = subprocess.run(
            ["git", *author, *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return result.stdout

    return run


@pytest.fixture(scope="session")
def typed() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function (folder, *arguments, stdout=PIPE) that runs `axiom-bench` in that folder.

    The command has its own process and none of the variables that change it.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment.pop("COLUMNS", None)
    command = Path(sys.executable).with_name("axiom-bench")

    def run(
        folder: Path, *arguments: str, stdout: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *arguments],
            cwd=folder,
            env=environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def typed_here(tmp_path_factory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return `typed` for this process, which has already imported torch."""
    from axiom_bench.cli.main import main

    temporary = tmp_path_factory.getbasetemp()

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        output = io.StringIO()
        errors = io.StringIO()
        try:
            with (
                _process_as_before(temporary),
                chdir(folder),
                redirect_stdout(output),
                redirect_stderr(errors),
            ):
                code = main(arguments)
        except SystemExit as stop:  # argparse ends so
            code = int(stop.code or 0)
        return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="module")
def few_objects_to_collect() -> None:
    """Exclude everything older than a module's tests from `gc.collect()`, which these tests or the
    code that they test call often. Each call takes half a second otherwise.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _each_test_leaves_the_process_as_it_was(tmp_path_factory) -> Iterator[None]:
    with _process_as_before(tmp_path_factory.getbasetemp()):
        yield


@contextmanager
def _process_as_before(temporary: Path) -> Iterator[None]:
    """Restore `sys.path` and the environment, and forget modules imported from the temporary
    folder.

    Other tests write other modules under the same names. Libraries stay, since many can't be
    imported twice.
    """
    modules = list(sys.modules)
    path = list(sys.path)
    environment = dict(os.environ)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        modules_now = list(sys.modules)
        # comparing the lists first takes a tenth of the time of a difference of sets
        new_modules = set(modules_now).difference(modules) if modules_now != modules else set()
        for name in new_modules:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(temporary):
                del sys.modules[name]
