"""executor=...: every engine gives the values of one process, also where a worker is killed in the
middle.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    assembled,
    failure,
    module_of,
    rows_of,
    slow_engines,
    tiny,
)

NAMES = sorted(path.stem for path in (conf_folder() / "executor").glob("*.yaml"))


def node(name: str) -> dict[str, object]:
    return yaml.safe_load((conf_folder() / f"executor/{name}.yaml").read_text())


def test_every_executor_is_tried():
    assert {"local", *ENGINES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_executor_takes_what_its_file_says(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"{name} isn't installed")
    _, settings = executors.checked(node(name))
    assert settings.keys() == node(name).keys() - {"_target_"}
    with pytest.raises(BenchError, match=f"setting of executor={name} 'nonsense'"):
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
        with pytest.raises(
            BenchError, match=rf"needs the package {name}, .*pip install '\.\[{extra}\]'"
        ):
            executors.checked(node(name))


def test_here_a_task_is_done_when_its_result_is_asked_for():
    done: list[int] = []
    futures = [Local().submit(done.append, number) for number in range(3)]
    futures[2].cancel()
    futures[1].result()
    assert done == [1]


class Breaks:
    def submit(self, function: Callable[..., object], *arguments: object) -> Future[object]:
        future = Future[object]()
        if compute_part in arguments:
            future.set_exception(RuntimeError("The worker died. It may be this.\nOr that."))
        else:
            future.set_result(function(*arguments))
        return future


def test_what_an_engine_can_t_end_is_a_sentence_and_status_tells_it(run, results, monkeypatch):
    monkeypatch.setattr("axiom_bench.run.executors.Local", Breaks)
    message = failure(run())
    assert message == (
        "executor=local couldn't end a task (RuntimeError: The worker died). Finished shards are "
        "kept: the same command goes on from there."
    )
    job = "scenes_vgg at features.13 on scenes"
    assert list(status(results / RUN))[1:] == [
        f"{job}: 0 of 5 images so far.",
        f"failed: {job}: {message}",
    ]


@pytest.mark.slow
def test_a_worker_with_other_keys_computes_nothing(run, results):
    """As one with other versions of packages does, whose values would stand under a wrong key."""
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
    rows: pd.DataFrame, finished_run: Callable[..., tuple[Path, list[JobResult]]]
) -> None:
    """Of the metrics of a tiny run, as one process has them."""
    expected = rows_of(*finished_run("shard_size=1"))
    rows = rows[rows["metric"].isin(expected["metric"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


@pytest.mark.parametrize("engine", slow_engines(), ids=ENGINES)
def test_a_worker_that_is_killed_in_the_middle_changes_no_bit(
    tmp_path, monkeypatch, finished_run, engine
):
    """Its shard is done again. submitit's local jobs aren't queued again: there the same command
    goes on.
    """
    flag, records = tmp_path / "flag", tmp_path / RUN / "records"
    module_of(
        tmp_path,
        "killed_once",
        KILLED.replace("RECORDS", str(records)).replace("FLAG", str(flag)),
        monkeypatch,
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if "executor=submitit" in engine:
        monkeypatch.setattr("axiom_bench.run.executors.submitit.LOOK", 0.1)
    own = tiny(("+metric.stops._target_=killed_once.stops", "shard_size=1"))
    run = partial(run_jobs, [*own, *engine, f"results={tmp_path}"])
    (outcome,) = run()[1]
    assert flag.exists(), outcome.failure
    if "executor=submitit" in engine:
        assert outcome.failure is not None
        assert "executor=submitit couldn't end a task" in outcome.failure.message
        (outcome,) = run()[1]
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
    module_of(tmp_path, "slow_metric", SLOW.replace("FLAG", str(flag)), monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    slow = ("+metric.slow._target_=slow_metric.slow", "+metric.slow.reuse=true", "shard_size=1")
    words = [*tiny(slow), f"results={tmp_path}"]
    command = [sys.executable, "-m", "axiom_bench", *words, *engine]
    records = tmp_path / RUN / "records"
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(list(records.glob("*.parquet"))) or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    wait_until(lambda: group_is_gone(process.pid), seconds=60)
    flag.unlink()
    outcomes = run_jobs(words)[1]
    assert 0 < outcomes[0].computed.shards < 5
    assert_same_bits(rows_of(tmp_path, outcomes), finished_run)


TAINTS = """
import glob

def mine(trace):
    if len(glob.glob("RECORDS/*.parquet")) > 1:
        next(trace.cut_model.model.parameters()).data.mul_(2)
    return trace.gradients
