"""Each effect that an audit reports: an implementation that has it, and a clean one that doesn't.
The code of every finding reproduces it.
"""

import copy
import gc
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from axiom_bench.auditing.effects import EFFECTS, find_effects
from axiom_bench.isolation.global_state import (
    global_hooks,
    read_global_state,
    restored_global_state,
)
from tests.auditing.implementations import activations_and_logits, grad_cam, seeded_case

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")

kept = []


def cam_that(change):
    """Return Grad-CAM that also calls change(model, layer, images, maps), which may return maps."""

    def cam(model, layer, images, targets):
        maps = grad_cam(model, layer, images, targets)
        other_maps = change(model, layer, images, maps)
        return maps if other_maps is None else other_maps

    return cam


def leave_hook(model, layer, images, maps):
    layer.register_forward_hook(lambda *_: None)


def leave_global_hook(model, layer, images, maps):
    nn.modules.module.register_module_forward_hook(_do_nothing)


def _do_nothing(module, arguments, output):
    return None


def train(model, layer, images, maps):
    model.train()


def leave_eval(model, layer, images, maps):
    model.eval()


def unfreeze(model, layer, images, maps):
    model.requires_grad_(True)


def accumulate(model, layer, images, maps):
    model(images).sum().backward()


def clear_gradients(model, layer, images, maps):
    model.zero_grad()


def change_parameter(model, layer, images, maps):
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1


def change_buffer(model, layer, images, maps):
    model[1].running_mean += 1


def replace_module(model, layer, images, maps):
    model[6] = nn.ReLU()


def add_attribute(model, layer, images, maps):
    layer.gradients = maps.shape


def change_images(model, layer, images, maps):
    images.clamp_(min=0)


def require_image_gradients(model, layer, images, maps):
    images.requires_grad_()


def print_progress(model, layer, images, maps):
    print("100 %")


def print_error(model, layer, images, maps):
    print("100 %", file=sys.stderr)


def warn(model, layer, images, maps):
    warnings.warn("deprecated", UserWarning, stacklevel=2)


def require_gradients(model, layer, images, maps):
    F, logits = activations_and_logits(model, layer, images)
    return F.sum(1) * logits.sum()


def keep_graph(model, layer, images, maps):
    kept[:] = [model(images)]


def keep_tensors(model, layer, images, maps):
    kept.append(maps)


def draw_torch(model, layer, images, maps):
    torch.rand(1)


def draw_numpy(model, layer, images, maps):
    np.random.rand()


def draw_python(model, layer, images, maps):
    random.random()


def set_dtype(model, layer, images, maps):
    torch.set_default_dtype(torch.float64)


def disable_gradients(model, layer, images, maps):
    torch.set_grad_enabled(False)


def set_deterministic(model, layer, images, maps):
    torch.use_deterministic_algorithms(True)


def set_benchmark(model, layer, images, maps):
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark


EXAMPLES = [
    (leave_hook, "hooks_left", "leaves hooks on 1 module (2)"),
    (leave_global_hook, "hooks_left", "all modules of torch"),
    (train, "mode", "9 modules"),
    (leave_eval, "eval_mode", "leaves 9 modules in eval mode"),
    (unfreeze, "requires_grad", "1 parameter (7.bias)"),
    (accumulate, "gradients", "8 parameters (0.weight, 0.bias, 1.weight and 5 more)"),
    (clear_gradients, "gradients", "8 parameters"),
    (change_parameter, "parameters", "1 parameter (0.weight)"),
    (change_buffer, "buffers", "1 buffer (1.running_mean)"),
    (replace_module, "modules", "1 module (6)"),
    (add_attribute, "attributes", "1 module (2)"),
    (change_images, "inputs", "caller's images"),
    (require_image_gradients, "inputs", "caller's images.requires_grad"),
    (print_progress, "output", "prints '100 %'"),
    (print_error, "output", "prints '100 %'"),
    (warn, "warnings", "UserWarning: deprecated"),
    (require_gradients, "graph_of_maps", "require gradients"),
    (keep_graph, "kept_graph", "an autograd graph stays in memory"),
    (keep_tensors, "memory", "20 calls leave 20 more tensors"),
    (draw_torch, "random_states", "torch's random state"),
    (draw_numpy, "random_states", "NumPy's random state"),
    (draw_python, "random_states", "Python's random state"),
    (set_dtype, "settings", "torch's default dtype"),
    (disable_gradients, "settings", "torch's grad mode"),
    (set_deterministic, "settings", "torch's deterministic mode"),
    (set_benchmark, "settings", "cuDNN's benchmark mode"),
]


@pytest.fixture(autouse=True)
def _clean_process():
    """Restore what the implementations change in the process."""
    with restored_global_state():
        np.random.seed(0)
        np.random.rand()  # the next number changes the state's position, and not its array
        yield
    kept.clear()


def run(code, cam):
    """Run a finding's code on a fresh copy of the case, as its reader would."""
    kept.clear()
    case = seeded_case()
    model = copy.deepcopy(case.model)
    names = {
        "cam": cam,
        "model": model,
        "layer": model.get_submodule(case.layer),
        "images": case.images,
        "targets": case.targets,
    }
    with warnings.catch_warnings():
        exec(code, names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "key", "text"), EXAMPLES, ids=[change.__name__ for change, *_ in EXAMPLES]
)
def test_effect_is_found_and_its_code_reproduces_it(change, key, text):
    cam = cam_that(change)
    findings = {finding.key: finding for finding in find_effects(cam, seeded_case())}
    assert key in findings
    assert text in findings[key].sentence
    with pytest.raises((AssertionError, UserWarning)):
        run(findings[key].code, cam)
    with restored_global_state():
        run(findings[key].code, grad_cam)


def test_every_effect_has_an_example():
    keys = {key for _, key, _ in EXAMPLES}
    assert {effect.key for effect in EFFECTS} <= keys


@pytest.mark.slow
def test_a_clean_implementation_has_no_effect():
    case = seeded_case()
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    assert find_effects(grad_cam, case) == []
    for name, value in case.model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.slow
def test_the_process_is_restored_after_an_audit():
    before = read_global_state()
    for change in (set_dtype, disable_gradients, draw_torch, draw_python, leave_global_hook):
        find_effects(cam_that(change), seeded_case())
    after = read_global_state()
    assert not any(global_hooks())
    for key in ("default_dtype", "grad_mode", "python_random_state"):
        assert after[key] == before[key]
    assert torch.equal(after["torch_random_state"], before["torch_random_state"])


def test_a_failing_implementation_is_one_finding():
    def cam(model, layer, images, targets):
        raise ValueError("no maps.\nof a second line")

    (finding,) = find_effects(cam, seeded_case())
    assert (finding.key, finding.sentence) == ("raises", "The call raises ValueError: no maps.")


@pytest.mark.slow
def test_objects_that_the_program_has_frozen_stay_frozen():
    gc.freeze()
    before = gc.get_freeze_count()
    find_effects(cam_that(keep_tensors), seeded_case())
    assert gc.get_freeze_count() >= before
