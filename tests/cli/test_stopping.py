"""How commands end: Ctrl-C, SIGTERM, SIGHUP with one line and its code."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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
CHILDREN = """
import multiprocessing, time
context = multiprocessing.get_context('fork')
for _ in range(3):
    context.Process(target=time.sleep, args=(60,), daemon=True).start()
print('begun', flush=True)
time.sleep(60)
"""
ENDLESS = f"stopping.GRACE = 60\ntry:\n    {SLEEP}\nfinally:\n    __import__('time').sleep(60)"
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


def _handled() -> None:
    for name in EXIT_CODES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def begun(
    body: str, command: str = COMMAND, **options: object
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that runs `body`, once it has printed that it has begun, and the words that it
    printed then.
    """
    text = command.format(body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    pipes = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
    if not options:
        # a background job of a shell, as these tests may be, ignores SIGINT
        options = {"preexec_fn": _handled}
    with subprocess.Popen([sys.executable, "-c", text], **pipes, **options) as process:
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


BODIES = {
    **dict.fromkeys(EXIT_CODES, SLEEP),
    "SIGTERM, and it doesn't end by itself": f"try:\n    {SLEEP}\nfinally:\n    __import__('time').sleep(60)",
    "SIGTERM, an error as numba makes of it": f"try:\n    {SLEEP}\nexcept BaseException:\n    raise SystemError('set')",
    "SIGTERM, where Python ignores errors": f"{FREED}__import__('time').sleep(60)",
    "SIGTERM, where Python ignores errors, and it ends by itself": f"{FREED}return 0",
    "SIGTERM, a job whose errors are kept": f"try:\n    {SLEEP}\nexcept BaseException:\n    return 2",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_signal_ends_a_command_with_one_line_and_its_code(case):
    name = case.partition(",")[0]
    with begun(BODIES[case]) as (process, _):
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=30) == ("", f"{stopping.LINE}\n")
    assert process.returncode == EXIT_CODES[name]


@pytest.mark.parametrize(
    "body", [SLEEP, f"try:\n    {SLEEP}\nfinally:\n    __import__('time').sleep(60)"]
)
def test_only_a_command_that_keeps_shards_says_that_it_can_be_resumed(body):
    words = {name: parse([name, *arguments]).is_resumed for name, arguments in COMMANDS.items()}
    assert [name for name, is_resumed in words.items() if is_resumed] == ["run", "paper", "rank"]
    command = COMMAND.replace(
        "Namespace(command=command)", "Namespace(command=command, is_resumed=True)"
    )
    with begun(body, command) as (process, _):
        process.terminate()
        assert process.communicate(timeout=30) == ("", f"{stopping.RESUMED}\n")
    assert "the same command" not in stopping.LINE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_so_and_sigterm_ends(number):
    with begun(SLEEP, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)) as (process, _):
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.terminate()
        assert process.wait(timeout=30) == 143


@pytest.mark.parametrize("name", EXIT_CODES)
def test_a_second_signal_ends_at_once(name):
    with begun(ENDLESS) as (process, _):
        process.send_signal(getattr(signal, name))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", f"{stopping.LINE}\n")
    assert process.returncode == EXIT_CODES[name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_processes_of_a_command_end_with_it(number):
    with begun(CHILDREN) as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 3
        os.killpg(process.pid, number)  # as a terminal does: the children get it too
        _, said = process.communicate(timeout=30)
    assert said == f"{stopping.LINE}\n"
    assert process.returncode == 128 + number
    assert sum(child.is_running() for child in children) == 0


def test_a_caller_keeps_its_handlers():
    before, hook = (
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        sys.unraisablehook,
    )
    with stopping.stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert sys.unraisablehook is hook
