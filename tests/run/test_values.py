"""A value depends on nothing but what it is a value of: not on order, shards, workers, or the company it keeps."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from axiom_bench.cutting.trace import CutModel
from axiom_bench.evaluation import shard
from axiom_bench.evaluation.batch import explained, frame, holds_values
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.run.computing.compute import cut_of
from axiom_bench.run.computing.compute import rows as batches_of
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.manifest import Outcome
from axiom_bench.run.sweep import sweep

from .conftest import TINY, rows_of, tiny

Run = Callable[..., list[Outcome]]
Rows = Callable[[list[Outcome]], pd.DataFrame]


KEY = ["image_id", "target_class", "method", "metric"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of a run with one thread and batches of 4, in a folder of its own: nothing comes from its files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("expected")
    outcomes = sweep([*TINY, f"results={folder}"])[1]
    torch.set_num_threads(threads)
    return rows_of(folder, outcomes)


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
    [
        (),
        ("shard_size=3",),
        ("shard_size=64", "data.workers=2"),
        ("method=[uniform,xgrad_cam,grad_cam]",),
        ("metric=[confidence_drop,box_iou,single_deletion,zeta,sensitivity_error]",),
    ],
    ids=["again", "shards", "workers", "methods", "metrics"],
)
def test_bit_by_bit_at_a_fixed_batch_size(run: Run, rows: Rows, expected: pd.DataFrame, overrides: tuple[str, ...]):
    other = rows(run(*overrides))
    is_common = other["method"].isin(expected["method"]) & other["metric"].isin(expected["metric"])
    pd.testing.assert_frame_equal(other[is_common].reset_index(drop=True), expected, check_exact=True)


def test_bit_by_bit_in_another_order(job: Callable[..., Job], expected: pd.DataFrame):
    tiny = job()
    wanted = MethodsByMetrics(tiny.methods, tiny.metrics)
    backwards = batches_of(tiny, tiny.indices[::-1])
    parts = [part for part in shard_rows(cut_of(tiny), backwards, [wanted], tiny.batch_rows) if holds_values(part)]
    table = frame(parts).astype({"method": str, "metric": str}).sort_values(KEY, ignore_index=True)
    assert table["image_id"].tolist() == expected.sort_values(KEY)["image_id"].tolist()
    np.testing.assert_array_equal(table["value"], expected.sort_values(KEY)["value"])


def test_bit_by_bit_where_threads_measure_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a run on a GPU does it, in three shards of two batches; also the values of the whole data set."""
    metrics = "metric=[box_iou,confidence_drop,entropy,max_box_acc,pxap,sensitivity_error,zeta]"
    tables = []
    for name, threads in (("one", 0), ("beside", 2)):
        monkeypatch.setattr(shard, "thread_count", lambda device, threads=threads: threads)
        outcomes = sweep([*tiny((metrics, "data.batch_size=2")), f"results={tmp_path / name}"])[1]
        folder = tmp_path / name / "quick/default"
        curves = [pd.read_parquet(folder / path) for outcome in outcomes for path in outcome.files["curves"]]
        tables.append((rows_of(tmp_path / name, outcomes), pd.concat(curves)))
    for one, beside in zip(*tables, strict=True):
        assert len(one)
        pd.testing.assert_frame_equal(beside, one, check_exact=True)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="a spawned process has no fixtures")
def test_bit_by_bit_where_processes_share_a_run(run: Run, rows: Rows, expected: pd.DataFrame):
    """Two processes with the same command, three shards."""
    both = [multiprocessing.get_context("fork").Process(target=run) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    (outcome,) = run()
    assert (outcome.shards, outcome.computed.shards) == (3, 0)
    pd.testing.assert_frame_equal(rows([outcome]), expected, check_exact=True)


@pytest.mark.parametrize(
    ("overrides", "threads"),
    [(("data.batch_size=1",), 1), (("device.ablation_memory=4KiB",), 1), ((), 2)],
    ids=["batch size", "ablation memory", "threads"],
)
def test_what_moves_rounding_alone(
    run: Run, rows: Rows, expected: pd.DataFrame, overrides: tuple[str, ...], threads: int
):
    torch.set_num_threads(threads)
    other = rows(run(*overrides))
    pd.testing.assert_frame_equal(other.drop(columns="value"), expected.drop(columns="value"))
    scale = expected.groupby("metric")["value"].transform(lambda values: np.ptp(values) or 1)
    assert ((other["value"] - expected["value"]).abs() / scale).max() < 1e-5  # of its range, in float32


def test_no_more_rows_are_computed_than_the_largest_shard_has(
    run: Run, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
):
    """However large data.batch_size is: each padded row costs as much as an image."""
    trace, rows = CutModel.trace, []
    monkeypatch.setattr(CutModel, "trace", lambda *args: rows.append(len(args[1])) or trace(*args))
    (outcome,) = run("data.batch_size=64")
    assert outcome.failure is None
    assert max(rows) == job("data.batch_size=64").batch_rows < 10
