"""How commands end: Ctrl-C, SIGTERM, SIGHUP with one line and its code; processes of device=each_gpu, without a GPU."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from axiom_bench.cli import each_gpu, stopping
from axiom_bench.errors import BenchError

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
CHILD = """
import multiprocessing, time
child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print('begun', child.pid, flush=True)
time.sleep(60)
"""
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def _handled() -> None:
    for name in EXIT_CODES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def begun(body: str, **options: object) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that runs `body`, once it has printed that it has begun, and the words that it printed then."""
    text = COMMAND.format(body="\n".join(f"    {line}" for line in body.strip().splitlines()))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    if not options:
        options = {"preexec_fn": _handled}  # a background job of a shell, as these tests may be, ignores SIGINT
    with subprocess.Popen([sys.executable, "-c", text], **pipes, **options) as process:
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


BODIES = {
    **dict.fromkeys(EXIT_CODES, SLEEP),
    "SIGTERM, and it doesn't end by itself": f"try:\n    {SLEEP}\nfinally:\n    __import__('time').sleep(60)",
    "SIGTERM, an error as numba makes of it": f"try:\n    {SLEEP}\nexcept BaseException:\n    raise SystemError('set')",
    "SIGTERM, a job whose errors are kept": f"try:\n    {SLEEP}\nexcept BaseException:\n    return 2",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_signal_ends_a_command_with_one_line_and_its_code(case):
    name = case.partition(",")[0]
    with begun(BODIES[case]) as (process, _):
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=30) == ("", f"{stopping.LINE}\n")
    assert process.returncode == EXIT_CODES[name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_so_and_sigterm_ends(number):
    with begun(SLEEP, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)) as (process, _):
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.terminate()
        assert process.wait(timeout=30) == 143


def test_the_processes_of_a_command_end_with_it():
    with begun(CHILD) as (process, words):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the child gets it too
        _, said = process.communicate(timeout=30)
    assert said == f"{stopping.LINE}\n"
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(words[1]), 0)


def test_a_caller_keeps_its_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping.stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(stopping.Stopped) as stop, stopping.stoppable():
        raise stopping.Stopped(signal.SIGHUP)
    assert stopping.exit_code(stop.value) == 129


def test_a_process_ends_with_the_one_that_started_it():
    """However that ends: a shell that is killed tells nobody."""
    inner = COMMAND.format(body=f"    stopping.end_with(os.getppid())\n    {SLEEP.replace('begun', 'begun {}')}")
    inner = inner.replace("'begun {}'", "'begun', os.getpid()")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    shell = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, inner]
    with subprocess.Popen(shell, **pipes, preexec_fn=_handled) as process:
        process.stdout.readline()
        process.kill()
        assert process.communicate(timeout=30) == ("", f"{stopping.LINE}\n")  # which end when both have gone


VISIBLE = each_gpu.VISIBLE
WRITES = "import os, sys; open(sys.argv[1] + os.environ['CUDA_VISIBLE_DEVICES'], 'w').write(' '.join(sys.argv[2:]))"


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("visible", "others"),
    [
        ({}, ["1", "2", "3"]),
        ({VISIBLE: "2,5,6,7"}, ["5", "6", "7"]),
        ({VISIBLE: "GPU-8a, GPU-9b,GPU-0c,GPU-1d,17"}, ["GPU-9b", "GPU-0c", "GPU-1d"]),  # of five, torch can use four
    ],
)
def test_every_gpu_but_the_first_has_a_process_that_sees_it_alone(monkeypatch, visible, others):
    gpus(monkeypatch, 4)
    environments = each_gpu.environments("each_gpu", {"PATH": "/bin", **visible})
    assert environments == [{"PATH": "/bin", VISIBLE: other} for other in others]


def test_one_gpu_and_other_devices_need_no_process_and_without_a_gpu_it_is_one_sentence(monkeypatch):
    gpus(monkeypatch, 1)
    assert each_gpu.environments("each_gpu", {VISIBLE: "3"}) == []  # as a process beside the first one sees it
    gpus(monkeypatch, 4)
    assert not any(each_gpu.environments(device, {}) for device in ("auto", "cpu", "cuda", "cuda:1"))
    gpus(monkeypatch, 0)
    with pytest.raises(BenchError, match=r"there is none; use device=cpu\.$"):
        each_gpu.environments("each_gpu", {})


def test_each_process_gets_the_command_line_and_its_gpu(tmp_path, capfd):
    environments = [{**os.environ, VISIBLE: "1"}, {**os.environ, VISIBLE: "2"}]
    command = [sys.executable, "-S", "-c", WRITES, f"{tmp_path}/gpu"]
    with each_gpu.processes(["model=a", "device=each_gpu"], tmp_path, environments, command) as started:
        assert [process.wait(60) for process in started] == [0, 0]
    words = f"--with {os.getpid()} --config-dir {tmp_path} model=a device=each_gpu"
    assert [(tmp_path / f"gpu{number}").read_text() for number in (1, 2)] == [words, words]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print('no kernel'); print('out of memory'); raise SystemExit(2)", "(exit code 2: out of memory)"),
        ("import os; os.kill(os.getpid(), 9)", "(signal 9: no output)"),
    ],
)
def test_a_process_that_failed_is_told_and_the_others_end(capfd, code, told):
    environments = [{**os.environ, VISIBLE: "GPU-8a"}, {**os.environ, VISIBLE: "2"}]
    body = f"import os, time; time.sleep(60) if os.environ['{VISIBLE}'] == '2' else exec({code!r})"
    with each_gpu.processes([], None, environments, [sys.executable, "-S", "-c", body]) as (fails, goes_on):
        fails.wait(60)
    assert goes_on.returncode == -signal.SIGTERM
    line = f"the process of GPU GPU-8a ended early {told}; the others computed its share.\n"
    assert capfd.readouterr() == ("", line)
