"""A process that reads images and dies: its image is tried alone and marked, and everything else is read."""

import logging
import multiprocessing
import os
import signal
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from axiom_bench.data import workers as workers_module
from axiom_bench.data.base import BadImage, Sample
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from tests.data.builders import PLAIN

SIZE = 40  # images: three chunks


class Deadly(Scenes):
    """Some scenes kill the process that reads them, as a decoder with a defect may.

    once: a file that the first such process leaves, so that the next one reads the image.
    """

    def __init__(self, places: tuple[int, ...], code: int | signal.Signals, once: Path | None = None) -> None:
        super().__init__(size=SIZE, seed=1)
        self.places, self.code, self.once = places, code, once
        self.parent = os.getpid()

    def read(self, index: int) -> Sample:
        if index in self.places and os.getpid() != self.parent and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            if isinstance(self.code, signal.Signals):
                os.kill(os.getpid(), self.code)
            os._exit(self.code)
        return super().read(index)


def outcomes(dataset: Scenes, workers: int) -> list[tuple[str, str]]:
    """(image id, status), in the order yielded."""
    listed = []
    for item in batches(dataset, range(SIZE), PLAIN, "label", 8, workers):
        is_bad = isinstance(item, BadImage)
        listed += [(item.image_id, item.status)] if is_bad else [(name, "ok") for name in item.image_ids]
    return listed


@pytest.mark.parametrize("code", [signal.SIGKILL, 3], ids=["SIGKILL", "exit"])
def test_an_image_that_kills_its_process_is_a_bad_image(code, caplog):
    before, children = signal.getsignal(signal.SIGCHLD), multiprocessing.active_children()
    dataset = Deadly((3, 20), code)
    with caplog.at_level(logging.WARNING):
        actual = outcomes(dataset, workers=2)
    bad = {dataset.ids[3], dataset.ids[20]}
    assert sorted(actual) == sorted((name, "bad_image" if name in bad else "ok") for name in dataset.ids)
    assert [name for name, status in actual if status == "ok"] == [name for name in dataset.ids if name not in bad]
    end = f"ended by {code.name}" if isinstance(code, signal.Signals) else "ended with exit code 3"
    assert sorted(record.args[0] for record in caplog.records) == sorted(bad)
    assert all(end in record.getMessage() for record in caplog.records)
    assert multiprocessing.active_children() == children
    assert signal.getsignal(signal.SIGCHLD) == before


def test_a_process_that_dies_by_chance_costs_no_image(tmp_path, caplog):
    dataset = Deadly((20,), signal.SIGKILL, tmp_path / "died")
    assert outcomes(dataset, workers=2) == [(name, "ok") for name in dataset.ids]
    (record,) = caplog.records
    assert "ended by SIGKILL; no image is the reason" in record.getMessage()


def test_a_worker_dies_while_the_caller_computes(caplog):
    """Nothing is raised in the caller's code, where torch's own handler would."""
    loaded = batches(Deadly((), 0), range(SIZE), PLAIN, "label", 8, 1)
    first = next(loaded)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    assert sum(map(len, loaded)) + len(first) == SIZE


def test_processes_that_die_again_and_again_are_an_error(monkeypatch):
    monkeypatch.setattr(workers_module, "_is_deadly", lambda *_: False)
    with pytest.raises(BenchError, match=r"died 3 times in a row, .* ended by SIGKILL"):
        outcomes(Deadly((3,), signal.SIGKILL), workers=1)
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_at_once_is_known(monkeypatch):
    """It has ended, and Python has forgotten it, before the loader has started the others."""

    class AfterDeath(workers_module.DataLoader):
        def __iter__(self):
            iterator = super().__iter__()
            wait([child.sentinel for child in multiprocessing.active_children()], timeout=1)
            return iterator

    monkeypatch.setattr(workers_module, "DataLoader", AfterDeath)
    dataset = Deadly((3,), signal.SIGKILL)
    assert [name for name, status in outcomes(dataset, workers=1) if status == "bad_image"] == [dataset.ids[3]]


def test_no_process_is_left_where_something_holds_torch_s_iterator(monkeypatch):
    """As the frames of an exception may, until garbage is collected."""
    held = []

    class Held(workers_module.DataLoader):
        def __iter__(self):
            held.append(super().__iter__())
            return held[-1]

    monkeypatch.setattr(workers_module, "DataLoader", Held)
    outcomes(Deadly((3,), signal.SIGKILL), workers=2)
    assert len(held) == 3
    assert multiprocessing.active_children() == []


def test_other_errors_of_a_worker_are_raised(monkeypatch):
    def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Scenes, "read", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        outcomes(Deadly((), 0), workers=1)
