"""A user's own plug-in that changes what others read is refused, however it does; one whose answers aren't of each
image alone is marked."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

import axiom_bench as ab
from axiom_bench.evaluation import plugins, unchanged
from axiom_bench.evaluation.evaluate import evaluate, explain
from axiom_bench.evaluation.proof import DRAWS, KEEPS_STATE, OF_THE_BATCH, proved
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.evaluation.unchanged import Interference


@pytest.fixture(autouse=True)
def restore():
    """Undoes what the plug-ins below leave changed, now and at the end of a test."""
    threads, interpolate, reset = torch.get_num_threads(), functional.interpolate, torch.nn.Linear.reset_parameters

    def undo():
        functional.interpolate, torch.nn.Linear.reset_parameters = interpolate, reset
        torch.nn.modules.module._global_forward_hooks.clear()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
        torch.manual_seed(26)
        np.random.seed(26)

    yield undo
    undo()


def network_of(trace):
    return trace.cut_model.model


def set_stride(trace):
    network_of(trace)[0].stride = (1, 1)


def replace_forward(trace):
    network_of(trace)[3].forward = lambda values: values[:, :16]


def patch(trace):
    functional.interpolate = lambda *args, **options: torch.zeros(1)


def patch_class(trace):
    torch.nn.Linear.reset_parameters = lambda self: None


ATTACKS = {  # {what it changes: (what does it, a part of the sentence)}
    "trace.activations.numpy()": (lambda t: t.activations.numpy().fill(1), r"writes to trace\.activations, which"),
    "trace.gradients.data": (lambda t: t.gradients.data.mul_(2), r"writes to trace\.gradients, .*gradients\.clone"),
    "trace.scores": (lambda t: t.scores.numpy().fill(0), r"writes to trace\.scores"),
    "drops": (lambda t: t.ablation_drops.numpy().fill(0), r"changes trace\.ablation_drops as it is computed"),
    "parameter": (lambda t: network_of(t)[0].weight.data.mul_(2), r"writes to the network's 0\.weight"),
    "a new parameter": (lambda t: setattr(network_of(t)[0], "bias", None), r"writes to the network's 0\.bias"),
    "mode": (lambda t: network_of(t).train(), r"leaves the network's Sequential \(training mode\) changed"),
    "hook": (lambda t: network_of(t)[1].register_forward_hook(lambda *args: None), r"network's 1 \(_forward_hooks\)"),
    "global hook": (
        lambda t: torch.nn.modules.module.register_module_forward_hook(lambda *args: None),
        r"hooks of all modules \(_global_forward_hooks\)",
    ),
    "stride": (set_stride, r"the network's 0 \(stride\)"),
    "forward": (replace_forward, r"the network's 3 \(forward\)"),
    "interpolate": (patch, r"replaces torch\.nn\.functional\.interpolate, which others call"),
    "a class's method": (patch_class, r"replaces torch\.nn\.Linear\.reset_parameters"),
    "deterministic": (lambda t: torch.use_deterministic_algorithms(True), r"changes torch\.use_deterministic_algo"),
    "matmul": (lambda t: torch.set_float32_matmul_precision("medium"), r"changes torch\.set_float32_matmul_precision"),
    "dtype": (lambda t: torch.set_default_dtype(torch.float64), r"changes torch\.set_default_dtype for all others"),
    "threads": (lambda t: torch.set_num_threads(torch.get_num_threads() + 1), r"changes torch\.set_num_threads"),
    "denormals": (lambda t: torch.set_flush_denormal(True), r"changes torch\.set_flush_denormal"),
    "torch's seed": (lambda t: torch.manual_seed(0), r"sets a global random seed"),
    "NumPy's seed": (lambda t: np.random.seed(0), r"sets a global random seed"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["method", "metric"])
@pytest.mark.parametrize(("attack", "sentence"), ATTACKS.values(), ids=ATTACKS)
def test_a_plug_in_that_changes_what_others_read_is_refused(net, batch, restore, kind, attack, sentence):
    def bad(shared):
        trace = getattr(shared, "trace", shared)
        _ = trace.ablation_drops
        attack(trace)
        return trace.gradients if kind == "method" else trace.scores

    restore()
    chosen = (["xgrad_cam", bad], ["box_iou"]) if kind == "method" else (["xgrad_cam"], ["box_iou", bad])
    with pytest.raises(Interference, match=rf"'bad' .*{sentence}"):
        evaluate(net, "1", [batch], *chosen)


WRITES = {  # {what it writes to: how}
    "explanation.heatmap": lambda e: np.copyto(e.heatmap.numpy(), 0, where=e.heatmap.numpy() < 0.5),
    "explanation.raw_map": lambda e: e.raw_map.data.zero_(),
    "explanation.contributions": lambda e: e.contributions.numpy().fill(1),
    "explanation.boxes[0]": lambda e: e.boxes[0].numpy().fill(1),
    "trace.logits": lambda e: e.trace.logits.data.mul_(2),
}


@pytest.mark.parametrize("place", WRITES)
@pytest.mark.parametrize("asks", [False, True])
def test_a_metric_that_writes_without_a_version_counter_is_refused(net, batch, place, asks):
    """As anyone writes it: `h = explanation.heatmap.numpy(); h[h < 0.5] = 0`."""

    def at_once(explanation):
        WRITES[place](explanation)
        return explanation.trace.scores

    def later(explanation):
        yield PerturbedImages("mine", 1, lambda rows, copies: explanation.images[rows, None])
        return at_once(explanation)

    with pytest.raises(
        Interference, match=rf"writes to {re.escape(place)}, which others read; change a copy, as with "
    ):
        evaluate(net, "1", [batch], ["grad_cam"], [later if asks else at_once, "box_iou"])


def test_scores_that_metrics_share_are_watched(net, batch):
    def writing(explanation):
        scores = yield PerturbedImages("shared", 1, lambda rows, copies: explanation.images[rows, None], of_image=True)
        scores.numpy().fill(0)
        return explanation.trace.scores

    with pytest.raises(Interference, match=r"writes to scores\[\d\], which others read"):
        evaluate(net, "1", [batch], ["grad_cam"], [writing])


def test_what_a_heatmap_for_a_notebook_is_made_of_is_watched(net, batch):
    with pytest.raises(Interference, match=r"writes to trace\.activations"):
        explain(net, "1", batch.images, [lambda trace: trace.activations.numpy().fill(1) or trace.gradients])


def test_later_batches_are_watched_at_a_rate_and_by_their_images(net, batch):
    ids = [tuple(f"{number}{letter}" for letter in "abcd") for number in range(320)]
    watched = [unchanged.is_watched(each, unchanged.WATCHED_RATE) for each in ids]
    assert 10 <= sum(watched) <= 30
    assert watched == [unchanged.is_watched(each, unchanged.WATCHED_RATE) for each in ids]
    calls, last = [], None

    def bad_at_last(trace):
        calls.append(0)
        if len(calls) == last:
            trace.activations.numpy().fill(1)
        return trace.gradients

    def evaluated(is_watched):
        calls.clear()
        return evaluate(
            net, "1", [replace(batch, image_ids=ids[watched.index(is_watched)])], [bad_at_last], ["box_iou"]
        )

    evaluated(False)
    last = len(calls)  # the one after the proof
    evaluated(False)
    with pytest.raises(Interference, match=r"writes to trace\.activations"):
        evaluated(True)


@pytest.mark.parametrize(("batches", "fewest", "most"), [(1, 0, 1), (160, 1, 20), (20_000, 1, 15)])
def test_of_many_batches_about_as_many_are_watched(batches, fewest, most):
    rate = unchanged.watched_rate(batches)
    assert fewest <= sum(unchanged.is_watched([f"{number}"], rate) for number in range(batches)) <= most


def test_a_network_that_is_changed_is_seen_at_the_end_of_a_shard_that_nobody_watched(net, batch):
    method = plugins.of(
        "method", lambda trace: trace.cut_model.model[0].weight.data.mul_(1.01).sum() * 0 + trace.gradients
    )
    cut_model = ab.cut(net, "1")
    unchanged.state_at_start(cut_model)
    requests = [MethodsByMetrics((method,), (plugins.of("metric", "box_iou"),))]
    with pytest.raises(Interference, match=r"^The plug-in '<lambda>' writes to the network's 0\.weight"):
        list(shard_rows(cut_model, [batch], requests, 4, watched_rate=10**9))


CALLS = []
UNSTABLE = {  # {what it does: (of the trace's gradients or scores, why)}
    "mean of the batch": (lambda x: x - x.mean(0, keepdim=True), OF_THE_BATCH),
    "maximum of the batch": (lambda x: x / x.max(), OF_THE_BATCH),
    "counts its calls": (lambda x: CALLS.append(0) or x + len(CALLS), KEEPS_STATE),
    "draws from torch": (lambda x: x + torch.rand(1, dtype=x.dtype), DRAWS),
    "draws from NumPy": (lambda x: x + np.random.rand(), DRAWS),
    "draws from Python": (lambda x: x + random.random(), DRAWS),
    "of the image": (lambda x: x / x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)) if x.ndim > 1 else x, None),
    "draws by a seed": (lambda x: x + torch.rand(1, generator=torch.Generator().manual_seed(1), dtype=x.dtype), None),
    "NaN": (lambda x: x * torch.nan, None),
}


@pytest.mark.parametrize("kind", ["method", "metric"])
@pytest.mark.parametrize(("function", "why"), UNSTABLE.values(), ids=UNSTABLE)
def test_what_is_not_of_the_image_alone_is_marked(net, batch, trace, kind, function, why):
    call = (lambda t: function(t.gradients)) if kind == "method" else (lambda e: function(e.trace.scores))
    chosen = {"method": [plugins.of("method", "xgrad_cam")], "metric": [plugins.of("metric", "box_iou")]}
    chosen[kind].append(plugins.of(kind, call))
    methods, metrics = proved(chosen["method"], chosen["metric"], trace, batch)
    marks = {plugin.name: plugin.spec.unstable for plugin in (*methods, *metrics)}
    assert marks == {"xgrad_cam": None, "box_iou": None, "<lambda>": why}


def test_plug_ins_that_keep_state_for_each_other_are_marked(trace, batch):
    shared = []
    writer = plugins.of("method", lambda trace: shared.append(0) or trace.gradients)
    reader = plugins.of("method", lambda trace: trace.gradients * len(shared))
    methods, _ = proved([replace(reader, name="reader"), replace(writer, name="writer")], [], trace, batch)
    assert [method.spec.unstable for method in methods] == [KEEPS_STATE, None]


def test_the_suites_own_plug_ins_are_called_once(trace, batch, monkeypatch):
    monkeypatch.setattr(unchanged, "check_network", None)  # which would fail
    unchanged.watch(trace)
    methods, metrics = proved([plugins.of("method", "xgrad_cam")], [plugins.of("metric", "box_iou")], trace, batch)
    assert [plugin.is_foreign for plugin in (*methods, *metrics)] == [False, False]
