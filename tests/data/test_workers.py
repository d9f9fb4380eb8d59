"""A process that reads images and dies ends the run in a sentence.

The sentence names the image that was read, and the setting that leaves the image out.
"""

import multiprocessing
import os
import signal
import struct
import sys

import pytest

from axiom_bench.data.base import Sample, subset
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from tests.data.builders import PLAIN

SIZE = 40  # images: three chunks


class Deadly(Scenes):
    """Scenes of which one kills the process that reads it, as a decoder with a defect may."""

    def __init__(self, deadly_index: int | None, code: int | signal.Signals) -> None:
        super().__init__(size=SIZE, seed=1)
        self.deadly_index = deadly_index
        self.code = code
        self.parent = os.getpid()

    def read(self, index: int) -> Sample:
        if index == self.deadly_index and os.getpid() != self.parent:
            if isinstance(self.code, signal.Signals):
                os.kill(os.getpid(), self.code)
            os._exit(self.code)
        return super().read(index)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "end"), [(signal.SIGKILL, "SIGKILL"), (3, "exit code 3"), (0, "exit code 0")]
)
def test_an_image_that_kills_its_process_is_named_and_can_be_left_out(code, end):
    handler = signal.getsignal(signal.SIGCHLD)
    children = multiprocessing.active_children()
    data = Deadly(20, code)
    deadly_id = data.ids[20]
    message = rf"'{deadly_id}' ended by {end}\. .*data\.leave_out=\['{deadly_id}'\]"
    with pytest.raises(BenchError, match=message):
        list(batches(data, range(SIZE), PLAIN, "label", 8, 2))
    assert multiprocessing.active_children() == children
    assert signal.getsignal(signal.SIGCHLD) == handler

    kept = subset(data, None, 0, leave_out=[deadly_id])
    assert kept == tuple(index for index in range(SIZE) if index != 20)
    assert sum(map(len, batches(data, kept, PLAIN, "label", 8, 2))) == SIZE - 1


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (
            ["evaluation-1-00002"],
            r"data\.leave_out names 'evaluation-1-00002', which is no image of 'scenes'",
        ),
        (list(Deadly(None, 0).ids), "leaves none of the 40 images"),
    ],
)
def test_what_can_t_be_left_out_is_a_sentence(leave_out, message):
    with pytest.raises(BenchError, match=message):
        subset(Deadly(None, 0), None, 0, leave_out=leave_out)


@pytest.mark.slow
def test_a_worker_that_dies_while_the_caller_computes_raises_where_the_next_images_are_asked_for():
    """Check that the error isn't raised in the caller's code, where torch's own handler raises."""
    indices = [index % SIZE for index in range(SIZE * 9)]
    loaded = batches(Deadly(None, 0), indices, PLAIN, "label", 8, 1)
    next(loaded)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(BenchError, match="ended by SIGKILL"):
        list(loaded)
    assert multiprocessing.active_children() == []


class DiesWriting(Scenes):
    """Scenes whose number 20 kills its process between the head and the body of a message."""

    def __init__(self) -> None:
        super().__init__(size=SIZE, seed=1)

    def read(self, index: int) -> Sample:
        if index == 20:
            frame = sys._getframe()
            while "data_queue" not in frame.f_locals:
                assert frame.f_back is not None
                frame = frame.f_back
            queue = frame.f_locals["data_queue"]
            # A writer holds this lock; without it the message before would be cut in two.
            with queue._wlock:
                os.write(queue._writer.fileno(), struct.pack("!i", 1000) + b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_writes_is_no_endless_wait(monkeypatch):
    monkeypatch.setattr("axiom_bench.data.loading.SECONDS_WITHOUT_CHUNK", 0.2)
    with pytest.raises(BenchError, match="ended by SIGKILL"):
        list(batches(DiesWriting(), range(SIZE), PLAIN, "label", 8, 1))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_other_errors_of_a_worker_are_raised(monkeypatch):
    def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Scenes, "read", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        list(batches(Deadly(None, 0), range(SIZE), PLAIN, "label", 8, 1))
