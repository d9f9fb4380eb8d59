"""A CAM that takes a model as a method: by its path or as a function, in `ab.explain`,
`ab.evaluate`, the gate's plug-in and a run, with the note about hooks that it leaves.
"""

import random

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cli import pytest_plugin, rank
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import method_answer
from axiom_bench.notes import Notes
from axiom_bench.testing import CASES, check_method

MODULE = '''
"""A team's CAMs."""

import torch


def grad_cam(model, layer, images, targets, scale=1.0):
    """Grad-CAM at the layer's size."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    logits = model(images)
    handle.remove()
    (gradients,) = torch.autograd.grad(logits[range(len(images)), targets].sum(), outputs[0])
    maps = (gradients.mean((2, 3), keepdim=True) * outputs[0]).sum(1)
    return scale * maps.detach().cpu().numpy()


def leaky(model, layer, images, targets):
    layer.register_forward_hook(lambda *_: None)
    layer.register_forward_pre_hook(lambda *_: None)
    return grad_cam(model, layer, images, targets)


def of_unnamed(first, second, third, fourth):
    return grad_cam(first, second, third, fourth)


def of_trace(trace):
    return trace.gradients.mean((2, 3))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder on `sys.path` with the module team_maps."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "team_maps.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture
def paths(folder):
    """The three forms of the path of a function."""
    file = f"{folder / 'team_maps.py'}"
    return lambda name: (f"team_maps.{name}", f"team_maps:{name}", f"{file}:{name}")


def test_maps_equal_the_formula(paths):
    trace = CASES["dense"].trace()
    expected = (plugins.load("method", "grad_cam")(trace) * trace.activations).sum(1)
    for path in paths("grad_cam"):
        method = plugins.plugin_for("method", path)
        assert method.is_foreign
        assert method.description == "Grad-CAM at the layer's size."
        assert method.spec.on_score_scale is False
        torch.testing.assert_close(method(trace).raw, expected)


def test_names_of_paths(paths):
    dotted, by_colon, by_file = paths("grad_cam")
    for path in (dotted, by_colon, by_file):
        assert plugins.plugin_for("method", path).name == dotted
    assert plugins.plugin_for("method", by_colon).target == dotted


def test_params_are_options(folder):
    trace = CASES["dense"].trace()
    entry = {"_target_": "team_maps:grad_cam", "params": {"scale": 3.0}}
    scaled = plugins.from_config("method", "team", entry)
    plain = plugins.plugin_for("method", "team_maps:grad_cam")
    torch.testing.assert_close(scaled(trace).raw, 3 * plain(trace).raw)
    entry["params"] = {"scal": 3.0}
    with pytest.raises(BenchError, match="no option 'scal' of grad_cam; did you mean 'scale'"):
        plugins.from_config("method", "team", entry)


def test_form_can_be_given(folder):
    entry = {"_target_": "team_maps:of_unnamed"}
    message = r"of_unnamed\(first, second, third, fourth\), and a method takes one argument.*name "
    message += r"its form: \+method\.team\.form=model_layer_images_targets"
    with pytest.raises(BenchError, match=message):
        plugins.from_config("method", "team", entry)
    entry["form"] = "model_layer_images_targets"
    method = plugins.from_config("method", "team", entry)
    assert method.as_dict()["form"] == "model_layer_images_targets"
    assert method(CASES["dense"].trace()).raw.shape == (3, 4, 6)
    entry["form"] = "clas"
    with pytest.raises(BenchError, match=r"method\.team\.form must be .*'class'"):
        plugins.from_config("method", "team", entry)


def test_a_method_of_a_trace_stays_one(folder):
    method = plugins.plugin_for("method", "team_maps:of_trace")
    trace = CASES["dense"].trace()
    assert torch.equal(method(trace), trace.gradients.mean((2, 3)))


def test_hooks_that_are_left_are_reported_and_end_with_the_copy(folder):
    case = CASES["dense"]
    trace = case.trace()
    method = plugins.plugin_for("method", "team_maps:leaky")
    notes = Notes()
    answer = method_answer(method, trace, notes)
    assert answer is not None
    sentence = "Each call of 'team_maps.leaky' leaves 2 hooks on the model."
    assert [str(note).startswith(sentence) for note in notes] == [True]
    assert not any(module._forward_hooks for module in trace.cut_model.model.modules())
    clean = plugins.plugin_for("method", "team_maps:grad_cam")
    notes = Notes()
    assert method_answer(clean, trace, notes) is not None
    assert not list(notes)


def test_global_hooks_and_draws_of_python_end_with_the_call():
    def cam(model, layer, images, targets):
        nn.modules.module.register_module_forward_hook(lambda *_: None)
        return images.sum(1) * random.random()

    trace = CASES["dense"].trace()
    method = plugins.plugin_for("method", cam)
    before = random.getstate()
    first = method(trace)
    second = method(trace)
    assert first.num_hooks_left == 1
    assert torch.equal(first.raw, second.raw)  # the random state starts from a seed
    assert random.getstate() == before
    assert not nn.modules.module._global_forward_hooks


def test_a_failing_cam_is_left_out_with_a_note():
    def cam(model, layer, images, targets):
        if images.shape[-1] != 12 or images.dtype == torch.float64:
            raise ValueError("float32 only")
        return images.sum(1)

    method = plugins.plugin_for("method", cam)
    notes = Notes()
    assert method_answer(method, CASES["dense"].trace(), notes) is None
    (note,) = notes
    assert "'cam' is left out: cam fails on this network (ValueError: float32 only)." in str(note)


def test_explain_and_evaluate_take_a_path_and_a_function(folder):
    import team_maps

    case = CASES["dense"]
    model = case.model()
    methods = ["grad_cam", "team_maps:grad_cam", team_maps.leaky]
    with pytest.warns(UserWarning, match="'leaky' leaves 2 hooks"):
        maps = ab.explain(model, layer=case.layer, images=case.images(), methods=methods)
    for name in ("team_maps:grad_cam", "leaky"):
        torch.testing.assert_close(maps[name], maps["grad_cam"])
    batches = [(case.images(), None)]
    rows = ab.evaluate(model, case.layer, batches, methods=methods[:2], metrics=["confidence_drop"])
    assert "not_applicable" not in set(rows["status"])
    means = rows.groupby("method")["value"].mean()
    assert means.to_list() == pytest.approx([means["grad_cam"]] * 2)


@pytest.mark.slow
def test_common_checks_of_a_users_own_method(folder):
    check_method("team_maps:grad_cam")


def test_gate_and_rank_name_the_method_by_the_last_name(folder):
    overrides = pytest_plugin.overrides_of(["team_maps:grad_cam"], None, None, None, ())
    assert any("grad_cam" in word and "team_maps:grad_cam" in word for word in overrides)
    assert rank.method_overrides("team_maps:leaky", "mine") == [
        "method=[]",
        "+method.mine._target_=team_maps:leaky",
    ]


@pytest.mark.slow
def test_a_run_with_a_path_has_its_values(folder, tmp_path, monkeypatch, capsys):
    from axiom_bench.cli.main import main

    monkeypatch.chdir(tmp_path)
    settings = [
        "+method.team._target_=team_maps:leaky",
        "method=[grad_cam]",
        "metric=[confidence_drop]",
        "model=scenes_resnet",
        "data.size=4",
        "runtime.repeats=0",
    ]
    assert main(settings) == 0, capsys.readouterr().err
    rows = ab.read_run(next(tmp_path.glob("results/*/*")))
    team = rows[rows["method"] == "team"]["value"].to_list()
    assert team == pytest.approx(rows[rows["method"] == "grad_cam"]["value"].to_list())
    printed = capsys.readouterr()
    assert "'team' leaves 2 hooks" in printed.out + printed.err
