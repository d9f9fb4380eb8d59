"""Tests that a value's key depends on everything that can change the value, and on nothing more."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from axiom_bench.evaluation import plugins
from axiom_bench.records import sources
from axiom_bench.records.sources import version_of
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys, method_key
from axiom_bench.run.spine import configuration

from .conftest import tiny_overrides, write_images


def keys(job: Job) -> set[tuple[str, str, str, str]]:
    """Return (shard, method, metric, key) of all values of a job."""
    job_keys = Keys(job)
    rows = set()
    for shard in job.shards:
        shard_key = job_keys.shard(shard)
        for method, metrics in job_keys.values.items():
            rows |= {(shard_key, method, metric, key) for metric, key in metrics.items()}
    return rows


@cache
def plain_job(overrides: tuple[str, ...] = ()) -> Job:
    """Return a tiny job that all tests share."""
    return Job.of(Settings.of(configuration(tiny_overrides(overrides))))


@cache
def plain_keys(overrides: tuple[str, ...] = ()) -> set[tuple[str, str, str, str]]:
    """Return the keys of a tiny job, computed once for all tests that compare others with them."""
    return keys(plain_job(overrides))


def age_library(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Pretend that version 99 of a library is installed."""

    def changed_version(name: str) -> str:
        return "99" if name == library else version_of(name)

    monkeypatch.setattr(sources, "version_of", changed_version)


