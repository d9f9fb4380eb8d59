"""A value's key follows all that can change the value, and nothing else."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from axiom_bench.records import sources
from axiom_bench.records.sources import version_of
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration

from .conftest import pictures, tiny


def keys(job: Job) -> set[tuple[str, str, str, str]]:
    """(shard, method, metric, key) of all values of a job."""
    facts = Keys(job)
    return {
        (facts.shard(shard), method, metric, key)
        for shard in job.shards
        for method, metrics in facts.values.items()
        for metric, key in metrics.items()
    }


@cache
def plain_job(*overrides: str) -> Job:
    """A tiny job, made once for all tests."""
    return Job.of(Settings.of(configuration(tiny(overrides))))


@cache
def plain_keys(*overrides: str) -> set[tuple[str, str, str, str]]:
    """Of a tiny job, computed once for all that is compared with it."""
    return keys(plain_job(*overrides))


ALL = 3 * (2 * 2 + 1)  # shards x (methods x metrics, and the layer's own)


@pytest.mark.parametrize(
    ("override", "fresh"),
    [
        ("model.seed=1", ALL),  # other weights
        ("model.layer=features.10", ALL),
        ("model.mean=[0.4,0.5,0.5]", ALL),  # preprocessing
        ("data.seed=1", ALL),  # other images
        ("data.batch_size=3", ALL),  # the same values but for rounding
        ("target=label", ALL),
        ("normalise=minmax", ALL),
        ("device.head_precision=bf16", ALL),
        ("device.ablation_channels=8", ALL),
        ("metric.confidence_drop.params.fill=zero", 3 * 2),
        ("metric=[sensitivity_error,confidence_drop,zeta,epsilon]", 3),
        ("metric=[sensitivity_error,confidence_drop,zeta,box_iou]", 3 * 2),
        ("method=[grad_cam,xgrad_cam,uniform]", 3 * 2),
        ("+method.other._target_=axiom_bench.methods.grad_cam.grad_cam", 3 * 2),
        ("+method.grad_cam.on_score_scale=false", 3 * 2),
        ("method=[xgrad_cam,grad_cam]", 0),
        ("+metric.zeta.title=New", 0),
        ("+metric.zeta.note=new", 0),
        ("metric.zeta.tolerance=mean:5%", 0),
        ("metric.zeta.unit=score", 0),
        ("+method.xgrad_cam.note=new", 0),
        ("data.size=4", 0),  # the first two shards are the same
        ("data.batch_size=1000000", 0),  # as many rows as the largest shard has, at most
        ("data.workers=1", 0),
        ("device.ablation_memory=1MiB", 0),
        ("runtime.repeats=3", 0),
        ("report.headline=[zeta]", 0),
        ("run=mine", 0),
    ],
)
def test_what_counts(job, override, fresh):
    name = override.partition("=")[0].removeprefix("+")
    plain = plain_keys("data.batch_size=64") if name == "data.batch_size" else plain_keys()
    sign = "++" if name.startswith(("method.", "metric.")) else ""
    changed = job(sign + override.removeprefix("+") if sign else override)
    assert len(keys(changed) - plain) == fresh


def test_a_shards_content_is_in_its_key():
    original = plain_job()
    contents = {**original.contents, original.indices[0]: "another picture"}
    other = replace(original)
    other.__dict__["contents"] = contents
    before, after = ([Keys(job).shard(shard) for shard in job.shards] for job in (original, other))
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    assert original.data_fingerprint != other.data_fingerprint


@pytest.mark.slow
def test_the_content_of_files_that_a_method_reads_counts(run, rows, tmp_path, unreported):
    """A changed map is measured anew, and nothing else is; a file that is written again as it was
    changes nothing.
    """
    folder = tmp_path / "maps"
    settings = (
        "method=[grad_cam,from_maps]",
        f"method.from_maps.params.path={folder}",
        "metric=[gini]",
    )
    (refused,) = run(*settings)
    assert (
        f"There is no file or folder {folder}; set method.from_maps.params.path=PATH."
        in refused.failure.message
    )
    folder.mkdir()

    def values(number: int, array: np.ndarray) -> tuple[pd.DataFrame, int]:
        np.save(folder / f"evaluation-0-00000{number}.npy", array)
        table = rows(run(*settings)).set_index(["method", "image_id", "target_class"])
        return table.loc["from_maps"], len(list(tmp_path.rglob("records/*.parquet")))

    first, files = values(1, np.eye(7))
    assert set(first.loc["evaluation-0-000001", "status"]) == {"ok"}
    assert set(first.drop(index="evaluation-0-000001")["status"]) == {"no_map"}
    again, as_many = values(1, np.eye(7))
    assert as_many == files
    assert again.equals(first)
    changed, more = values(1, np.arange(49.0).reshape(7, 7))
    assert more == 2 * files
    assert (
        changed.loc["evaluation-0-000001", "value"] != first.loc["evaluation-0-000001", "value"]
    ).all()
    assert set(values(2, np.eye(7))[0].loc["evaluation-0-000002", "status"]) == {"ok"}


@pytest.mark.slow
def test_another_order_of_the_classes_explains_other_classes(job, tmp_path):
    folder, rest = (
        pictures(tmp_path, "a/1.png", "b/2.png"),
        ",".join(f"'{number}'" for number in range(2, 10)),
    )
    original, swapped, renamed = (
        job(*folder, "target=label", f"data.classes=[{first},{rest}]")
        for first in ("a,b", "b,a", "a,b")
    )
    assert keys(original) == keys(renamed)
    assert keys(original).isdisjoint(keys(swapped))
    assert original.data_fingerprint != swapped.data_fingerprint


EVERY = {"sensitivity_error", "box_iou", "zeta"}
OF_EVERY = f"metric=[{','.join(EVERY)}]"


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("torch", EVERY),
        ("pillow", EVERY),
        ("torchvision", set()),
        ("scipy", EVERY),
        ("numba", {"box_iou"}),
    ],
)
def test_another_version_of_a_library_computes_anew_what_runs_it(monkeypatch, library, expected):
    before = plain_keys(OF_EVERY)
    monkeypatch.setattr(
        sources, "version_of", lambda name: "99" if name == library else version_of(name)
    )
    assert {metric for _, _, metric, _ in keys(plain_job(OF_EVERY)) - before} == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        *(("axiom_bench.cutting.trace", EVERY), ("axiom_bench.evaluation.shard", EVERY)),
        *(("axiom_bench.data.embedded", EVERY), ("axiom_bench.embedded.networks", EVERY)),
        ("axiom_bench.metrics.box_iou", {"box_iou"}),
        ("axiom_bench.metrics.sensitivity_error", {"sensitivity_error"}),
        ("axiom_bench.methods.xgrad_cam", {"xgrad_cam"}),
        ("axiom_bench.data.layouts.coco", set()),  # other images
        ("axiom_bench.evaluation.runtime", set()),  # times, not values
        *(("axiom_bench.run.shards", set()), ("axiom_bench.records.store", set())),
        ("axiom_bench.methods.cam", set()),  # isn't run
    ],
)
def test_changed_code_computes_anew_what_runs_it(monkeypatch, module, expected):
    before, parsed = plain_keys(OF_EVERY), sources._parsed

    def other(path: Path, state: tuple[int, int], name: str) -> tuple[str, tuple[str, ...]]:
        digest, imports = parsed(path, state, name)
        return (digest + "!" if name == module else digest), imports

    monkeypatch.setattr(sources, "_parsed", other)
    changed = keys(plain_job(OF_EVERY)) - before
    assert {
        method if "methods" in module else metric for _, method, metric, _ in changed
    } == expected


NETWORK = """
from torch import nn

