"""Users' own plug-ins that change what others read, or whose answers depend on the batch.

The former are found by their effect on the suite's own values. The latter are marked.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

import axiom_bench as ab
from axiom_bench.evaluation import plugins, purity
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.proof import DRAWS, KEEPS_STATE, OF_THE_BATCH, proved
from axiom_bench.evaluation.purity import Interference
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.run.notebook import evaluate, explain

OWN_METHODS = ["xgrad_cam", "ablation_cam"]
OWN_METRICS = ["box_iou", "sensitivity_error"]
BAD = r"The plug-in 'bad' .* changes what others read"


@pytest.fixture(autouse=True)
def restore():
    """The function that undoes what the plug-ins below change, also called when a test ends."""
    interpolate = functional.interpolate
    guarded = torch.Tensor.abs

    def undo():
        functional.interpolate = interpolate
        torch.Tensor.abs = guarded
        torch.nn.modules.module._global_forward_hooks.clear()
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(26)
        np.random.seed(26)

    yield undo
    undo()


def network_of(trace):
    return trace.cut_model.model


def set_stride(trace):
    network_of(trace)[0].stride = (1, 1)


def replace_forward(trace):
    network_of(trace)[3].forward = lambda values: values[:, :16] * 0


def patch(trace):
    functional.interpolate = lambda *args, **options: torch.zeros(4, 1, 12, 12)


def raise_later(trace):
    torch.Tensor.abs = lambda self: 1 / 0


def double(module, inputs, output):
    return output * 2


def add_hook(trace):
    network_of(trace)[1].register_forward_hook(double)


def add_global_hook(trace):
    torch.nn.modules.module.register_module_forward_hook(double)


ATTACKS = {
    "trace.images": lambda trace: trace.images.mul_(2),
    "trace.activations.numpy()": lambda trace: trace.activations.detach().numpy().fill(1),
    "trace.gradients.data": lambda trace: trace.gradients.data.mul_(2),
    "trace.scores": lambda trace: trace.scores.detach().numpy().fill(0),
    "trace.targets": lambda trace: trace.targets.add_(-1),
    "a parameter": lambda trace: network_of(trace)[0].weight.data.mul_(2),
    "a new parameter": lambda trace: setattr(network_of(trace)[0], "bias", None),
    "a hook": add_hook,
    "a hook of all": add_global_hook,
    "a stride": set_stride,
    "a forward": replace_forward,
    "a function of torch": patch,
    "a function that raises from now on": raise_later,
}


@pytest.mark.parametrize("kind", ["method", "metric"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_plug_in_that_changes_what_others_read_is_named(net, batch, restore, kind, attack):
    def fine(shared):
        trace = getattr(shared, "trace", shared)
        return trace.gradients if kind == "method" else trace.scores

    def bad(shared):
        attack(getattr(shared, "trace", shared))
        return fine(shared)

    restore()
    methods = list(OWN_METHODS)
    metrics = list(OWN_METRICS)
    (methods if kind == "method" else metrics).extend([fine, bad])
    with pytest.raises(Interference, match=BAD):
        evaluate(net, "1", [batch], methods, metrics)


@pytest.mark.parametrize("seed", [lambda: torch.manual_seed(0), lambda: np.random.seed(0)])
def test_a_plug_in_that_sets_a_global_seed_is_refused(net, batch, seed):
    def seeding(trace):
        seed()
        return trace.gradients

    with pytest.raises(Interference, match="sets a global random seed"):
        evaluate(net, "1", [batch], ["xgrad_cam", seeding], ["box_iou"])


def cut_off(explanation):
    """Write to the heatmap in the way that users do."""
    heatmap = explanation.heatmap.numpy()
    np.copyto(heatmap, 0, where=heatmap < 0.5)


WRITES = {
    "heatmap": cut_off,
    "raw_map": lambda explanation: explanation.raw_map.data.zero_(),
    "contributions": lambda explanation: explanation.contributions.detach().numpy().fill(1),
    "boxes": lambda explanation: explanation.boxes[0].numpy().fill(1),
    "logits": lambda explanation: explanation.trace.logits.data.mul_(2),
}


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_metric_that_writes_to_what_metrics_share_is_named(net, batch, write, asks):
    def at_once(explanation):
        write(explanation)
        return explanation.trace.scores

    def later(explanation):
        yield PerturbedImages("mine", 1, lambda rows, copies: explanation.images[rows, None])
        return at_once(explanation)

    with pytest.raises(Interference, match="changes what others read"):
        evaluate(net, "1", [batch], ["grad_cam"], [later if asks else at_once, "box_iou"])


def test_what_a_heatmap_for_a_notebook_is_made_of_is_watched(net, batch):
    def bad(trace):
        return trace.activations.data.mul_(0) + trace.gradients

    with pytest.raises(Interference, match="changes what others read"):
        explain(net, "1", batch.images, [bad, "grad_cam"])


def test_users_own_come_last_so_their_writes_reach_no_value_of_the_suite(net, batch):
    """Check a batch that isn't watched."""
    bad_method = plugins.plugin_for(
        "method", lambda trace: trace.activations.data.mul_(0) + trace.gradients
    )
    bad_metric = plugins.plugin_for(
        "metric", lambda explanation: explanation.heatmap.zero_()[:, 0, 0]
    )
    own_methods = [plugins.plugin_for("method", name) for name in OWN_METHODS]
    own_metrics = [plugins.plugin_for("metric", name) for name in OWN_METRICS]
    metric_names = {metric.name for metric in own_metrics}

    def own_values(methods, metrics):
        trace = ab.trace(net, "1", batch.images, batch.targets)
        values = []
        for part in columns_by_method(trace, batch, methods, metrics, watched_rate=10**9):
            if part["method"][0] in OWN_METHODS and part["metric"][0] in metric_names:
                values.append(part["value"])
        return values

    expected = own_values(own_methods, own_metrics)
    actual = own_values([bad_method, *own_methods], [bad_metric, *own_metrics])
    for expected_value, value in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(expected_value, value[: len(expected_value)])


