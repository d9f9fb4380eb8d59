"""device=each_gpu: which process sees which GPU, and what becomes of the processes. No test here needs a GPU."""

import os
import signal
import sys

import pytest
import torch

from axiom_bench.cli import each_gpu
from axiom_bench.errors import BenchError

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