class Power(nn.Module):
    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, scores):
        return scores * self.power

def network(power=1.0):
    body = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    return nn.Sequential(*body, Power(power))

def other(power=1.0):
    return network(2 * power)
"""


@pytest.fixture
def network(job, tmp_path) -> Callable[..., Job]:
    """A job of a network of the user's own, which prints alike and has the same weights whatever
    its arguments.
    """

    def build(*overrides: str, file: str = "mine.py", function: str = "network") -> Job:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(NETWORK)
        user = (
            "model=user",
            f"model.architecture={path}:{function}",
            "model.name=mine",
            "model.weights=null",
        )
        return job(*user, "model.layer='1'", "model.resize=96", "target=predicted", *overrides)

    return build


@pytest.mark.slow
def test_a_networks_builder_and_its_arguments_count(network):
    original, same, other = (
        keys(network(f"+model.kwargs.power={power}")) for power in (1.0, 1.0, 2.0)
    )
    assert original == same
    assert original.isdisjoint(other)
    assert keys(network()).isdisjoint(keys(network(function="other")))


@pytest.mark.slow
def test_where_a_networks_file_lies_doesnt_count_and_two_of_one_stem_are_two_networks(
    network, tmp_path
):
    original = network(file="a/mine.py")
    assert keys(original) == keys(network(file="b/mine.py"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c/mine.py").write_text(
        NETWORK.replace("scores * self.power", "scores + self.power")
    )
    assert keys(original).isdisjoint(keys(network(file="c/mine.py")))
    assert sys.modules[type(original.model.module[-1]).__module__].__file__ == str(
        tmp_path / "a/mine.py"
    )


@pytest.mark.slow
def test_whether_a_torchvision_network_transforms_its_input_counts(job):
    net = (
        "model=googlenet",
        "model.weights=null",
        "target=predicted",
        "data.size=1",
        "model.resize=[96,96]",
        "model.crop=96",
    )
    with_and_without = (
        keys(job(*net, f"+model.kwargs.transform_input={value}")) for value in ("true", "false")
    )
    assert set.isdisjoint(*with_and_without)


def test_another_version_of_timm_computes_its_networks_anew(job, monkeypatch):
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    net = (
        "model=timm",
        "model.architecture=mobilenetv3_small_050",
        "model.weights=null",
        "model.crop=64",
    )
    timms, ours = job(*net, "target=predicted", "data.size=1"), plain_job()
    before = {one.model.name: keys(one) for one in (timms, ours)}
    monkeypatch.setattr(
        sources, "version_of", lambda name: "99" if name == "timm" else version_of(name)
    )
    assert keys(timms).isdisjoint(before[timms.model.name])
    assert keys(ours) == before[ours.model.name]


def test_a_network_with_the_same_weights_but_another_slope_is_another():
    original = plain_job()
    module = torch.nn.Sequential(torch.nn.LeakyReLU(0.1))
    other = torch.nn.Sequential(torch.nn.LeakyReLU(0.2))
    leaky, steeper = (
        replace(original, model=replace(original.model, module=net)) for net in (module, other)
    )
    assert keys(leaky).isdisjoint(keys(steeper))