def test_later_batches_are_watched_at_a_rate_and_by_their_images(net, batch):
    ids = [tuple(f"{number}{letter}" for letter in "abcd") for number in range(320)]
    watched = [purity.is_watched(names, purity.WATCHED_RATE) for names in ids]
    assert 10 <= sum(watched) <= 30
    calls = []
    last = None

    def bad_at_last(trace):
        calls.append(0)
        if len(calls) == last:
            trace.activations.data.fill_(1)
        return trace.gradients

    def evaluated(is_watched):
        calls.clear()
        renamed = replace(batch, image_ids=ids[watched.index(is_watched)])
        return evaluate(net, "1", [renamed], [bad_at_last, "grad_cam"], ["box_iou"])

    evaluated(False)
    last = len(calls)  # the call after the proof
    evaluated(False)
    with pytest.raises(Interference, match="'bad_at_last'"):
        evaluated(True)


@pytest.mark.parametrize(("batches", "fewest", "most"), [(1, 0, 1), (160, 1, 20), (20_000, 1, 15)])
def test_of_many_batches_about_as_many_are_watched(batches, fewest, most):
    rate = purity.watched_rate(batches)
    watched = sum(purity.is_watched([f"{number}"], rate) for number in range(batches))
    assert fewest <= watched <= most


def test_a_lasting_change_is_seen_at_the_end_of_a_shard_that_nobody_watched(net, batch):
    is_bad = []

    def bad(trace):
        network_of(trace)[0].weight.data.mul_(1.01 if is_bad else 1)
        return trace.gradients

    cut_model = ab.cut(net, "1")
    trace = cut_model.trace(batch.images, batch.targets)
    methods, metrics = proved(
        [plugins.plugin_for("method", "grad_cam"), plugins.plugin_for("method", bad)],
        [plugins.plugin_for("metric", "sensitivity_error")],
        trace,
        batch,
    )
    requests = [MethodsByMetrics(tuple(methods), tuple(metrics))]
    is_bad.append(True)

    with pytest.raises(Interference, match=BAD):
        list(shard_rows(cut_model, [batch], requests, 4, watched_rate=10**9))


CALLS = []


def divided_by_maximum_of_image(values):
    if values.ndim == 1:
        return values
    maximum = values.flatten(1).amax(1)
    return values / maximum.view(-1, *[1] * (values.ndim - 1))


def with_seeded_noise(values):
    generator = torch.Generator().manual_seed(1)
    return values + torch.rand(1, generator=generator, dtype=values.dtype)


# What a function does: the function of the trace's gradients or scores, and the reason that it is
# marked, if any.
UNSTABLE = {
    "mean of the batch": (lambda values: values - values.mean(0, keepdim=True), OF_THE_BATCH),
    "maximum of the batch": (lambda values: values / values.max(), OF_THE_BATCH),
    "counts its calls": (lambda values: CALLS.append(0) or values + len(CALLS), KEEPS_STATE),
    "draws from torch": (lambda values: values + torch.rand(1, dtype=values.dtype), DRAWS),
    "draws from NumPy": (lambda values: values + np.random.rand(), DRAWS),
    "draws from Python": (lambda values: values + random.random(), DRAWS),
    "of the image": (divided_by_maximum_of_image, None),
    "draws by a seed": (with_seeded_noise, None),
    "NaN": (lambda values: values * torch.nan, None),
}


@pytest.mark.parametrize("kind", ["method", "metric"])
@pytest.mark.parametrize(("function", "why"), UNSTABLE.values(), ids=UNSTABLE)
def test_what_is_not_of_the_image_alone_is_marked(net, batch, trace, kind, function, why):
    def mine(shared):
        return function(shared.gradients if kind == "method" else shared.trace.scores)

    chosen = {
        "method": [plugins.plugin_for("method", "xgrad_cam")],
        "metric": [plugins.plugin_for("metric", "box_iou")],
    }
    chosen[kind].append(plugins.plugin_for(kind, mine))

    methods, metrics = proved(chosen["method"], chosen["metric"], trace, batch)

    marks = {plugin.name: plugin.spec.unstable for plugin in (*methods, *metrics)}
    assert marks == {"xgrad_cam": None, "box_iou": None, "mine": why}


def test_plug_ins_that_keep_state_for_each_other_are_marked(trace, batch):
    shared = []
    writer = plugins.plugin_for("method", lambda trace: shared.append(0) or trace.gradients)
    reader = plugins.plugin_for("method", lambda trace: trace.gradients * len(shared))
    chosen = [replace(reader, name="reader"), replace(writer, name="writer")]
    methods, _ = proved(chosen, [], trace, batch)
    assert [method.spec.unstable for method in methods] == [KEEPS_STATE, None]