def change_code_of(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that a module has other code."""
    parsed = sources._parsed

    def change_code(path: Path, content: bytes, name: str) -> tuple[str, tuple[str, ...]]:
        digest, imports = parsed(path, content, name)
        return (digest + "!" if name == module else digest), imports

    monkeypatch.setattr(sources, "_parsed", change_code)


ALL = 3 * (2 * 2 + 1)  # 3 shards of 2 methods x 2 metrics and a metric of the layer


@pytest.mark.parametrize(
    ("override", "num_changed"),
    [
        ("model.seed=1", ALL),  # other weights
        ("model.layer=features.10", ALL),
        ("model.mean=[0.4,0.5,0.5]", ALL),  # preprocessing
        ("data.seed=1", ALL),  # other images
        ("data.batch_size=3", ALL),  # the same values except for rounding
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
        ("data.batch_size=1000000", 0),  # a batch has at most the rows of the largest shard
        ("data.workers=1", 0),
        ("device.ablation_memory=1MiB", 0),
        ("runtime.repeats=3", 0),
        ("report.headline=[zeta]", 0),
        ("run=mine", 0),
    ],
)
def test_what_counts(job, override, num_changed):
    name = override.partition("=")[0].removeprefix("+")
    plain = plain_keys(("data.batch_size=64",)) if name == "data.batch_size" else plain_keys()
    if name.startswith(("method.", "metric.")):
        override = "++" + override.removeprefix("+")
    assert len(keys(job([override])) - plain) == num_changed


@pytest.mark.slow
def test_a_shards_content_is_in_its_key():
    original = plain_job()
    contents = {**original.contents, original.indices[0]: "another picture"}
    other = replace(original)
    other.__dict__["contents"] = contents
    original_keys = [Keys(original).shard(shard) for shard in original.shards]
    other_keys = [Keys(other).shard(shard) for shard in other.shards]
    assert original_keys[0] != other_keys[0]
    assert original_keys[1:] == other_keys[1:]
    assert original.data_fingerprint != other.data_fingerprint


@pytest.mark.slow
def test_the_content_of_files_that_a_method_reads_counts(run, rows, tmp_path, unreported):
    """Check that only a changed map is measured again.

    A file that is written again with the same content changes nothing.
    """
    folder = tmp_path / "maps"
    settings = (
        "method=[grad_cam,from_maps]",
        f"method.from_maps.params.path={folder}",
        "metric=[gini]",
    )
    (refused,) = run(settings)
    sentence = f"There is no file or folder {folder}; set method.from_maps.params.path=PATH."
    assert sentence in refused.failure.message
    folder.mkdir()

    def run_with_map(number: int, heatmap: np.ndarray) -> tuple[pd.DataFrame, int]:
        """Save the map of an image; return the values of `from_maps` and the record files."""
        np.save(folder / f"evaluation-0-00000{number}.npy", heatmap)
        table = rows(run(settings)).set_index(["method", "image_id", "target_class"])
        num_files = len(list(tmp_path.rglob("records/*.parquet")))
        return table.loc["from_maps"], num_files

    image = "evaluation-0-000001"
    first, first_files = run_with_map(1, np.eye(7))
    assert set(first.loc[image, "status"]) == {"ok"}
    assert set(first.drop(index=image)["status"]) == {"no_map"}

    repeated, num_files = run_with_map(1, np.eye(7))
    assert num_files == first_files
    assert repeated.equals(first)

    changed, num_files = run_with_map(1, np.arange(49.0).reshape(7, 7))
    assert num_files == 2 * first_files
    assert (changed.loc[image, "value"] != first.loc[image, "value"]).all()

    added, _ = run_with_map(2, np.eye(7))
    assert set(added.loc["evaluation-0-000002", "status"]) == {"ok"}


@pytest.mark.slow
def test_another_order_of_the_classes_explains_other_classes(job, tmp_path):
    folder = write_images(tmp_path, "a/1.png", "b/2.png")
    other_classes = ",".join(f"'{number}'" for number in range(2, 10))

    def job_with(first_classes: str) -> Job:
        return job([*folder, "target=label", f"data.classes=[{first_classes},{other_classes}]"])

    original = job_with("a,b")
    same = job_with("a,b")
    swapped = job_with("b,a")
    assert keys(original) == keys(same)
    assert keys(original).isdisjoint(keys(swapped))
    assert original.data_fingerprint != swapped.data_fingerprint


EVERY = {"sensitivity_error", "box_iou", "zeta"}
EVERY_METRIC = f"metric=[{','.join(EVERY)}]"


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
    before = plain_keys((EVERY_METRIC,))
    age_library(monkeypatch, library)
    changed = keys(plain_job((EVERY_METRIC,))) - before
    assert {metric for _, _, metric, _ in changed} == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("axiom_bench.cutting.trace", EVERY),
        ("axiom_bench.evaluation.shard", EVERY),
        ("axiom_bench.data.embedded", EVERY),
        ("axiom_bench.embedded.networks", EVERY),
        ("axiom_bench.metrics.box_iou", {"box_iou"}),
        ("axiom_bench.metrics.sensitivity_error", {"sensitivity_error"}),
        ("axiom_bench.methods.xgrad_cam", {"xgrad_cam"}),
        ("axiom_bench.data.layouts.coco", set()),  # other images
        ("axiom_bench.evaluation.runtime", set()),  # times, not values
        ("axiom_bench.run.shards", set()),
        ("axiom_bench.records.store", set()),
        ("axiom_bench.methods.cam", set()),  # the run doesn't use it
    ],
)
def test_changed_code_computes_anew_what_runs_it(monkeypatch, module, expected):
    before = plain_keys((EVERY_METRIC,))
    change_code_of(module, monkeypatch)
    changed = keys(plain_job((EVERY_METRIC,))) - before
    changed_methods = {method for _, method, _, _ in changed}
    changed_metrics = {metric for _, _, metric, _ in changed}
    assert (changed_methods if "methods" in module else changed_metrics) == expected


USER_CAM = """
def cam(model, layer, images, targets):
    return images.mean(1)

def of_trace(trace):
    return trace.gradients
"""


@pytest.mark.parametrize(
    ("name", "module", "is_changed"),
    [
        ("cam", "axiom_bench.evaluation.cam_method", True),
        ("cam", "axiom_bench.evaluation.returned_maps", True),
        ("cam", "axiom_bench.isolation.sandbox", True),
        ("cam", "axiom_bench.models.user_code", True),
        ("cam", "axiom_bench.methods.grad_cam", False),
        ("of_trace", "axiom_bench.evaluation.cam_method", False),
    ],
)
def test_the_code_that_calls_a_users_cam_is_in_its_key(
    monkeypatch, tmp_path, name, module, is_changed
):
    """Values with `reuse: true` must follow this code, as those of each method do."""
    path = tmp_path / "team_key.py"
    path.write_text(USER_CAM)
    entry = {"_target_": f"{path}:{name}", "reuse": True}
    method = plugins.from_config("method", "team", entry)
    before = method_key(method, sources.Sources())
    change_code_of(module, monkeypatch)
    assert (method_key(method, sources.Sources()) != before) is is_changed


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
    """A function that returns a job of a user's own network.

    The network's text and weights are the same for all its arguments.
    """

    def build(
        overrides: Sequence[str] = (), file: str = "mine.py", function: str = "network"
    ) -> Job:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(NETWORK)
        settings = [
            "model=user",
            f"model.architecture={path}:{function}",
            "model.name=mine",
            "model.weights=null",
            "model.layer='1'",
            "model.resize=96",
            "target=predicted",
            *overrides,
        ]
        return job(settings)

    return build


@pytest.mark.slow
def test_a_networks_builder_and_its_arguments_count(network):
    original = keys(network(["+model.kwargs.power=1.0"]))
    same = keys(network(["+model.kwargs.power=1.0"]))
    other = keys(network(["+model.kwargs.power=2.0"]))
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
    other_text = NETWORK.replace("scores * self.power", "scores + self.power")
    (tmp_path / "c/mine.py").write_text(other_text)
    assert keys(original).isdisjoint(keys(network(file="c/mine.py")))
    module = sys.modules[type(original.model.module[-1]).__module__]
    assert module.__file__ == str(tmp_path / "a/mine.py")


@pytest.mark.slow
def test_whether_a_torchvision_network_transforms_its_input_counts(job):
    googlenet = (
        "model=googlenet",
        "model.weights=null",
        "target=predicted",
        "data.size=1",
        "model.resize=[96,96]",
        "model.crop=96",
    )
    transformed = keys(job([*googlenet, "+model.kwargs.transform_input=true"]))
    untransformed = keys(job([*googlenet, "+model.kwargs.transform_input=false"]))
    assert transformed.isdisjoint(untransformed)


@pytest.mark.slow
def test_another_version_of_timm_computes_its_networks_anew(job, monkeypatch):
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    settings = [
        "model=timm",
        "model.architecture=mobilenetv3_small_050",
        "model.weights=null",
        "model.crop=64",
        "target=predicted",
        "data.size=1",
    ]
    timm_job = job(settings)
    other_job = plain_job()
    timm_keys = keys(timm_job)
    other_keys = keys(other_job)

    age_library(monkeypatch, "timm")

    assert keys(timm_job).isdisjoint(timm_keys)
    assert keys(other_job) == other_keys


def test_a_network_with_the_same_weights_but_another_slope_is_another():
    original = plain_job()

    def job_with_slope(slope: float) -> Job:
        module = torch.nn.Sequential(torch.nn.LeakyReLU(slope))
        return replace(original, model=replace(original.model, module=module))

    assert keys(job_with_slope(0.1)).isdisjoint(keys(job_with_slope(0.2)))
