"""Tests of `executor=...`: every executor gives the values of one process.

That also holds if a worker is killed while it computes.
"""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.records.reading import status
from axiom_bench.run import executors, parcels
from axiom_bench.run.executors import Local, processes
from axiom_bench.run.result import JobResult
from axiom_bench.run.worker import Task, compute_part
from tests.faults.runs import group_is_gone, wait_until

from .conftest import (
    ENGINES,
    PACKAGES,
    RUN,
    failure,
    manifest_of,
    rows_of,
    slow_engines,
    tiny_overrides,
    write_module,
)

NAMES = sorted(path.stem for path in (conf_folder() / "executor").glob("*.yaml"))


def node(name: str) -> dict[str, object]:
    """Return the settings in the file of an executor."""
    return yaml.safe_load((conf_folder() / f"executor/{name}.yaml").read_text())


def test_every_executor_is_tried():
    assert {"local", *ENGINES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_executor_takes_what_its_file_says(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"{name} isn't installed")
    _, settings = executors.checked(node(name))
    assert settings.keys() == node(name).keys() - {"_target_"}
    with pytest.raises(BenchError, match=f"setting 'nonsense' of executor={name}"):
        executors.checked({**node(name), "nonsense": 1})


def test_a_setting_of_another_kind_and_a_target_that_is_not_there(monkeypatch):
    for config, sentence in (
        ({**node("processes"), "count": 0}, r"executor\.count .* a number of processes, 1 or more"),
        ({"_target_": "axiom_bench.run.executors.nowhere"}, "names nothing that can be imported"),
        ({"_target_": ".."}, "names nothing that can be imported"),
        ({"_target_": "os.sep"}, "names nothing that can be imported"),
        (
            {"_target_": "no_such_engine.start"},
            "needs the package no_such_engine, which isn't installed",
        ),
    ):
        with pytest.raises(BenchError, match=sentence):
            executors.checked(config)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    monkeypatch.delitem(sys.modules, "axiom_bench.run.executors.dask", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "axiom_bench.run.executors.ray", raising=False)
    for name, extra in (("dask", "executors"), ("ray", "ray")):
        sentence = rf"needs the package {name}, .*pip install '\.\[{extra}\]'"
        with pytest.raises(BenchError, match=sentence):
            executors.checked(node(name))


def test_here_a_task_is_done_when_its_result_is_asked_for():
    finished_tasks: list[int] = []
    futures = [Local().submit(finished_tasks.append, number) for number in range(3)]
    futures[2].cancel()
    futures[1].result()
    assert finished_tasks == [1]


class BrokenExecutor:
    """An executor whose workers die when they compute a part."""

    def submit(self, function: Callable[..., object], *arguments: object) -> Future[object]:
        future = Future[object]()
        if compute_part in arguments:
            future.set_exception(RuntimeError("The worker died. It may be this.\nOr that."))
        else:
            future.set_result(function(*arguments))
        return future


@pytest.mark.slow
def test_what_an_engine_can_t_end_is_a_sentence_and_status_tells_it(run, results, monkeypatch):
    monkeypatch.setattr("axiom_bench.run.executors.Local", BrokenExecutor)
    message = failure(run())
    assert message == (
        "executor=local couldn't end a task (RuntimeError: The worker died). Finished shards are "
        "kept: the same command continues from there."
    )
    job = "scenes_vgg at features.13 on scenes"
    assert list(status(results / RUN))[1:] == [
        f"{job}: 0 of 5 images so far.",
        f"failed: {job}: {message}",
    ]


@pytest.mark.slow
def test_a_worker_with_other_keys_computes_nothing(run, results):
    """Check a worker with other versions of packages: its values would get a wrong key."""
    (outcome,) = run()
    with pytest.raises(BenchError, match="has other versions of packages, code or images"):
        compute_part(Task("other", "", outcome.settings), "0" * 32)
    assert len(list((results / RUN / "records").glob("*.parquet"))) == 3


KILLED = """
import glob, os, signal, torch


def stops(explanation):
    if glob.glob("RECORDS/*.parquet") and not os.path.exists("FLAG"):
        os.close(os.open("FLAG", os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.zeros(len(explanation.trace))
"""


def assert_same_bits(
    rows: pd.DataFrame,
    finished_run: Callable[..., tuple[Path, list[JobResult]]],
) -> None:
    """Check the metrics of a tiny run against their values in one process."""
    expected = rows_of(*finished_run(["shard_size=1"]))
    expected = expected[expected["image_id"].isin(rows["image_id"])].reset_index(drop=True)
    rows = rows[rows["metric"].isin(expected["metric"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


@pytest.mark.parametrize("engine", slow_engines(), ids=ENGINES)
def test_a_worker_that_is_killed_in_the_middle_changes_no_bit(
    tmp_path, monkeypatch, finished_run, engine
):
    """Check that the worker's shard is computed again.

    submitit doesn't queue its local jobs again, so there the same command is run again. Each of
    its tasks is a process that imports torch, so it has fewer of them.
    """
    flag = tmp_path / "flag"
    code = KILLED.replace("RECORDS", str(tmp_path / RUN / "records")).replace("FLAG", str(flag))
    write_module(tmp_path, "killed_once", code, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if "executor=submitit" in engine:
        monkeypatch.setattr("axiom_bench.run.executors.submitit.LOOK", 0.1)
    settings = ["+metric.stops._target_=killed_once.stops", "shard_size=1"]
    if "executor=submitit" in engine:
        settings.append("data.size=3")
    words = [*tiny_overrides(settings), *engine, f"results={tmp_path}"]

    _, (outcome,) = run_jobs(words)
    assert flag.exists(), outcome.failure
    if "executor=submitit" in engine:
        assert outcome.failure is not None
        assert "executor=submitit couldn't end a task" in outcome.failure.message
        _, (outcome,) = run_jobs(words)
    assert outcome.failure is None
    assert_same_bits(rows_of(tmp_path, [outcome]), finished_run)


SLOW = """
import os, time, torch

def slow(explanation):
    time.sleep(0.5 * os.path.exists("FLAG"))
    return torch.zeros(len(explanation.trace))
"""


@pytest.mark.parametrize("engine", slow_engines("processes", "dask"), ids=["processes", "dask"])
def test_a_command_that_is_killed_leaves_no_process_and_the_same_one_goes_on(
    tmp_path, monkeypatch, finished_run, engine
):
    flag = tmp_path / "flag"
    flag.touch()
    write_module(tmp_path, "slow_metric", SLOW.replace("FLAG", str(flag)), monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    slow = ("+metric.slow._target_=slow_metric.slow", "+metric.slow.reuse=true", "shard_size=1")
    words = [*tiny_overrides(slow), f"results={tmp_path}"]
    command = [sys.executable, "-m", "axiom_bench", *words, *engine]
    records = tmp_path / RUN / "records"
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(list(records.glob("*.parquet"))) or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    wait_until(lambda: group_is_gone(process.pid), seconds=60)
    flag.unlink()

    _, (outcome,) = run_jobs(words)
    assert 0 < outcome.computed.shards < 5
    assert_same_bits(rows_of(tmp_path, [outcome]), finished_run)


TAINTS = """
import glob

def mine(trace):
    if len(glob.glob("RECORDS/*.parquet")) > 1:
        next(trace.cut_model.model.parameters()).data.mul_(2)
    return trace.gradients
"""


@pytest.mark.slow
def test_what_other_tasks_wrote_beside_a_plug_in_that_is_refused_goes(
    run, results, tmp_path, monkeypatch
):
    records = results / RUN / "records"
    write_module(tmp_path, "taints", TAINTS.replace("RECORDS", str(records)), monkeypatch)
    settings = [
        "+method.mine._target_=taints.mine",
        "++method.mine.on_score_scale=false",
        "shard_size=1",
    ]
    outcomes = run(settings)
    assert failure(outcomes).startswith("The plug-in 'mine' (")
    assert not list(records.glob("*.parquet"))


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["0", "1", "2", "3"]),
        ("2,5,6,7", ["2", "5", "6", "7"]),
        ("GPU-8a, GPU-9b,3,4,17", ["GPU-8a", "GPU-9b", "3", "4"]),
    ],
)
def test_every_gpu_has_a_process_that_sees_it_alone(monkeypatch, visible, names):
    """Check also five names of GPUs, of which torch can use four."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    if visible is None:
        monkeypatch.delenv(processes.VISIBLE, raising=False)
    else:
        monkeypatch.setenv(processes.VISIBLE, visible)
    assert processes.gpus() == names
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchError, match=r"there is none; set executor\.count=N"):
        processes.gpus()


@pytest.mark.slow
def test_processes_see_their_variable_and_one_that_dies_again_and_again_is_a_sentence(tmp_path):
    with executors.opened({**node("processes"), "count": 2}, tmp_path) as executor:
        futures = [executor.submit(os.getenv, processes.THREADS) for _ in range(4)]
        assert [future.result() for future in futures] == ["1"] * 4
        with pytest.raises(BenchError, match="was killed 3 times, perhaps because memory ran out"):
            executor.submit(signal.raise_signal, signal.SIGKILL).result()
        assert executor.submit(json.loads, "5").result() == 5


@pytest.mark.slow
def test_processes_that_are_closed_start_no_other_process():
    """A process that is killed in the middle of a task is replaced, except at the end."""
    with processes.processes(1) as executor:
        future = executor.submit(time.sleep, 60)
        wait_until(lambda: bool(multiprocessing.active_children()))
    with pytest.raises(BrokenProcessPool):
        future.result(timeout=60)
    # Python breaks the pool a moment before the killed process can be reaped. A process in its
    # place would sleep for 60 s.
    wait_until(lambda: not multiprocessing.active_children(), seconds=30)


@pytest.mark.slow
def test_a_process_that_starts_while_its_executor_closes_is_killed():
    executor = processes.Processes([(processes.THREADS, "1")])
    executor.is_closed.set()  # as `close` does first; the task's process starts later
    with pytest.raises(BrokenProcessPool):
        executor.submit(time.sleep, 60).result(timeout=40)
    executor.close()


@pytest.mark.slow
def test_processes_that_are_closed_leave_those_of_the_program_alone():
    program = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    program.start()
    try:
        with processes.processes(1) as executor:
            executor.submit(time.sleep, 60)
            wait_until(lambda: len(multiprocessing.active_children()) == 2)
        wait_until(lambda: len(multiprocessing.active_children()) < 2, seconds=30)
        program.join(1)  # a killed one ends
        assert program.is_alive()
    finally:
        program.kill()
        program.join()


class ThreadExecutor:
    """An executor in threads.

    The first shard's task waits until the values of another shard are written.
    """

    def __init__(self, records: Path, threads: ThreadPoolExecutor) -> None:
        self.records = records
        self.threads = threads
        self.num_parts = 0

    def submit(self, function: Callable[..., object], *arguments: object) -> Future[object]:
        is_part = compute_part in arguments
        self.num_parts += is_part
        is_first = is_part and self.num_parts == 1
        return self.threads.submit(self.perform, is_first, function, *arguments)

    def perform(
        self, is_first: bool, function: Callable[..., object], *arguments: object
    ) -> object:
        if is_first:
            wait_until(lambda: bool(list(self.records.glob("*.parquet"))))
        with executors.ONE_AT_A_TIME:
            return function(*arguments)


@pytest.fixture
def in_threads(results, finished_run, monkeypatch) -> Iterator[None]:
    """A command whose tasks run in threads, not in the command's own process."""
    finished_run(["shard_size=1"])  # still with the executor of one process
    with ThreadPoolExecutor(2) as threads:
        executor = partial(ThreadExecutor, results / RUN / "records", threads)
        monkeypatch.setattr("axiom_bench.run.executors.Local", executor)
        yield


@pytest.mark.slow
def test_what_workers_return_is_written_as_it_arrives(run, rows, finished_run, in_threads):
    """Check that values, files and manifest are the same as without workers.

    A second command computes one more method.
    """
    (outcome,) = run(["shard_size=1"])
    assert outcome.failure is None
    temporary_folder = str(Path(tempfile.gettempdir(), "axiom-bench-"))
    assert temporary_folder not in json.dumps(manifest_of([outcome]).model_dump())
    assert_same_bits(rows([outcome]), finished_run)

    (outcome,) = run(["shard_size=1"])
    assert outcome.computed.shards == 0

    (outcome,) = run(["shard_size=1", "method=[grad_cam,xgrad_cam,hires_cam]"])
    assert outcome.failure is None
    assert outcome.computed.shards == 5


@pytest.mark.slow
def test_workers_return_the_answers_of_the_model(run, results, in_threads):
    """Check that a method which is added later costs only its own passes."""
    run(["method=[uniform]", "metric=[single_deletion]"])
    answers = list((results / RUN / "answers").iterdir())
    assert len(answers) == 3  # one per shard
    (outcome,) = run(["method=[uniform,equal_shares]", "metric=[single_deletion]"])
    assert outcome.computed.images == 5
    passes = outcome.computed.passes
    assert passes["trunk_forward"] < 16 * outcome.computed.images


@pytest.mark.slow
def test_pictures_and_the_gallery_that_workers_return(run, results, in_threads, monkeypatch):
    pictures = (
        "pictures.rows=2",
        "pictures.gallery=3",
        "pictures.arrays=true",
        "runtime.repeats=1",
    )
    (outcome,) = run(pictures)
    assert outcome.failure is None
    files = outcome.files
    names = [*files["pictures"], *files["gallery"], *files["runtime"]]
    assert len(names) == 3
    contents = {name: (results / RUN / name).read_bytes() for name in names}

    run(pictures)
    assert {name: (results / RUN / name).read_bytes() for name in names} == contents

    monkeypatch.setattr(parcels, "MAX_ARRAYS", 1000)
    message = failure(run([*pictures, "data.size=4"]))
    sentence = r"has 0 MB, .* returns at most 0; set pictures\.arrays=false or fewer pictures\.rows"
    assert re.search(sentence, message)


def can_hide_folders() -> bool:
    """Return True if a process may mount file systems of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask isn't installed")
def test_a_dask_cluster_of_two_workers_without_a_common_folder_gives_the_same_records(
    tmp_path, finished_run
):
    """Check workers whose file system is empty at the path of the results."""
    if not can_hide_folders():
        pytest.skip("this user may not mount a file system of its own")
    results = tmp_path / "results"
    results.mkdir()
    scheduler_file = tmp_path / "scheduler.json"
    python = [sys.executable, "-m"]
    options = ["--no-dashboard", "--scheduler-file", str(scheduler_file)]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--port", "0", *options]
    worker = shlex.join([*python, "distributed.cli.dask_worker", "--nthreads", "1", *options])
    hide_results = f"mount -t tmpfs none {shlex.quote(str(results))}"
    hidden_worker = ["unshare", "-rm", "sh", "-c", f"{hide_results} && exec {worker}"]

    with ExitStack() as stack:
        for command in (scheduler, hidden_worker, hidden_worker):
            process = subprocess.Popen(
                command,
                env={**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
                cwd=tmp_path,
                start_new_session=True,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        wait_until(lambda: scheduler_file.exists() and scheduler_file.read_text() != "", seconds=60)
        address = json.loads(scheduler_file.read_text())["address"]
        dask = ("executor=dask", f"executor.address={address}")
        words = [*tiny_overrides(("shard_size=1",)), *dask, f"results={results}"]
        _, (outcome,) = run_jobs(words)

    assert outcome.failure is None, outcome.failure
    assert outcome.computed.shards == 5
    assert_same_bits(rows_of(results, [outcome]), finished_run)
