"""A user's own plug-in that changes what others read is found by its effect on the suite's own
values; one whose answers aren't of each image alone is marked.
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
from axiom_bench.evaluation.loop import rows_of
from axiom_bench.evaluation.proof import DRAWS, KEEPS_STATE, OF_THE_BATCH, proved
from axiom_bench.evaluation.purity import Interference
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.run.notebook import evaluate, explain

OWN = (["xgrad_cam", "ablation_cam"], ["box_iou", "sensitivity_error"])
BAD = r"The plug-in 'bad' .* changes what others read"


@pytest.fixture(autouse=True)
def restore():
    """Undoes what the plug-ins below leave changed, now and at the end of a test."""
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


ATTACKS = {
    "trace.images": lambda t: t.images.mul_(2),
    "trace.activations.numpy()": lambda t: t.activations.detach().numpy().fill(1),
    "trace.gradients.data": lambda t: t.gradients.data.mul_(2),
    "trace.scores": lambda t: t.scores.detach().numpy().fill(0),
    "trace.targets": lambda t: t.targets.add_(-1),
    "a parameter": lambda t: network_of(t)[0].weight.data.mul_(2),
    "a new parameter": lambda t: setattr(network_of(t)[0], "bias", None),
    "a hook": lambda t: network_of(t)[1].register_forward_hook(
        lambda module, inputs, output: output * 2
    ),
    "a hook of all": lambda t: torch.nn.modules.module.register_module_forward_hook(
        lambda m, i, output: output * 2
    ),
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
    methods, metrics = OWN
    chosen = (
        ([*methods, fine, bad], metrics) if kind == "method" else (methods, [*metrics, fine, bad])
    )
    with pytest.raises(Interference, match=BAD):
        evaluate(net, "1", [batch], *chosen)


@pytest.mark.parametrize("seed", [lambda: torch.manual_seed(0), lambda: np.random.seed(0)])
def test_a_plug_in_that_sets_a_global_seed_is_refused(net, batch, seed):
    with pytest.raises(Interference, match="sets a global random seed"):
        evaluate(
            net,
            "1",
            [batch],
            ["xgrad_cam", lambda trace: (seed(), trace.gradients)[1]],
            ["box_iou"],
        )


WRITES = {
    "heatmap": lambda e: np.copyto(
        e.heatmap.numpy(), 0, where=e.heatmap.numpy() < 0.5
    ),  # as anyone writes it
    "raw_map": lambda e: e.raw_map.data.zero_(),
    "contributions": lambda e: e.contributions.detach().numpy().fill(1),
    "boxes": lambda e: e.boxes[0].numpy().fill(1),
    "logits": lambda e: e.trace.logits.data.mul_(2),
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
    with pytest.raises(Interference, match="changes what others read"):
        explain(
            net,
            "1",
            batch.images,
            [lambda trace: trace.activations.data.mul_(0) + trace.gradients, "grad_cam"],
        )


def test_users_own_come_last_so_their_writes_reach_no_value_of_the_suite(net, batch):
    """Here on a batch that nobody watches."""
    bad = plugins.of("method", lambda trace: trace.activations.data.mul_(0) + trace.gradients)
    metric = plugins.of("metric", lambda explanation: explanation.heatmap.zero_()[:, 0, 0])
    own = [
        [*map(plugins.of, (kind,) * 2, names)]
        for kind, names in zip(("method", "metric"), OWN, strict=True)
    ]

    def values(methods, metrics):
        trace = ab.trace(net, "1", batch.images, batch.targets)
        parts = list(rows_of(trace, batch, methods, metrics, watched_rate=10**9))
        names = {metric.name for metric in own[1]}
        return [
            part["value"]
            for part in parts
            if part["method"][0] in OWN[0] and part["metric"][0] in names
        ]

    for ours, theirs in zip(values(*own), values([bad, *own[0]], [metric, *own[1]]), strict=True):
        np.testing.assert_array_equal(ours, theirs[: len(ours)])


def test_later_batches_are_watched_at_a_rate_and_by_their_images(net, batch):
    ids = [tuple(f"{number}{letter}" for letter in "abcd") for number in range(320)]
    watched = [purity.is_watched(each, purity.WATCHED_RATE) for each in ids]
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
        own = replace(batch, image_ids=ids[watched.index(is_watched)])
        return evaluate(net, "1", [own], [bad_at_last, "grad_cam"], ["box_iou"])

    evaluated(False)
    last = len(calls)  # the one after the proof
    evaluated(False)
    with pytest.raises(Interference, match="'bad_at_last'"):
        evaluated(True)


@pytest.mark.parametrize(("batches", "fewest", "most"), [(1, 0, 1), (160, 1, 20), (20_000, 1, 15)])
def test_of_many_batches_about_as_many_are_watched(batches, fewest, most):
    rate = purity.watched_rate(batches)
    assert (
        fewest <= sum(purity.is_watched([f"{number}"], rate) for number in range(batches)) <= most
    )


def test_a_lasting_change_is_seen_at_the_end_of_a_shard_that_nobody_watched(net, batch):
    is_bad = []

    def bad(trace):
        network_of(trace)[0].weight.data.mul_(1.01 if is_bad else 1)
        return trace.gradients

    cut_model = ab.cut(net, "1")
    chosen = (
        [plugins.of("method", name) for name in ("grad_cam", bad)],
        [plugins.of("metric", "sensitivity_error")],
    )
    methods, metrics = proved(*chosen, cut_model.trace(batch.images, batch.targets), batch)
    is_bad.append(True)
    with pytest.raises(Interference, match=BAD):
        list(
            shard_rows(
                cut_model,
                [batch],
                [MethodsByMetrics(tuple(methods), tuple(metrics))],
                4,
                watched_rate=10**9,
            )
        )


CALLS = []
UNSTABLE = {  # {what it does: (of the trace's gradients or scores, why)}
    "mean of the batch": (lambda x: x - x.mean(0, keepdim=True), OF_THE_BATCH),
    "maximum of the batch": (lambda x: x / x.max(), OF_THE_BATCH),
    "counts its calls": (lambda x: CALLS.append(0) or x + len(CALLS), KEEPS_STATE),
    "draws from torch": (lambda x: x + torch.rand(1, dtype=x.dtype), DRAWS),
    "draws from NumPy": (lambda x: x + np.random.rand(), DRAWS),
    "draws from Python": (lambda x: x + random.random(), DRAWS),
    "of the image": (
        lambda x: x / x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)) if x.ndim > 1 else x,
        None,
    ),
    "draws by a seed": (
        lambda x: x + torch.rand(1, generator=torch.Generator().manual_seed(1), dtype=x.dtype),
        None,
    ),
    "NaN": (lambda x: x * torch.nan, None),
}


@pytest.mark.parametrize("kind", ["method", "metric"])
@pytest.mark.parametrize(("function", "why"), UNSTABLE.values(), ids=UNSTABLE)
def test_what_is_not_of_the_image_alone_is_marked(net, batch, trace, kind, function, why):
    call = (
        (lambda t: function(t.gradients))
        if kind == "method"
        else (lambda e: function(e.trace.scores))
    )
    chosen = {
        "method": [plugins.of("method", "xgrad_cam")],
        "metric": [plugins.of("metric", "box_iou")],
    }
    chosen[kind].append(plugins.of(kind, call))
    methods, metrics = proved(chosen["method"], chosen["metric"], trace, batch)
    marks = {plugin.name: plugin.spec.unstable for plugin in (*methods, *metrics)}
    assert marks == {"xgrad_cam": None, "box_iou": None, "<lambda>": why}


def test_plug_ins_that_keep_state_for_each_other_are_marked(trace, batch):
    shared = []
    writer = plugins.of("method", lambda trace: shared.append(0) or trace.gradients)
    reader = plugins.of("method", lambda trace: trace.gradients * len(shared))
    methods, _ = proved(
        [replace(reader, name="reader"), replace(writer, name="writer")], [], trace, batch
    )
    assert [method.spec.unstable for method in methods] == [KEEPS_STATE, None]
