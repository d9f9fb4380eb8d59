"""executor.detach=true without Slurm: what is queued and what waits for what, and what each of the jobs computes."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from axiom_bench.cli import benchmark, detached
from axiom_bench.cli.status import status
from axiom_bench.errors import BenchError
from axiom_bench.run.sweep import sweep
from tests.run.conftest import RUN, tiny

DETACH = ("executor=submitit", "executor.detach=true", "executor.tasks=2", "executor.parameters=null")


class Queue:
    """Takes jobs as submitit's executor does; each step has the number after the last one's."""

    tasks = 2

    def __init__(self) -> None:
        self.queue, self.steps, self.waits, self.calls = self, [], [], []

    def update_parameters(self, slurm_additional_parameters):
        self.waits.append(slurm_additional_parameters)

    def submit(self, *call):
        self.calls.append(call)

    def start(self):
        self.steps.append(self.calls)
        self.calls = []
        return [SimpleNamespace(job_id=f"{10 + len(self.steps)}_0")]


def test_three_steps_wait_for_each_other_and_compute_all_shards(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit isn't installed")
    queue = Queue()
    monkeypatch.setattr(detached.executors, "opened", contextmanager(lambda *_: iter([queue])))
    words = [*tiny(()), f"results={tmp_path}"]
    code, lines = benchmark.benchmark([*words, *DETACH])
    assert code == 0
    assert "scancel 11 12 13 ends them" in lines[0]
    assert queue.waits == [{"dependency": "afterany:11"}, {"dependency": "afterany:12"}]
    (prepares,), array, (ends,) = queue.steps
    assert len(array) == 2
    assert ends[1][-2:] == [words[-1], "executor=local"]
    assert not any("submitit" in word or "detach" in word for word in ends[1])
    prepares[0](*prepares[1:])
    folder = tmp_path / RUN
    assert list(status(folder))[-1] == "scenes_vgg at features.13 on scenes: 0 of 5 images so far."
    counts = []
    for call in array:
        call[0](*call[1:])
        counts.append(len(list((folder / "records").glob("*.parquet"))))
    assert counts == [2, 3]  # of three shards
    assert sweep(words)[1][0].computed.shards == 0


def test_without_slurm_and_where_values_are_needed_at_once_it_is_a_sentence(tmp_path):
    pytest.importorskip("submitit", reason="submitit isn't installed")
    words = [*tiny(()), f"results={tmp_path}", *DETACH]
    with pytest.raises(BenchError, match="needs Slurm"):
        benchmark.benchmark([*words, "executor.cluster=local"])
    with pytest.raises(BenchError, match="is for axiom-bench run"):
        benchmark.compute(words)
