"""Every step of a job keeps to its device: a stand-in for a GPU refuses what a GPU would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from axiom_bench.run import compute, correct, gallery, pictures, stored, timing, whole_set
from axiom_bench.run.facts import Facts
from axiom_bench.run.job import Job
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
        assert whole_set.ensure(facts, {"jobs": [records.as_dict()]}, tmp_path)
        assert timing.ensure(facts, cut_model, config["runtime"], tmp_path)
        assert pictures.ensure(facts, cut_model, config["pictures"], tmp_path)
        assert gallery.ensure(facts, cut_model, config["pictures"]["gallery"], tmp_path)
        correct.only_correct(job, cut_model, tmp_path)
