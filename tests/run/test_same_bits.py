"""The same bits by every way to run: no value depends on order, shards, workers, executors, or what
is computed beside it.
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
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.data.embedded import Scenes
from axiom_bench.evaluation import shard as evaluation
from axiom_bench.evaluation.batch import explained, frame, holds_values
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import MethodLeftOut
from axiom_bench.records.entries import JobEntry
from axiom_bench.run import choosing, images, samples, shards, whole_set
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import rows as batches_of
from axiom_bench.run.job import Job, cut_of
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration
from axiom_bench.run.verification import in_their_places
from axiom_bench.testing.other_device import OTHER, OtherDevice

from .conftest import failure, rows_of

KEY = ["image_id", "target_class", "method", "metric"]


@pytest.fixture(scope="module")
def expected(finished_run) -> pd.DataFrame:
    """The rows of a run with batches of 4, in a folder of its own: nothing comes from its files."""
    return rows_of(*finished_run())


def test_the_rows_are_those_of_the_loop(expected, job):
    """Once more by hand: cut, trace, explain, measure, without shards, files or padding."""
    tiny = job("data.batch_size=100")
    (batch,) = batches_of(tiny, tiny.indices)
    trace = cut_of(tiny.model, tiny.device).trace(batch.images, batch.targets)
    assert len(expected) == len(batch) * (2 * 2 + 1)
    sets = {name: set(expected[name]) for name in ("experiment", "layer", "method")}
    assert sets == {
        "experiment": {"quick"},
        "layer": {"features.13"},
        "method": {"-", "grad_cam", "xgrad_cam"},
    }
    method, metric = methods.get("xgrad_cam"), metrics.get("sensitivity_error")
    value, status = measure(metric, explained(trace, batch, method), True)["sensitivity_error"]
    stored = expected[
        (expected["method"] == "xgrad_cam") & (expected["metric"] == "sensitivity_error")
    ]
    by_hand = {
        "image_id": batch.image_ids,
        "target_class": batch.targets,
        "status": status,
        "value": value,
    }
    loop = pd.DataFrame(by_hand).sort_values(["image_id", "target_class"], ignore_index=True)
    for name in ("image_id", "target_class", "status"):
        assert stored[name].tolist() == loop[name].tolist()
    # batches of 4 and of 100 round apart
    np.testing.assert_allclose(stored["value"], loop["value"], rtol=1e-4)


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
    """By any executor, too: tests/run/test_executors.py."""
    outcomes = run(*overrides)
    other = rows(outcomes)
    is_common = other["method"].isin(expected["method"]) & other["metric"].isin(expected["metric"])
    pd.testing.assert_frame_equal(
        other[is_common].reset_index(drop=True), expected, check_exact=True
    )
    assert outcomes[0].computed.shards == len(outcomes[0].shards)


def test_bit_by_bit_in_another_order(job, expected):
    tiny = job()
    wanted, cut_model = (
        MethodsByMetrics(tiny.methods, tiny.metrics),
        cut_of(tiny.model, tiny.device),
    )
    parts = shard_rows(cut_model, batches_of(tiny, tiny.indices[::-1]), [wanted], tiny.batch_rows)
    table = frame([part for part in parts if holds_values(part)]).astype(
        {"method": str, "metric": str}
    )
    table, expected = (each.sort_values(KEY, ignore_index=True) for each in (table, expected))
    assert table["image_id"].tolist() == expected["image_id"].tolist()
    np.testing.assert_array_equal(table["value"], expected["value"])


@pytest.mark.slow
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="a spawned process has no fixtures",
)
def test_bit_by_bit_where_processes_share_a_run(run, rows, expected):
    """Two processes with the same command, three shards."""
    both = [multiprocessing.get_context("fork").Process(target=run) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    (outcome,) = run()
    assert (len(outcome.shards), outcome.computed.shards) == (3, 0)
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
    assert_equal_up_to_rounding(rows(run(*overrides)), expected)


@pytest.mark.slow
def test_a_budget_of_ablations_is_in_the_manifest_and_its_error_in_the_records(run, rows):
    metrics = "metric=[sensitivity_error,zeta,drops_error]"
    exact = rows(run(metrics, "model.layer=features.6")).set_index("metric")["value"]
    assert not exact[["drops_error", "estimated_drops"]].any()
    outcomes = run(metrics, "model.layer=features.6", "device.ablation_channels=8")
    estimated = rows(outcomes).set_index("metric")["value"]
    assert (
        outcomes[0].facts.precision["drops"] == "of 8 channels and a sample exact, others estimated"
    )
    assert (estimated["estimated_drops"] > 0).all()
    assert (estimated["drops_error"] > 0).all()
    assert (estimated["zeta"] < exact["zeta"]).all()  # estimated drops have no such error


def assert_equal_up_to_rounding(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(actual.drop(columns="value"), expected.drop(columns="value"))
    scale = expected.groupby("metric")["value"].transform(lambda values: np.ptp(values) or 1)
    assert (
        (actual["value"] - expected["value"]).abs() / scale
    ).max() < 1e-5  # of its range, in float32


@pytest.mark.slow
def test_no_more_rows_are_computed_than_the_largest_shard_has(run, job, monkeypatch):
    """However large data.batch_size is: each padded row costs as much as an image."""
    trace, traced, large = CutModel.trace, [], job("data.batch_size=64")
    monkeypatch.setattr(
        CutModel, "trace", lambda *args, **more: traced.append(len(args[1])) or trace(*args, **more)
    )
    (outcome,) = run("data.batch_size=64")
    assert outcome.failure is None
    assert max(traced) == large.batch_rows == max(map(large.rows, large.shards)) < 10
    assert job("data.batch_size=1").batch_rows == 1


def test_images_drawn_for_verify_keep_their_places_in_the_batch(job):
    of_run = job("data.size=11", "data.batch_size=4", "shard_size=6", "target=label")
    batches = [batch for shard in of_run.shards for batch in batches_of(of_run, shard)]
    places = {
        name: (place, batch) for batch in batches for place, name in enumerate(batch.image_ids)
    }
    sample = [10, 2, 7, 3, 0]  # in places 0, 2, 1, 3 and 0
    drawn = list(in_their_places(of_run, sample, ()))
    found = [
        (name, place, batch)
        for batch in drawn
        for place, name in enumerate(batch.image_ids)
        if name
    ]
    assert sorted(name for name, *_ in found) == sorted(of_run.data.ids[index] for index in sample)
    for name, place, batch in found:
        assert place == places[name][0]
        assert torch.equal(batch.images[place], places[name][1].images[place])
    assert len(drawn) == 2


SETTINGS = (
    *("data=scenes_many", "data.size=2", "data.workers=0", "data.batch_size=2"),
    "method=[ablation_cam_axiomatic,grad_cam,guided_xgrad_cam]",
    "metric=[box_iou,class_discriminability,confidence_drop,max_box_acc,object_effects,sensitivity_error,zeta]",
    *("runtime.repeats=1", "pictures.rows=1", "pictures.gallery=2"),
)
MOST_WAITS = 9  # 283 for four images before they were counted


@pytest.mark.slow
def test_all_steps_of_a_job(tmp_path):
    job = Job.of(Settings.of(configuration([*SETTINGS, f"results={tmp_path}"])))
    with OtherDevice() as device:
        other = replace(job.device, device=OTHER)
        job = replace(job, device=other, cut_model=cut_of(job.model, other))
        assert all(map(device.holds, job.cut_model.model.parameters()))
        keys = Keys(shards.decided(job))
        folder = job.settings.run_folder
        shards.announced(keys, shards.missing(keys, folder)[0], folder)
        ((key, shard),) = shards.missing(keys, folder)[0].items()
        assert shards.compute_shard(keys, key, shard, folder, int).images == len(job.indices)
        stored = JobEntry(
            job=job.name, records=shards.stored(keys, folder)[0]["records"], values=keys.values
        )
        assert whole_set.ensure_whole_set(keys, stored)
        steps = samples.ensure_runtime, samples.ensure_pictures, samples.ensure_gallery
        assert all(make(keys, stored) for make in steps)
        choosing.only_correct(job, folder)


@pytest.mark.parametrize(
    "model", ["scenes_vgg", pytest.param("scenes_resnet", marks=pytest.mark.slow)]
)
def test_a_batch_waits_for_the_device_a_few_times(model, monkeypatch):
    """However many images it has, with the default methods and metrics. Each wait lets a GPU run
    empty.
    """
    # the stand-in for a GPU is a processor
    monkeypatch.setattr(batched, "OF_PROCESSOR", batched.OF_GPU)
    job = Job.of(Settings.of(configuration([f"model={model}", "data.workers=0", "data.size=2"])))
    with OtherDevice() as device, warnings.catch_warnings():
        warnings.simplefilter("ignore", MethodLeftOut)
        other = replace(job.device, device=OTHER)
        job = shards.decided(replace(job, device=other, cut_model=cut_of(job.model, other)))
        batch = images.first_batch(job, job.indices, 2, ())
        assert batch is not None
        request = [MethodsByMetrics(job.methods, job.metrics)]
        # what is known of the model is found once
        list(evaluation.shard_rows(job.cut_model, [batch[:1]], request, 1))
        waits = []
        for part in (batch[:1], batch):
            device.waits.clear()
            list(evaluation.shard_rows(job.cut_model, [part], request, len(part)))
            waits.append(device.waits.copy())
    assert waits[0] == waits[1]
    assert waits[0].total() <= MOST_WAITS, waits[0]


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch) -> None:
    """Collecting the garbage of a test session takes half a second."""
    monkeypatch.setattr(passes, "free", lambda: None)


@pytest.mark.slow
def test_batches_are_halved(run, rows, expected, monkeypatch, capsys):
    trace = CutModel.trace

    def limited(
        cut_model: CutModel, images: torch.Tensor, *others: object, **more: object
    ) -> Trace:
        if len(images) > 2:
            raise OUT_OF_MEMORY
        return trace(cut_model, images, *others, **more)

    monkeypatch.setattr(CutModel, "trace", limited)
    (outcome,) = run()
    sentence = "out of memory with 4 rows in a batch: going on with 2"
    assert sentence in capsys.readouterr().out
    assert [note for note in outcome.lines if note.startswith(sentence)]
    assert_equal_up_to_rounding(rows([outcome]), expected)


def test_what_a_batch_gave_before_it_failed_isnt_counted_twice(run, rows, expected, monkeypatch):
    """The second method's explanation fails, when the layer's values and the first method's are
    there already.
    """
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


@pytest.mark.slow
def test_an_image_that_doesnt_fit_stops_the_run_with_a_sentence(run, rows, monkeypatch):
    """No row says "out of memory": it would stand there still on a machine with more."""
    trace, calls = CutModel.trace, count(1)

    def limited(*args: object, **more: object) -> Trace:
        if next(calls) > 5:  # the costs' and the first shard's
            raise OUT_OF_MEMORY
        return trace(*args, **more)

    monkeypatch.setattr(CutModel, "trace", limited)
    assert "One image alone doesn't fit into the memory" in failure(run())
    monkeypatch.undo()
    (outcome,) = run()
    assert outcome.computed.shards < len(outcome.shards)
    assert "out_of_memory" not in set(rows([outcome])["status"])


def test_memory_that_runs_out_elsewhere_is_a_sentence_too(run, monkeypatch):
    monkeypatch.setattr("axiom_bench.run.job.cut_of", Mock(side_effect=OUT_OF_MEMORY))
    assert failure(run()).startswith(
        "Out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.)"
    )


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
    expected = rows(
        run("data=parquet", "data.size=3", f"data.path={path.parent}", "data.target=predicted")
    )
    files = {file.name for file in results.rglob("records/*.parquet")}
    outcomes = run(
        "data=parquet", "data.size=3", "data.path=memory://bucket/val", "data.target=predicted"
    )
    assert outcomes[0].computed.shards == 0  # the keys are the same
    assert files == {file.name for file in results.rglob("records/*.parquet")}
    pd.testing.assert_frame_equal(rows(outcomes), expected, check_exact=True)
