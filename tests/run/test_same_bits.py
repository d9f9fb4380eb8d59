"""Tests that every way to run gives the same bits.

No value depends on order, shards, workers, executors, or other values of the same run.
"""

import multiprocessing
import warnings
from dataclasses import replace
from functools import partial
from itertools import count
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from axiom_bench import methods, metrics
from axiom_bench.cutting import passes
from axiom_bench.cutting.ablation import batched
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.embedded import Scenes
from axiom_bench.evaluation.batch import explained, frame, holds_values
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import MethodLeftOut
from axiom_bench.records.entries import JobEntry
from axiom_bench.run import choosing, images, samples, shards, whole_set
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import rows as batches_of
from axiom_bench.run.job import Job, cut_at_layer
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration
from axiom_bench.run.verification import in_original_places
from axiom_bench.testing.other_device import OTHER, OtherDevice

from .conftest import failure, rows_of

KEY = ["image_id", "target_class", "method", "metric"]


@pytest.fixture(scope="module")
def expected(finished_run) -> pd.DataFrame:
    """The rows of a run with batches of 4.

    The run has a folder of its own, so that other runs don't reuse its files.
    """
    return rows_of(*finished_run())


@pytest.mark.slow
def test_the_rows_are_those_of_the_loop(expected, job):
    """Compute the rows step by step: cut, trace, explain, measure.

    This test uses no shards, files or padding.
    """
    tiny_job = job(["data.batch_size=100"])
    (batch,) = batches_of(tiny_job, tiny_job.indices)
    trace = cut_at_layer(tiny_job.model, tiny_job.device).trace(batch.images, batch.targets)
    explanation = explained(trace, batch, methods.get("xgrad_cam"))
    metric = metrics.get("sensitivity_error")
    value, status = measure(metric, explanation, True)["sensitivity_error"]
    columns = {
        "image_id": batch.image_ids,
        "target_class": batch.targets,
        "status": status,
        "value": value,
    }
    rows = pd.DataFrame(columns).sort_values(["image_id", "target_class"], ignore_index=True)

    assert len(expected) == len(batch) * (2 * 2 + 1)
    assert set(expected["experiment"]) == {"quick"}
    assert set(expected["layer"]) == {"features.13"}
    assert set(expected["method"]) == {"-", "grad_cam", "xgrad_cam"}
    is_stored = (expected["method"] == "xgrad_cam") & (expected["metric"] == "sensitivity_error")
    stored = expected[is_stored]
    for name in ("image_id", "target_class", "status"):
        assert stored[name].tolist() == rows[name].tolist()
    # a batch of 4 rows rounds differently from a batch of all rows
    np.testing.assert_allclose(stored["value"], rows["value"], rtol=1e-4)


WAYS = {
    "again": (),
    "shards": ("shard_size=3",),
    "workers": ("shard_size=64", "data.workers=2"),
    "methods": ("method=[uniform,xgrad_cam,grad_cam]",),
    "metrics": ("metric=[confidence_drop,box_iou,single_deletion,zeta,sensitivity_error]",),
}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", WAYS.values(), ids=WAYS)
def test_bit_by_bit_at_a_fixed_batch_size(run, rows, expected, overrides):
    """Check other settings; tests/run/test_executors.py checks the executors."""
    (outcome,) = run(overrides)
    table = rows([outcome])
    is_common = table["method"].isin(expected["method"]) & table["metric"].isin(expected["metric"])
    common = table[is_common].reset_index(drop=True)
    pd.testing.assert_frame_equal(common, expected, check_exact=True)
    assert outcome.computed.shards == len(outcome.shards)


@pytest.mark.slow
def test_bit_by_bit_in_another_order(job, expected):
    tiny_job = job()
    request = MethodsByMetrics(tiny_job.methods, tiny_job.metrics)
    cut_model = cut_at_layer(tiny_job.model, tiny_job.device)
    batches = batches_of(tiny_job, tiny_job.indices[::-1])

    parts = shard_rows(cut_model, batches, [request], tiny_job.batch_rows)
    table = frame([part for part in parts if holds_values(part)])

    table = table.astype({"method": str, "metric": str}).sort_values(KEY, ignore_index=True)
    expected = expected.sort_values(KEY, ignore_index=True)
    assert table["image_id"].tolist() == expected["image_id"].tolist()
    np.testing.assert_array_equal(table["value"], expected["value"])


@pytest.mark.slow
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="a spawned process has no fixtures",
)
def test_bit_by_bit_where_processes_share_a_run(run, rows, expected):
    """Check two processes that run the same command with three shards."""
    processes = [multiprocessing.get_context("fork").Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    (outcome,) = run()
    assert len(outcome.shards) == 3
    assert outcome.computed.shards == 0
    pd.testing.assert_frame_equal(rows([outcome]), expected, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "threads"),
    [(("data.batch_size=1",), 1), (("device.ablation_memory=4KiB",), 1), ((), 2)],
    ids=["batch size", "ablation memory", "threads"],
)
def test_what_moves_rounding_alone(run, rows, expected, request, overrides, threads):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(threads)
    assert_equal_up_to_rounding(rows(run(overrides)), expected)


