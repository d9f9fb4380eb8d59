"""Tests of how commands end: Ctrl-C, SIGTERM and SIGHUP print one line and have an exit code."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from axiom_bench.cli import stopping
from axiom_bench.cli.main import parse

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")
COMMAND = """
import os, signal, sys
from axiom_bench.cli import main, stopping

def command(options):
{body}
main.parse = lambda argv: main.Namespace(command=command)
sys.exit(main.main())
"""
SLEEP = "print('begun', flush=True); __import__('time').sleep(60)"
SLEEP_TWICE = f"""
try:
    {SLEEP}
finally:
    __import__('time').sleep(60)
"""
CHILDREN = """
import multiprocessing, time
context = multiprocessing.get_context('fork')
for _ in range(3):
    context.Process(target=time.sleep, args=(60,), daemon=True).start()
print('begun', flush=True)
time.sleep(60)
"""
ENDLESS = f"stopping.GRACE = 60\n{SLEEP_TWICE}"
FREED = """
class Freed:
    def __del__(self):
        print('begun', flush=True)
        __import__('time').sleep(60)
Freed()
"""
COMMANDS = {
    "run": [],
    "paper": [],
    "rank": ["grad_cam"],
    "explain": ["a.png"],
    "doctor": [],
    "list": [],
}
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def use_default_handlers() -> None:
    for name in EXIT_CODES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def started_command(
    body: str,
    command: str = COMMAND,
    preexec_fn: Callable[[], object] = use_default_handlers,
) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of a command that runs `body`, after it has printed that it has begun.

    By default the process handles all signals: a shell's background job, which these tests may be,
    ignores SIGINT.
    """
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", command.format(body=indented)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=preexec_fn,
    ) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


NUMBA_ERROR = f"""
try:
    {SLEEP}
except BaseException:
    raise SystemError('set')
"""
KEPT_ERROR = f"""
try:
    {SLEEP}
except BaseException:
    return 2
"""
BODIES = {
    "SIGINT": SLEEP,
    "SIGTERM": SLEEP,
    "SIGHUP": SLEEP,
    "SIGTERM, and it doesn't end by itself": SLEEP_TWICE,
    "SIGTERM, an error as numba makes of it": NUMBA_ERROR,
    "SIGTERM, where Python ignores errors": f"{FREED}__import__('time').sleep(60)",
    "SIGTERM, where Python ignores errors, and it ends by itself": f"{FREED}return 0",
    "SIGTERM, a job whose errors are kept": KEPT_ERROR,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BODIES)
def test_a_signal_ends_a_command_with_one_line_and_its_code(case):
    name = case.partition(",")[0]
    with started_command(BODIES[case]) as process:
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=30) == ("", f"{stopping.STOPPED_LINE}\n")
    assert process.returncode == EXIT_CODES[name]


@pytest.mark.slow
@pytest.mark.parametrize("body", [SLEEP, SLEEP_TWICE])
def test_only_a_command_that_keeps_shards_says_that_it_can_be_resumed(body):
    resumed = [name for name, arguments in COMMANDS.items() if parse([name, *arguments]).is_resumed]
    assert resumed == ["run", "paper", "rank"]

    command = COMMAND.replace(
        "Namespace(command=command)", "Namespace(command=command, is_resumed=True)"
    )
    with started_command(body, command) as process:
        process.terminate()
        assert process.communicate(timeout=30) == ("", f"{stopping.STOPPED_RESUMABLE_LINE}\n")
    assert "the same command" not in stopping.STOPPED_LINE


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_so_and_sigterm_ends(number):
    def ignore_signal() -> None:
        signal.signal(number, signal.SIG_IGN)

    with started_command(SLEEP, preexec_fn=ignore_signal) as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.terminate()
        assert process.wait(timeout=30) == 143


@pytest.mark.slow
@pytest.mark.parametrize("name", EXIT_CODES)
def test_a_second_signal_ends_at_once(name):
    with started_command(ENDLESS) as process:
        process.send_signal(getattr(signal, name))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", f"{stopping.STOPPED_LINE}\n")
    assert process.returncode == EXIT_CODES[name]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_processes_of_a_command_end_with_it(number):
    with started_command(CHILDREN) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 3
        os.killpg(process.pid, number)  # the children get the signal too, as from a terminal
        _, error = process.communicate(timeout=30)
    assert error == f"{stopping.STOPPED_LINE}\n"
    assert process.returncode == 128 + number
    assert not any(child.is_running() for child in children)


LATE_HANDLER = f"""
import signal, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
{SLEEP}
"""
ENDED_CHILD = f"""
import multiprocessing, time
child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
child.start()
time.sleep(0.2)
child.terminate()
child.join()
{SLEEP}
"""


@pytest.mark.slow
def test_a_signal_ends_a_command_whose_main_thread_it_does_not_wake():
    """A signal that comes just before a system call doesn't interrupt the call.

    Here another thread takes the signal, so that the main thread sleeps on in every case.
    """
    with started_command(LATE_HANDLER) as process:
        process.terminate()
        assert process.communicate(timeout=30) == ("", f"{stopping.STOPPED_LINE}\n")
    assert process.returncode == 143


@pytest.mark.slow
def test_a_signal_to_a_forked_process_does_not_end_the_command():
    with started_command(ENDED_CHILD) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=stopping.GRACE + 1)
        process.terminate()
        assert process.wait(timeout=30) == 143


def test_a_caller_keeps_its_handlers():
    sigint_handler = signal.getsignal(signal.SIGINT)
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    hook = sys.unraisablehook
    threads = set(threading.enumerate())

    with stopping.stoppable():
        assert signal.getsignal(signal.SIGTERM) is not sigterm_handler
        (watcher,) = set(threading.enumerate()) - threads

    assert signal.getsignal(signal.SIGINT) == sigint_handler
    assert signal.getsignal(signal.SIGTERM) == sigterm_handler
    assert sys.unraisablehook is hook
    assert signal.set_wakeup_fd(-1) == -1
    watcher.join(timeout=30)
    assert not watcher.is_alive()
