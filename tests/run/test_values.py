"""A value depends on nothing but what it is a value of: not on order, shards, workers, or the company it keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.evaluation.loop import explained
from axiom_bench.evaluation.measuring import measure
from axiom_bench.run.compute import cut_of
from axiom_bench.run.compute import rows as batches_of
from axiom_bench.run.job import Job
from axiom_bench.run.manifest import Outcome

Run = Callable[..., list[Outcome]]
Rows = Callable[[list[Outcome]], pd.DataFrame]


def test_the_rows_are_those_of_the_loop(run: Run, rows: Rows, job: Callable[..., Job]):
    """Once more by hand: cut, trace, explain, measure, without shards, files or padding."""
    table = rows(run())
    tiny = job("data.batch_size=100")
    (batch,) = batches_of(tiny, tiny.indices)
    trace = cut_of(tiny).trace(batch.images, batch.targets)
    assert len(table) == len(batch) * (2 * 2 + 1)
    assert set(table["experiment"]) == {"quick"}
    assert set(table["layer"]) == {"features.13"}
    assert set(table["method"]) == {"-", "grad_cam", "xgrad_cam"}
    method = next(method for method in tiny.methods if method.name == "xgrad_cam")
    metric = next(metric for metric in tiny.metrics if metric.name == "sensitivity_error")
    value, status = measure(metric, explained(trace, batch, method), True)["sensitivity_error"]
    own = table[(table["method"] == "xgrad_cam") & (table["metric"] == "sensitivity_error")]
    expected = pd.DataFrame(
        {"image_id": batch.image_ids, "target_class": batch.targets, "value": value, "status": status}
    )
    expected = expected.sort_values(["image_id", "target_class"], ignore_index=True)
    assert own["image_id"].tolist() == expected["image_id"].tolist()
    assert own["target_class"].tolist() == expected["target_class"].tolist()
    assert own["status"].tolist() == expected["status"].tolist()
    np.testing.assert_allclose(own["value"], expected["value"], rtol=1e-4)  # batches of 4 and of 100 round apart


@pytest.mark.parametrize(
    "overrides",
    [("shard_size=3",), ("shard_size=64", "data.workers=2"), ("method=[uniform,xgrad_cam,grad_cam]",)],
    ids=["shards", "workers", "methods"],
)
def test_bit_by_bit_at_a_fixed_batch_size(run: Run, rows: Rows, results: Path, overrides: tuple[str, ...]):
    other = rows(run(*overrides))
    other = other[other["method"] != "uniform"].reset_index(drop=True)
    clear(results)
    pd.testing.assert_frame_equal(rows(run()), other, check_exact=True)


def test_another_batch_size_moves_rounding_alone(run: Run, rows: Rows):
    fours, ones = rows(run()), rows(run("data.batch_size=1"))
    pd.testing.assert_frame_equal(fours.drop(columns="value"), ones.drop(columns="value"))
    scale = fours.groupby("metric")["value"].transform(lambda values: np.ptp(values) or 1)
    assert ((fours["value"] - ones["value"]).abs() / scale).max() < 1e-5  # of its range, in float32


def test_no_more_rows_are_computed_than_the_largest_shard_has(
    run: Run, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
):
    """However large data.batch_size is: each padded row costs as much as an image."""
    trace, rows = CutModel.trace, []
    monkeypatch.setattr(CutModel, "trace", lambda *args: rows.append(len(args[1])) or trace(*args))
    (outcome,) = run("data.batch_size=64")
    assert outcome.failure is None
    assert max(rows) == job("data.batch_size=64").batch_rows < 10


def clear(results: Path) -> None:
    """Forget what was computed: nothing may come from a file."""
    shutil.rmtree(results)