@pytest.mark.slow
def test_a_budget_of_ablations_is_in_the_manifest_and_its_error_in_the_records(run, rows):
    metrics = "metric=[sensitivity_error,zeta,drops_error]"
    exact = rows(run([metrics, "model.layer=features.6"])).set_index("metric")["value"]
    assert not exact[["drops_error", "estimated_drops"]].any()

    (outcome,) = run([metrics, "model.layer=features.6", "device.ablation_channels=8"])
    estimated = rows([outcome]).set_index("metric")["value"]
    sentence = "of 8 channels and a sample exact, others estimated"
    assert outcome.facts.precision["drops"] == sentence
    assert (estimated["estimated_drops"] > 0).all()
    assert (estimated["drops_error"] > 0).all()
    assert (estimated["zeta"] < exact["zeta"]).all()  # estimated drops have no such error


def assert_equal_up_to_rounding(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(actual.drop(columns="value"), expected.drop(columns="value"))
    ranges = expected.groupby("metric")["value"].transform(lambda values: np.ptp(values) or 1)
    differences = (actual["value"] - expected["value"]).abs() / ranges
    assert differences.max() < 1e-5  # float32


@pytest.mark.slow
def test_no_more_rows_are_computed_than_the_largest_shard_has(run, job, monkeypatch):
    """Check a large data.batch_size: a padded row would cost as much as an image."""
    trace = CutModel.trace
    traced_rows: list[int] = []

    def count_rows(
        cut_model: CutModel, images: torch.Tensor, *others: object, **more: object
    ) -> Trace:
        traced_rows.append(len(images))
        return trace(cut_model, images, *others, **more)

    large_job = job(["data.batch_size=64"])
    monkeypatch.setattr(CutModel, "trace", count_rows)
    (outcome,) = run(["data.batch_size=64"])
    assert outcome.failure is None
    largest_shard = max(map(large_job.rows, large_job.shards))
    assert max(traced_rows) == large_job.batch_rows == largest_shard < 10
    assert job(["data.batch_size=1"]).batch_rows == 1


def test_images_drawn_for_verify_keep_their_places_in_the_batch(job):
    run_job = job(["data.size=11", "data.batch_size=4", "shard_size=6", "target=label"])
    position_by_name = {}
    image_by_name = {}
    for shard in run_job.shards:
        for batch in batches_of(run_job, shard):
            for position, name in enumerate(batch.image_ids):
                position_by_name[name] = position
                image_by_name[name] = batch.images[position]
    sample = [10, 2, 7, 3, 0]  # at the positions 0, 2, 1, 3 and 0

    batches = list(in_original_places(run_job, sample, ()))

    assert len(batches) == 2
    drawn_names = []
    for batch in batches:
        for position, name in enumerate(batch.image_ids):
            if name:
                drawn_names.append(name)
                assert position == position_by_name[name]
                assert torch.equal(batch.images[position], image_by_name[name])
    assert sorted(drawn_names) == sorted(run_job.data.ids[index] for index in sample)


SETTINGS = (
    "data=scenes_many",
    "data.size=2",
    "data.workers=0",
    "data.batch_size=2",
    "method=[ablation_cam_axiomatic,grad_cam,guided_xgrad_cam]",
    "metric=[box_iou,class_discriminability,confidence_drop,max_box_acc,object_effects,"
    "sensitivity_error,zeta]",
    "runtime.repeats=1",
    "pictures.rows=1",
    "pictures.gallery=2",
)
MOST_WAITS = 9  # the maximum; four images had 283 waits before a test counted them


def on_other_device(job: Job) -> Job:
    """Return the job on a processor that stands for a GPU."""
    device = replace(job.device, device=OTHER)
    return replace(job, device=device, cut_model=cut_at_layer(job.model, device))


@pytest.mark.slow
def test_all_steps_of_a_job(tmp_path):
    job = Job.of(Settings.of(configuration([*SETTINGS, f"results={tmp_path}"])))
    with OtherDevice() as device:
        job = on_other_device(job)
        assert all(map(device.holds, job.cut_model.model.parameters()))
        keys = Keys(shards.decided(job))
        folder = job.settings.run_folder

        missing, *_ = shards.missing(keys, folder)
        shards.announced(keys, missing, folder)
        missing, *_ = shards.missing(keys, folder)
        ((key, shard),) = missing.items()
        assert shards.compute_shard(keys, key, shard, folder, int).images == len(job.indices)

        files, *_ = shards.stored(keys, folder)
        stored = JobEntry(job=job.name, records=files["records"], values=keys.values)
        assert whole_set.ensure_whole_set(keys, stored)
        assert samples.ensure_runtime(keys, stored)
        assert samples.ensure_pictures(keys, stored)
        assert samples.ensure_gallery(keys, stored)
        choosing.only_correct(job, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["scenes_vgg", pytest.param("scenes_resnet", marks=pytest.mark.slow)]
)
def test_a_batch_waits_for_the_device_a_few_times(model, monkeypatch):
    """Check that the number of waits doesn't depend on the number of images.

    The methods and metrics are the defaults. A GPU has nothing to do during each wait.
    """
    # The device that stands for a GPU is a processor.
    monkeypatch.setattr(batched, "OF_PROCESSOR", batched.OF_GPU)
    job = Job.of(Settings.of(configuration([f"model={model}", "data.workers=0", "data.size=2"])))
    with OtherDevice() as device, warnings.catch_warnings():
        warnings.simplefilter("ignore", MethodLeftOut)
        job = shards.decided(on_other_device(job))
        batch = images.first_batch(job, job.indices, 2, ())
        assert batch is not None
        request = [MethodsByMetrics(job.methods, job.metrics)]
        # The first batch also examines the model, once for all batches.
        list(shard_rows(job.cut_model, [batch[:1]], request, 1))

        device.waits.clear()
        list(shard_rows(job.cut_model, [batch[:1]], request, 1))
        waits_of_one = device.waits.copy()

        device.waits.clear()
        list(shard_rows(job.cut_model, [batch], request, len(batch)))
        waits_of_two = device.waits.copy()

    assert waits_of_one == waits_of_two
    assert waits_of_one.total() <= MOST_WAITS, waits_of_one


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch) -> None:
    """Disable the garbage collection, which takes half a second in a test session."""
    monkeypatch.setattr(passes, "free", lambda: None)


