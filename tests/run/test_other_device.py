"""Every step of a job keeps to its device: a stand-in for a GPU refuses what a GPU would."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from axiom_bench.evaluation import shard
from axiom_bench.evaluation.batch import MethodLeftOut
from axiom_bench.evaluation.shard import MethodsByMetrics
from axiom_bench.run.computing import compute, gallery, pictures, run_times, stored, whole_set
from axiom_bench.run.jobs import predictions
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.stages import Step
from axiom_bench.run.sweep import configuration
from axiom_bench.testing.other_device import OTHER, OtherDevice

SETTINGS = (
    "data=scenes_many",
    "data.size=3",
    "data.workers=0",
    "data.batch_size=2",
    "method=[ablation_cam_axiomatic,grad_cam,guided_xgrad_cam]",
    "metric=[box_iou,class_discriminability,confidence_drop,max_box_acc,object_effects,sensitivity_error,zeta]",
    "runtime.repeats=1",
    "pictures.rows=1",
    "pictures.gallery=2",
)
MOST_WAITS = 9  # 283 for four images before they were counted


def test_all_steps_of_a_job(tmp_path: Path) -> None:
    config = configuration([*SETTINGS, f"results={tmp_path}"])
    job = Job.of(config)
    with OtherDevice() as device:
        job = replace(job, device=replace(job.device, device=OTHER))
        cut_model = compute.cut_of(job)
        assert all(map(device.holds, cut_model.model.parameters()))
        facts = Facts(compute.decided(job, cut_model))
        computed, records = stored.ensure(facts, cut_model, tmp_path)
        assert computed.shards == len(job.shards) == 1
        step = Step(facts, cut_model, config, tmp_path, records.as_dict())
        assert all(module.ensure(step) for module in (whole_set, run_times, pictures, gallery))
        predictions.only_correct(job, cut_model, tmp_path)


@pytest.mark.parametrize("model", ["scenes_vgg", pytest.param("scenes_resnet", marks=pytest.mark.slow)])
def test_a_batch_waits_for_the_device_a_few_times(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images it has, with the default methods and metrics. Each wait lets a GPU run empty."""
    monkeypatch.setattr(shard, "thread_count", lambda device: 1)
    job = Job.of(configuration([f"model={model}", "data.workers=0", "data.size=2"]))
    with OtherDevice() as device, warnings.catch_warnings():
        warnings.simplefilter("ignore", MethodLeftOut)
        job = replace(job, device=replace(job.device, device=OTHER))
        cut_model = compute.cut_of(job)
        job = compute.decided(job, cut_model)
        batch = compute.first_batch(job, job.indices, 2, ())
        assert batch is not None
        request = [MethodsByMetrics(job.methods, job.metrics)]
        list(shard.shard_rows(cut_model, [batch[:1]], request, 1))  # what is known of the model is found once
        waits = []
        for images in (batch[:1], batch):
            device.waits.clear()
            list(shard.shard_rows(cut_model, [images], request, len(images)))
            waits.append(device.waits.copy())
    assert waits[0] == waits[1]
    assert waits[0].total() <= MOST_WAITS, waits[0]
