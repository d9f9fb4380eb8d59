"""A run whose passes run out of memory goes on with smaller ones, and says so; no value moves by more than rounding."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from axiom_bench.cutting import passes
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.run.computing import compute
from axiom_bench.run.manifest import Outcome

Run = Callable[..., list[Outcome]]
Rows = Callable[[list[Outcome]], pd.DataFrame]
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the garbage of a test session takes half a second."""
    monkeypatch.setattr(passes, "free", lambda: None)


def assert_equal_up_to_rounding(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(actual.drop(columns="value"), expected.drop(columns="value"))
    scale = expected.groupby("metric")["value"].transform(lambda values: np.ptp(values) or 1)
    assert ((actual["value"] - expected["value"]).abs() / scale).max() < 1e-5


def test_batches_are_halved(run: Run, rows: Rows, results, monkeypatch: pytest.MonkeyPatch, capsys):
    expected = rows(run())
    shutil.rmtree(results)
    trace = CutModel.trace

    def limited(cut_model: CutModel, images: torch.Tensor, *others: object) -> Trace:
        if len(images) > 2:
            raise OUT_OF_MEMORY
        return trace(cut_model, images, *others)

    monkeypatch.setattr(CutModel, "trace", limited)
    (outcome,) = run()
    sentence = "out of memory with 4 rows in a batch: going on with 2"
    assert sentence in capsys.readouterr().out
    assert [note for note in outcome.notes if note.startswith(sentence)]
    assert_equal_up_to_rounding(rows([outcome]), expected)


def test_what_a_batch_gave_before_it_failed_isnt_counted_twice(run: Run, rows: Rows, results, monkeypatch):
    """The second method's explanation fails, when the layer's values and the first method's are there already."""
    expected = rows(run())
    shutil.rmtree(results)
    explained = Explanation.of

    def limited(trace: Trace, answer: object, *others: object, **more: object) -> Explanation:
        calls.append(len(trace))
        if len(trace) > 1 and len(calls) % 2 == 0:
            raise MemoryError
        return explained(trace, answer, *others, **more)

    calls: list[int] = []
    monkeypatch.setattr(Explanation, "of", limited)
    (outcome,) = run()
    assert outcome.failure is None
    assert_equal_up_to_rounding(rows([outcome]), expected)


def test_an_image_that_doesnt_fit_stops_the_run_with_a_sentence(run: Run, rows: Rows, monkeypatch):
    """No row says "out of memory": it would stand there still on a machine with more."""
    calls = []
    trace = CutModel.trace

    def limited(*args: object) -> Trace:
        calls.append(args)
        if len(calls) > 5:  # the costs' and the first shard's
            raise OUT_OF_MEMORY
        return trace(*args)

    monkeypatch.setattr(CutModel, "trace", limited)
    (outcome,) = run()
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert "One image alone doesn't fit into the memory" in outcome.failure.message
    monkeypatch.undo()
    (outcome,) = run()
    assert outcome.computed.shards < outcome.shards
    assert "out_of_memory" not in set(rows([outcome])["status"])


def test_memory_that_runs_out_elsewhere_is_a_sentence_too(run: Run, monkeypatch):
    def moved(*_: object) -> None:
        raise OUT_OF_MEMORY

    monkeypatch.setattr(compute, "cut_of", moved)
    (outcome,) = run()
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert outcome.failure.message.startswith("Out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.)")
