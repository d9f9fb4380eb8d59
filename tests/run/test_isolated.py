"""A user's method in a process of its own: the same bits, nothing to look at but what a method may know, its errors."""

import re
import subprocess
import sys

import numpy as np
import pytest

from axiom_bench import methods
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import MethodsByMetrics, frame, holds_values, shard_rows
from axiom_bench.evaluation.plugins import required
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.images import rows
from axiom_bench.run.worker import loaded, on_its_images

from .conftest import TINY, failure, module_of

AS_OWN = {  # methods of every kind, and cheaper parameters
    **{"score_cam_top": {"top": 3}, "smoothed_xgrad_cam": {"samples": 2}, "guided_grad_cam": {}},
    **{"integrated_gradients": {"steps": 3}, "saliency": {}, "xgrad_cam": {}},
}
OTHER_TRACES = (
    "metric=[sensitivity_error,explanation_sensitivity_captum,random_logit,model_parameter_randomisation_three_stages]"
)
CHEATS = """\
import gc
import inspect
import os

from axiom_bench.data.batch import Batch


def unless(is_seen, trace):
    return trace.gradients * (float("nan") if is_seen else 1.0)


def frames(trace):
    frame, values = inspect.currentframe(), []
    while frame := frame.f_back:
        values += frame.f_locals.values()
    return unless(any(isinstance(value, Batch) for value in values), trace)


def collector(trace):
    return unless(any(isinstance(value, Batch) for value in gc.get_objects()), trace)


def redraw(trace):
    return unless(trace.image_ids is not None, trace)


def detector(trace):
    return unless(trace.first_images is None, trace)


def truth(trace):
    return trace.true_contributions


def zero(trace):
    return 1 / 0


def exits(trace):
    os._exit(3)
"""


@pytest.fixture
def values(tmp_path, monkeypatch):
    """(method's entries, isolate, overrides) -> (their values, counted passes); a module of cheats can be imported."""
    module_of(tmp_path, "cheats", CHEATS, monkeypatch)

    def computed(entries, isolate, *overrides):
        with composed([*TINY, "target=label", "data.batch_size=2", *overrides]) as composition:
            config = composition.plain_job() | {"method": entries}
        job = on_its_images(loaded({**config, "results": str(tmp_path)}, isolate))
        batches = rows(job, job.indices, required((*job.methods, *job.metrics)))
        parts = shard_rows(job.cut_model, batches, [MethodsByMetrics(job.methods, job.metrics)], job.batch_rows)
        return frame(filter(holds_values, parts)), job.cut_model.passes

    return computed


def cheat(name):
    return {"own": {"_target_": f"cheats.{name}"}}


@pytest.mark.slow
def test_the_bits_are_those_of_this_process(values, tmp_path, monkeypatch):
    """Of controls, Score-CAM, smoothed, guided and whole-network methods, as a user's own; on other traces, too."""
    controls = [name for name in methods.names() if methods.get(name).spec.control]
    entries = {name: read_yaml(conf_folder() / f"method/{name}.yaml")[name] for name in (*controls, *AS_OWN)}
    text = ""
    for name, entry in entries.items():
        module, _, function = entry["_target_"].rpartition(".")
        text += f"from {module} import {function}\n"
        entry |= {"_target_": f"mine.{function}", "params": entry["params"] | AS_OWN.get(name, {})}
    wrapper = {
        "_target_": "axiom_bench.methods.smoothed.smoothed",
        "params": {"wrapped": "mine.saliency", "samples": 1},
    }
    entries["wrapper"] = wrapper  # of ours, which runs a user's method
    module_of(tmp_path, "mine", text, monkeypatch)
    (here, passes), (there, counted) = (values(entries, each, OTHER_TRACES, "data.size=3") for each in (False, True))
    assert {*here["method"].unique()} == {*entries}
    assert passes == counted
    for name in ("method", "metric", "image_id", "status", "value"):
        np.testing.assert_array_equal(here[name].to_numpy(), there[name].to_numpy(), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frames", "collector", "redraw", "detector"])
def test_what_a_cheat_looks_for_is_not_there(values, name):
    for isolate, status in ((False, "not_finite"), (True, "ok")):
        found, _ = values(cheat(name), isolate, "metric=[box_iou]", "data.size=2")
        assert found["status"].unique().tolist() == [status]


@pytest.mark.slow
def test_a_planted_network_tells_no_truth(values):
    words = "model=planted_or", "data=planted", "data.size=2", "metric=[box_iou]"
    assert values(cheat("truth"), False, *words)[0]["status"].unique().tolist() == ["ok"]
    with pytest.raises(BenchError, match="'own' returned None; a method returns real"):
        values(cheat("truth"), True, *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zero", r"^ZeroDivisionError: division by zero, raised by 'own' \(cheats.zero\) at .*cheats.py:\d+$"),
        ("exits", "^RuntimeError: its process ended, with exit code 3, raised by 'own'$"),
    ],
)
def test_an_error_of_the_method_is_told_with_its_line(values, tmp_path, tiny_suite, name, message):
    """By a run of a suite, whose methods are isolated."""
    words = f"+method.own._target_=cheats.{name}", f"results={tmp_path}", "pictures.rows=0", "pictures.gallery=0"
    outcomes = run_jobs(["suite=tiny/second", "method=[]", "runtime.repeats=0", *words])[1]
    assert re.search(message, failure(outcomes))


SCRIPT = """\
from axiom_bench.run.isolated import chosen_methods
from axiom_bench.run.spine import configuration

(method,) = chosen_methods(configuration(["method=[]", "+method.mine._target_=mine.my_cam"]))
print(method.description)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_once(tmp_path):
    """As one that calls `axiom_bench.rank`."""
    (tmp_path / "mine.py").write_text('def my_cam(trace):\n    "Mine."\n    return trace.gradients\n')
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout == "Mine.\n", run.stderr
