"""The scripts can be imported, and their measurements run on a small network."""

import importlib
from pathlib import Path

import bench_loading
import bench_metrics
import bench_run
import bench_speed
import measuring
import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench.data.layouts.imagenet import ImageNet
from axiom_bench.run.job import Job
from axiom_bench.run.spine import configuration

FOLDER = Path(measuring.__file__).parent


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(5 * 8 * 8, 4)).eval()
    return bench_speed.Network("small", model, "2", torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_script_can_be_imported(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert name in ("measuring", "measured", "docs_hook") or hasattr(module, "main") or hasattr(module, "show")


def test_cases_are_timed_in_turn_after_a_warm_up():
    calls, ticks = [], iter(range(100))
    seconds = measuring.timed(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2, clock=lambda: float(next(ticks))
    )
    assert calls == ["a", "b"] * 3
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert measuring.ratios([2.0, 3.0], [1.0, 2.0]) == [2.0, 1.5]
    assert measuring.ratio([2.0, 3.0], [1.0, 2.0]) == 1.75


def test_all_cases_of_the_speed_table_run(network, capsys):
    seconds = measuring.timed(bench_speed.cases(network, "fp32"), repeats=1)
    bench_speed.show(network.title, seconds, batch=2)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "x one forward" in line]) == len(seconds) == 5


def test_loading_is_timed_in_turn(tmp_path, capsys):
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01 tench\n")
    (tmp_path / "val/n01").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"val/n01/{number}.jpg")
    calls = bench_loading.cases(ImageNet(tmp_path, "val", None, None, "imagenet"), range(4), 0, "cpu", tmp_path)
    bench_loading.show({name: [bench_loading.timed(call)] for name, call in calls.items()}, 4)
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()] == list(calls)
    assert len(list((tmp_path / "cache").rglob("*.image"))) == 4


def test_metrics_that_run_no_model_are_recognised():
    alone = {name: bench_metrics._is_of_maps_alone(ab.metrics.get(name)) for name in ("gini", "deletion_auc", "zeta")}
    assert alone == {"gini": True, "deletion_auc": False, "zeta": False}
    assert set(bench_metrics.LOCALIZATION) <= {
        name for name in ab.metrics.names() if bench_metrics._is_of_maps_alone(ab.metrics.get(name))
    }


def test_made_up_explanations_have_an_object_of_their_class():
    explanation = bench_metrics.maps(batch=3, side=7)()
    assert [len(boxes) for boxes in explanation.boxes] == [1, 1, 1]
    assert explanation.masks.flatten(1).any(1).all()
    assert ab.metrics.get("box_iou")(explanation).isfinite().all()


def test_bare_passes_of_a_run_take_time_by_their_counts(tmp_path):
    job = Job.of(configuration(["model=scenes_resnet", "data.size=1", "data.workers=0", f"results={tmp_path}"]))
    ticks = iter(range(10_000))
    nothing = dict.fromkeys(("trunk_forward", "trunk_backward", "head_forward", "head_backward"), 0)
    some = {**nothing, "trunk_forward": 3, "head_forward": 3}
    seconds = [bench_run.bare_seconds(job, work, 1, lambda: float(next(ticks))) for work in (nothing, some)]
    assert seconds == [0.0, 3.0 / len(job.labels[job.indices[0]])]
