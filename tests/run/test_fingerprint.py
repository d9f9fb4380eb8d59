"""A record file is named by all that can change its values, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from axiom_bench.run.compute import todo
from axiom_bench.run.job import Job

MakeJob = Callable[..., Job]


def files(job: Job) -> set[str]:
    return {file for shard in todo(job) for file in shard.files.values()}


@pytest.mark.parametrize(
    ("override", "fresh"),
    [
        ("model.seed=1", 9),  # other weights
        ("model.layer=features.10", 9),
        ("model.mean=[0.4,0.5,0.5]", 9),  # preprocessing
        ("data.seed=1", 9),  # other images
        ("data.batch_size=3", 9),  # the same values but for rounding
        ("target=label", 9),
        ("normalise=minmax", 9),
        ("device.head_precision=bf16", 9),
        ("metric.confidence_drop.params.fill=zero", 6),  # both methods, but not the layer's own file
        ("metric=[sensitivity_error,confidence_drop,zeta,epsilon]", 3),  # the layer's own file alone
        ("method.xgrad_cam.note=new", 3),
        ("method=[grad_cam,xgrad_cam,uniform]", 3),  # the new one alone
        ("method=[xgrad_cam,grad_cam]", 0),
        ("data.size=4", 0),  # the first two shards are the same
        ("data.workers=1", 0),
        ("device.ablation_memory=1MiB", 0),
        ("runtime.repeats=3", 0),
        ("report.headline=[zeta]", 0),
        ("run=mine", 0),
    ],
)
def test_names(job: MakeJob, override: str, fresh: int):
    assert len(files(job(override)) - files(job())) == fresh


def test_a_shard_s_content_is_in_its_names(job: MakeJob):
    one = job()
    contents = {**one.contents, one.indices[0]: "another picture"}
    other = replace(one)
    other.__dict__["contents"] = contents
    before, after = todo(one), todo(other)
    assert set(before[0].files.values()).isdisjoint(after[0].files.values())
    assert [shard.files for shard in before[1:]] == [shard.files for shard in after[1:]]
    assert one.data_fingerprint != other.data_fingerprint


def test_another_order_of_the_classes_explains_other_classes(job: MakeJob, tmp_path: Path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (96, 96)).save(tmp_path / name)
    rest = ",".join(f"'{number}'" for number in range(2, 10))
    folder = ("data=folder", f"data.root={tmp_path}", "data.size=null", "data.workers=0", "target=label")
    one, swapped, renamed = (job(*folder, f"data.classes=[{first},{rest}]") for first in ("a,b", "b,a", "a,b"))
    assert files(one) == files(renamed)
    assert files(one).isdisjoint(files(swapped))
    assert one.data_fingerprint != swapped.data_fingerprint


def test_another_version_of_a_library_computes_afresh(job: MakeJob, monkeypatch: pytest.MonkeyPatch):
    before = files(job())
    monkeypatch.setattr("axiom_bench.run.fingerprint.versions", lambda: {"torch": "3.0"})
    assert files(job()).isdisjoint(before)


def test_changed_source_computes_afresh(job: MakeJob, monkeypatch: pytest.MonkeyPatch):
    before = files(job())
    monkeypatch.setattr("axiom_bench.records.sources.engine", lambda: "other code")
    assert files(job()).isdisjoint(before)


def test_a_network_with_the_same_weights_but_another_slope_is_another(job: MakeJob):
    one = job()
    module = torch.nn.Sequential(torch.nn.LeakyReLU(0.1))
    other = torch.nn.Sequential(torch.nn.LeakyReLU(0.2))
    leaky, steeper = (replace(one, model=replace(one.model, module=net)) for net in (module, other))
    assert files(leaky).isdisjoint(files(steeper))