@pytest.mark.slow
def test_batches_are_halved(run, rows, expected, monkeypatch, capsys):
    trace = CutModel.trace

    def trace_two_at_most(
        cut_model: CutModel, images: torch.Tensor, *others: object, **more: object
    ) -> Trace:
        if len(images) > 2:
            raise OUT_OF_MEMORY
        return trace(cut_model, images, *others, **more)

    monkeypatch.setattr(CutModel, "trace", trace_two_at_most)
    (outcome,) = run()
    sentence = "out of memory with 4 rows in a batch: continuing with 2"
    assert capsys.readouterr().out.count(sentence) == 1
    # A note that was printed when it arose isn't printed again at the end.
    assert not any(line.startswith(sentence) for line in (*outcome.lines, *outcome.notes))
    assert_equal_up_to_rounding(rows([outcome]), expected)


@pytest.mark.slow
def test_what_a_batch_gave_before_it_failed_isnt_counted_twice(run, rows, expected, monkeypatch):
    """Check a batch whose second method fails.

    The batch then already has the values of the layer and of the first method.
    """
    explanation_of = Explanation.of
    calls: list[int] = []

    def fail_for_second_method(
        trace: Trace, answer: object, *others: object, **more: object
    ) -> Explanation:
        calls.append(len(trace))
        if len(trace) > 1 and len(calls) % 2 == 0:
            raise MemoryError
        return explanation_of(trace, answer, *others, **more)

    monkeypatch.setattr(Explanation, "of", fail_for_second_method)
    (outcome,) = run()
    assert outcome.failure is None
    assert_equal_up_to_rounding(rows([outcome]), expected)


@pytest.mark.slow
def test_an_image_that_doesnt_fit_stops_the_run_with_a_sentence(run, rows, monkeypatch):
    """Check that no row has the status "out of memory".

    A machine with more memory would keep such a row.
    """
    trace = CutModel.trace
    calls = count(1)

    def fail_after_first_shard(*args: object, **more: object) -> Trace:
        if next(calls) > 5:  # the calls for the costs and for the first shard
            raise OUT_OF_MEMORY
        return trace(*args, **more)

    monkeypatch.setattr(CutModel, "trace", fail_after_first_shard)
    assert "A single image doesn't fit into the memory" in failure(run())
    monkeypatch.undo()
    (outcome,) = run()
    assert outcome.computed.shards < len(outcome.shards)
    assert "out_of_memory" not in set(rows([outcome])["status"])


def test_memory_that_runs_out_elsewhere_is_a_sentence_too(run, monkeypatch):
    monkeypatch.setattr("axiom_bench.run.job.cut_at_layer", Mock(side_effect=OUT_OF_MEMORY))
    sentence = "Out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.)"
    assert failure(run()).startswith(sentence)


@pytest.mark.slow
def test_values_and_keys_of_data_by_url_are_those_of_local_files(
    run, rows, results, tmp_path, memory_store
):
    path = tmp_path / "parquet/val/0.parquet"
    path.parent.mkdir(parents=True)
    contents = []
    for index in range(3):
        Scenes(size=3).read(index).image.save(tmp_path / "scene.png")
        contents.append((tmp_path / "scene.png").read_bytes())
    pq.write_table(pa.table({"image": pa.array(contents), "label": [1, 2, 3]}), path)
    MemoryFileSystem().pipe_file("/bucket/val/0.parquet", path.read_bytes())
    words = ("data=parquet", "data.size=3", "data.target=predicted")

    expected = rows(run([*words, f"data.path={path.parent}"]))
    files = {file.name for file in results.rglob("records/*.parquet")}
    (outcome,) = run([*words, "data.path=memory://bucket/val"])

    assert outcome.computed.shards == 0  # the keys are the same
    assert files == {file.name for file in results.rglob("records/*.parquet")}
    pd.testing.assert_frame_equal(rows([outcome]), expected, check_exact=True)