"""


def test_what_other_tasks_wrote_beside_a_plug_in_that_is_refused_goes(
    run, results, tmp_path, monkeypatch
):
    records = results / RUN / "records"
    module_of(tmp_path, "taints", TAINTS.replace("RECORDS", str(records)), monkeypatch)
    message = failure(
        run(
            "+method.mine._target_=taints.mine",
            "++method.mine.on_score_scale=false",
            "shard_size=1",
        )
    )
    assert message.startswith("The plug-in 'mine' (")
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
    """Of five names, torch may be able to use four."""
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
        with pytest.raises(BenchError, match="was killed 3 times, as for want of memory"):
            executor.submit(signal.raise_signal, signal.SIGKILL).result()
        assert executor.submit(json.loads, "5").result() == 5


class Elsewhere:
    """Tasks in threads. The first shard's task waits until another one's values are written."""

    def __init__(self, records: Path, threads: ThreadPoolExecutor) -> None:
        self.records, self.threads, self.parts = records, threads, 0

    def submit(self, function: Callable[..., object], *arguments: object) -> Future[object]:
        self.parts += compute_part in arguments
        is_first = compute_part in arguments and self.parts == 1
        return self.threads.submit(self.done, is_first, function, *arguments)

    def done(self, is_first: bool, function: Callable[..., object], *arguments: object) -> object:
        if is_first:
            wait_until(lambda: bool(list(self.records.glob("*.parquet"))))
        with executors.ONE_AT_A_TIME:
            return executors._answer(function, *arguments)


@pytest.fixture
def elsewhere(results, finished_run, monkeypatch) -> Iterator[None]:
    """Tasks aren't the command's own."""
    finished_run("shard_size=1")  # of one process
    with ThreadPoolExecutor(2) as threads:
        monkeypatch.setattr(
            "axiom_bench.run.executors.Local",
            partial(Elsewhere, results / RUN / "records", threads),
        )
        yield


def test_what_workers_return_is_written_as_it_arrives(run, rows, finished_run, elsewhere):
    """The same values, files and manifest, also of a second command, which computes one more
    method.
    """
    first = run("shard_size=1")
    assert first[0].failure is None
    assert str(Path(tempfile.gettempdir(), "axiom-bench-")) not in json.dumps(
        assembled(first).model_dump()
    )
    assert_same_bits(rows(first), finished_run)
    assert run("shard_size=1")[0].computed.shards == 0
    (more,) = run("shard_size=1", "method=[grad_cam,xgrad_cam,hires_cam]")
    assert more.failure is None
    assert more.computed.shards == 5


def test_workers_return_the_answers_of_the_model(run, results, elsewhere):
    """A method that is added later costs only its own passes."""
    run("method=[uniform]", "metric=[single_deletion]")
    kept = {path: path.read_bytes() for path in (results / RUN / "answers").iterdir()}
    assert len(kept) == 3  # one per shard
    (added,) = run("method=[uniform,equal_shares]", "metric=[single_deletion]")
    assert added.computed.images == 5
    passes = added.computed.passes
    assert passes["trunk_forward"] < 16 * added.computed.images


def test_pictures_and_the_gallery_that_workers_return(run, results, elsewhere, monkeypatch):
    pictures = (
        "pictures.rows=2",
        "pictures.gallery=3",
        "pictures.arrays=true",
        "runtime.repeats=1",
    )
    (outcome,) = run(*pictures)
    assert outcome.failure is None
    listed = {kind: outcome.files[kind] for kind in ("pictures", "gallery", "runtime")}
    contents = {
        name: (results / RUN / name).read_bytes() for names in listed.values() for name in names
    }
    assert len(contents) == 3
    run(*pictures)
    assert {name: (results / RUN / name).read_bytes() for name in contents} == contents
    monkeypatch.setattr(parcels, "MAX_ARRAYS", 1000)
    message = failure(run(*pictures, "data.size=4"))
    assert re.search(
        r"has 0 MB, .* returns at most 0; set pictures\.arrays=false or fewer pictures\.rows",
        message,
    )


def can_hide_folders() -> bool:
    """Whether a process may have file systems of its own."""
    hidden = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(hidden, capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="dask isn't installed")
def test_a_dask_cluster_of_two_workers_without_a_common_folder_gives_the_same_records(
    tmp_path, finished_run
):
    """Each worker has an empty file system in the place of the results."""
    if not can_hide_folders():
        pytest.skip("this user may not mount a file system of its own")
    results, about = tmp_path / "results", tmp_path / "scheduler.json"
    results.mkdir()
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    worker = shlex.join(
        [*python, "distributed.cli.dask_worker", "--nthreads", "1", "--scheduler-file", str(about)]
    )
    hidden = f"mount -t tmpfs none {shlex.quote(str(results))} && exec {worker} --no-dashboard"
    commands = [
        [*scheduler, "--scheduler-file", str(about)],
        *[["unshare", "-rm", "sh", "-c", hidden]] * 2,
    ]
    with ExitStack() as stack:
        for command in commands:
            started = subprocess.Popen(
                command,
                env=environment,
                cwd=tmp_path,
                start_new_session=True,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(started.wait)
            stack.callback(os.killpg, started.pid, signal.SIGKILL)
        wait_until(lambda: about.exists() and about.read_text() != "", seconds=60)
        address = json.loads(about.read_text())["address"]
        engine = ("executor=dask", f"executor.address={address}")
        (outcome,) = run_jobs([*tiny(("shard_size=1",)), *engine, f"results={results}"])[1]
    assert outcome.failure is None, outcome.failure
    assert outcome.computed.shards == 5
    assert_same_bits(rows_of(results, [outcome]), finished_run)
