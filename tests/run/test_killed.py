"""A process that the system kills for its memory raises nothing: the next one begins with smaller batches."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from axiom_bench.cutting.halving import Limits
from axiom_bench.run import compute, killed
from axiom_bench.run.manifest import Outcome

Run = Callable[..., list[Outcome]]
JOB, SHARD = "a job", "0123"


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Sets how many processes the kernel has killed for memory; None: it doesn't say."""
    file = tmp_path / "vmstat"
    monkeypatch.setattr(killed, "COUNTS", file)
    file.write_text("nr_free_pages 7\noom_kill 3\n")
    return lambda count: file.write_text("nr_free_pages 7\n" + ("" if count is None else f"oom_kill {count}\n"))


def killed_at(folder: Path, rows: int, memory: int = 2**30, job: str = JOB) -> None:
    """A process begins with this job and this shard, and is killed."""

    def begin() -> None:
        with killed.at_work(job, 32, Limits(memory, rows), folder) as tell:
            tell(SHARD)
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def next_start(folder: Path) -> Limits:
    """The limits with which the next process begins; it ends well."""
    limits = Limits(2**30)
    with killed.at_work(JOB, 32, limits, folder) as tell:
        tell(SHARD)
    return limits


linux = pytest.mark.skipif(platform.system() != "Linux", reason="processes are looked up in /proc")


@linux
def test_a_kill_for_memory_halves_the_next_start_and_no_further_one(tmp_path, counted, caplog):
    killed_at(tmp_path, 32)
    counted(4)
    assert next_start(tmp_path).rows == 16
    assert caplog.messages[0].endswith("killed at 32 rows in a batch, perhaps for memory: beginning with 16 rows")
    assert next_start(tmp_path).rows is None
    assert list(tmp_path.glob(killed.FILES)) == []


@linux
def test_kills_in_a_row_halve_again(tmp_path, counted):
    for number, rows in enumerate((32, 16, 8)):
        counted(number)
        killed_at(tmp_path, rows)
    counted(3)
    assert next_start(tmp_path).rows == 4


@linux
def test_at_one_row_its_extra_passes_get_less_memory(tmp_path, counted):
    killed_at(tmp_path, 1, 2**28)
    counted(4)
    limits = next_start(tmp_path)
    assert (limits.rows, limits.memory) == (1, 2**26)


@linux
def test_an_ordinary_kill_changes_nothing(tmp_path, counted, caplog):
    for _ in range(3):
        killed_at(tmp_path, 32)
    assert next_start(tmp_path).rows is None
    counted(4)  # later, somebody else's
    assert next_start(tmp_path).rows is None
    assert caplog.messages == []


@linux
def test_without_a_count_the_second_kill_in_a_shard_is_taken_for_one(tmp_path, counted):
    counted(None)
    killed_at(tmp_path, 32)
    killed_at(tmp_path, 32)
    assert next_start(tmp_path).rows == 16


@linux
def test_without_a_count_one_kill_changes_nothing(tmp_path, counted):
    counted(None)
    killed_at(tmp_path, 32)
    assert next_start(tmp_path).rows is None
    killed_at(tmp_path, 32)
    assert next_start(tmp_path).rows is None


@linux
def test_others_dont_count(tmp_path, counted):
    """Another job, another machine, and a process that goes on; a file that was being written."""
    killed_at(tmp_path, 32, job="another")
    with killed.at_work(JOB, 32, Limits(2**30), tmp_path) as tell:
        tell(SHARD)
        (path,) = [path for path in tmp_path.glob(killed.FILES) if json.loads(path.read_text())["job"] == JOB]
        elsewhere = {**json.loads(path.read_text()), "host": "elsewhere", "process": 1}
        (tmp_path / ".at_work.1.json").write_text(json.dumps(elsewhere))
        (tmp_path / ".at_work.2.json").write_text("{")
        (tmp_path / ".at_work.3.json").write_text(json.dumps({**elsewhere, "rows": "many"}))
        counted(4)
        assert next_start(tmp_path).rows is None
    assert len(list(tmp_path.glob(killed.FILES))) == 4


def test_an_end_by_ctrl_c_leaves_nothing(tmp_path):
    def stopped() -> None:
        with killed.at_work(JOB, 32, Limits(2**30), tmp_path) as tell:
            tell(SHARD)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


@linux
def test_a_run_that_was_killed_goes_on_with_half(run: Run, counted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(compute, "compute", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join()
    counted(4)
    (outcome,) = run()
    sentence = f"process {process.pid} was killed at 4 rows in a batch, perhaps for memory: beginning with 2 rows"
    assert outcome.notes == (sentence,)
    assert sentence in capsys.readouterr().out
