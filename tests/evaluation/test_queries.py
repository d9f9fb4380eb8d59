"""The questions that metrics ask the model, which are asked for all methods together.

That takes as many passes as are needed, and changes no bit of a value.
"""

from __future__ import annotations

import gc
import inspect
import weakref
from collections import OrderedDict
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.answers import rows_per_pass
from axiom_bench.evaluation.batch import explained, frame
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.run.notebook import evaluate
from axiom_bench.testing.metric_checks import parts_of
from tests.every_copy import every_copy_is_classified

METHODS = [methods.get(name) for name in ("grad_cam", "xgrad_cam", "centered", "random")]
ALL_METRICS = [metrics.get(name) for name in metrics.names()]
ASKING = [
    metric
    for metric in ALL_METRICS
    if inspect.isgeneratorfunction(inspect.unwrap(metric.call.func))
]


def table(
    trace: ab.Trace,
    batch: ab.Batch,
    chosen: list[Plugin],
    measured: list[Plugin],
) -> pd.DataFrame:
    parts = columns_by_method(trace, batch, chosen, measured)
    return frame(part for part in parts if "value" in part)


def small() -> nn.Module:
    """Return a network with the names of a ResNet's layers and maps of its size."""
    sizes = {"layer1": (3, 16), "layer2": (16, 32), "layer3": (32, 64), "layer4": (64, 128)}
    parts: dict[str, nn.Module] = {}
    for name, (inputs, maps) in sizes.items():
        convolution = nn.Conv2d(inputs, maps, 3, 2, 1)
        parts[name] = nn.Sequential(convolution, nn.BatchNorm2d(maps), nn.ReLU())
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flat"] = nn.Flatten()
    parts["fc"] = nn.Linear(128, 7)
    return nn.Sequential(OrderedDict(parts))


def resnet10() -> nn.Module:
    """Return a ResNet of half of ResNet-18's blocks."""
    resnet = torchvision.models.resnet
    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=7)


@pytest.fixture(scope="module", params=[small, pytest.param(resnet10, marks=pytest.mark.slow)])
def network(request: pytest.FixtureRequest) -> nn.Module:
    """A network in float32, in which a pass of another size may round differently."""
    torch.manual_seed(1)
    return request.param().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 40, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def traced(network, images) -> ab.Trace:
    cut_model = ab.cut(network, "layer4")
    cut_model.finetuned = network
    return cut_model.trace(images, torch.tensor([0, 1, 2]))


@pytest.mark.slow
def test_every_value_is_the_same_together_and_alone(traced):
    """Compare values bit by bit, in float32.

    All methods and generator metrics run together, and each metric runs alone with one method.
    """
    few = [with_few_passes(metric) for metric in ASKING]
    traced = with_parts(traced)
    batch = annotated(traced)
    keys = ["method", "metric"]

    together = table(replace(traced), batch, METHODS, few).set_index(keys)

    good = together[together.status == "ok"].index.get_level_values("metric")
    names = {name for metric in few for name in value_names(metric)}
    assert set(good) >= names
    for number, metric in enumerate(few):
        method = METHODS[number % len(METHODS)]
        alone = table(replace(traced), batch, [method], [metric]).set_index(keys)
        pd.testing.assert_frame_equal(together.loc[alone.index.unique()], alone, check_exact=True)


def with_few_passes(metric: Plugin) -> Plugin:
    """Return the metric with parameters that cost less; the defaults take minutes."""
    fewer = {
        "steps": 5,
        "subsets": 4,
        "squares": 2,
        "samples": 2,
        "stages": 2,
        "grid": 3,
        "passes": 3,
        "tried": [1, 3],
    }
    params = {name: fewer[name] for name in fewer.keys() & metric.params}
    return plugins.with_params("metric", metric.name, params)


def with_parts(trace: ab.Trace) -> ab.Trace:
    """Return the trace with versions of each image without its parts, which some metrics need."""
    interventions = [
        parts_of(image, target)
        for image, target in zip(trace.images, trace.targets.tolist(), strict=True)
    ]
    return replace(trace, interventions=tuple(interventions))


def annotated(trace: ab.Trace) -> ab.Batch:
    """Return a batch whose images have an object with a mask and two others.

    One of the others is of the next class, and one of the same class.
    """
    boxes = torch.tensor([[2.0, 3.0, 30.0, 31.0], [0.0, 0.0, 20.0, 40.0], [30.0, 5.0, 44.0, 30.0]])
    inside = (torch.arange(trace.images.shape[3]) < 30).expand(trace.images.shape[2:])
    notes = []
    for label in trace.targets:
        labels = torch.stack([label, label + 1, label])
        mask = torch.where(inside, label, -1)
        notes.append(ab.Annotation(labels, boxes, mask, explained=0))
    return ab.Batch(trace.images, tuple("abc"), trace.targets, tuple(notes))


def test_the_passes_of_a_request_have_one_size(network, images, monkeypatch):
    """Check that the size is a power of two and at most the number of copies.

    The last pass is filled up, and the filling isn't counted.
    """
    trace = ab.trace(network, "layer4", images, torch.tensor([0, 1, 2]))
    rows = []
    forward = trace.cut_model.forward_logits
    monkeypatch.setattr(
        trace.cut_model,
        "forward_logits",
        lambda images: rows.append(len(images)) or forward(images),
    )
    assert rows_per_pass(trace, 1000) == 32

    for count, sizes in ((1, [3]), (7, [21]), (25, [32, 32, 32])):
        explanation = explained(trace, annotated(trace), METHODS[0])
        rows.clear()
        before = replace(trace.passes)

        def asking(explanation: Explanation, count: int = count):
            perturbed = images[:, None].expand(-1, count, -1, -1, -1)
            request = PerturbedImages("mine", count, lambda rows, copies: perturbed[rows, copies])
            return (yield request)

        logits = plugins.plugin_for("metric", asking)(explanation)

        assert logits.shape == (3, count, 7)
        expected = trace.logits[:, None].expand(-1, count, -1)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        assert rows == sizes
        assert trace.passes.trunk_forward - before.trunk_forward == 3 * count
        assert trace.passes.head_forward - before.head_forward == 3 * count


def test_padded_rows_are_not_run_and_have_the_last_rows_answer(network, images):
    full = torch.cat([images, images[-1:], images[-1:]])
    trace = ab.trace(network, "layer4", full, torch.tensor([0, 1, 2, 2, 2]))
    padded = replace(trace, num_padding=2)
    before = trace.passes.trunk_forward
    deletion = with_few_passes(metrics.get("deletion_auc"))

    actual = deletion(explained(padded, annotated(padded), METHODS[0]))["deletion_auc"]

    assert trace.passes.trunk_forward - before == 3 * 5
    expected = deletion(explained(trace, annotated(trace), METHODS[0]))
    assert torch.equal(actual, expected["deletion_auc"])


def test_rows_of_one_image_share_the_passes_that_depend_on_no_map(network, images):
    """Check the scores of each row's own class, also for a slice of the trace, bit by bit."""
    targets = torch.tensor([0, 1, 2, 3])
    metric = with_few_passes(metrics.get("single_deletion"))
    batch = ab.Batch(images[[0, 1, 1, 2]], tuple("abbc"), targets)
    trace = ab.trace(network, "layer4", batch.images, targets)
    before = trace.passes.trunk_forward

    together = metric(explained(replace(trace), batch, METHODS[0]))
    assert trace.passes.trunk_forward - before == 3 * 3**2
    assert len(together.unique()) == 4
    with every_copy_is_classified():
        assert torch.equal(metric(explained(replace(trace), batch, METHODS[0])), together)
    assert trace.passes.trunk_forward - before == (3 + 4) * 3**2

    metric(explained(trace, batch, METHODS[0]))
    part = trace[1:3]
    other = plugins.with_params("metric", "single_deletion", {"grid": 3, "fill": "mean"})
    before = trace.passes.trunk_forward
    assert len(other(explained(part, batch[1:3], METHODS[0])).unique()) == 2
    assert trace.passes.trunk_forward - before == 3**2


SLOW_NETWORKS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "mobilenet_v2", "vgg11")
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", *SLOW_NETWORKS])
def test_a_row_is_the_same_wherever_it_stands_in_its_pass(name):
    """Check the property that sharing passes relies on."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=9).eval()
    images = torch.randn(4, 3, 64, 64)
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
    trace = ab.trace(model, names[0], images)
    size = rows_per_pass(trace, 1000)
    others = torch.randn(size, 3, 64, 64)
    logits = []
    for position in (0, 1, size // 2, size - 2, size - 1):
        others[position] = images[0]
        logits.append(trace.network.forward_logits(others)[position])
        assert torch.equal(logits[-1], logits[0])


def test_methods_that_memory_does_not_hold_together_have_the_same_values(network, images):
    """Compare a cut that may hold two methods' contributions with one that holds all."""
    tables = []
    measured = [metrics.get("random_logit"), metrics.get("gini")]
    activations = 3 * 512 * 2 * 2 * 4  # bytes
    for memory in (2 * activations, 2**30):
        cut = ab.cut(network, "layer1.0", ablation_memory=memory)
        trace = cut.trace(images, torch.tensor([0, 1, 2]))
        tables.append(table(trace, annotated(trace), METHODS, measured))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_one_other_trace_is_held_at_a_time(net, batch, trace):
    others = weakref.WeakSet()
    counts = []
    gc.freeze()  # objects that other tests left don't matter here, and take long to search

    def counting(explained_trace: ab.Trace) -> Tensor:
        gc.collect()
        if explained_trace is not trace:
            others.add(explained_trace)
        counts.append(len(others))
        return explained_trace.gradients

    sensitivity = with_few_passes(metrics.get("explanation_sensitivity_captum"))
    table(trace, batch, two_methods(counting), [sensitivity, metrics.get("random_logit")])
    assert max(counts) == 1


def two_methods(function) -> list[Plugin]:
    return [
        Plugin(name, "tests.mine", function, MethodSpec(on_score_scale=True))
        for name in ("first", "second")
    ]


def test_a_wrong_request_is_named(net, batch):
    snow = plugins.with_params("metric", "average_drop", {"fill": "snow"})
    nonsense = plugins.with_params("metric", "deletion_auc", {"output": "nonsense"})
    nonsense = replace(nonsense, spec=replace(nonsense.spec, needs=()))

    def wrong(explanation):
        yield "an answer"

    def too_few(explanation):
        yield PerturbedImages("short", 2, lambda rows, copies: explanation.images[rows, None])

    sentences = [
        (snow, "'average_drop' can't be measured: A perturbation's fill is .* 'snow'"),
        (nonsense, "'deletion_auc' can't be measured: There is no output 'nonsense'"),
        (wrong, "The metric 'wrong' yielded a str; a metric yields PerturbedImages or Reexp"),
        (too_few, "'too_few' can't be measured: the request 'short' has 4 perturbed images, not 2"),
    ]
    for metric, sentence in sentences:
        with pytest.raises(BenchError, match=sentence):
            evaluate(net, "1", [batch], ["grad_cam"], [metric])


def test_a_users_generator_metric_shares_traces_and_an_error_has_its_place(trace, batch):
    def mine(explanation):
        again = yield Reexplanation(
            trace.again,
            lambda other: other.raw_map.flatten(1).sum(1),
            key="again",
        )
        return again - explanation.raw_map.flatten(1).sum(1)

    before = trace.passes.trunk_forward
    values = table(trace, batch, METHODS[:2], [plugins.plugin_for("metric", mine)]).value
    assert set(values) == {0.0}
    assert trace.passes.trunk_forward - before == len(trace)  # one other trace for both methods

    def failing(explanation):
        yield Reexplanation(trace.again, lambda other: other.raw_map)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError) as caught:
        table(trace, batch, METHODS[:1], [plugins.plugin_for("metric", failing)])
    (note,) = caught.value.__notes__
    assert note.startswith("raised by 'failing' (")
    assert f"{__file__.rpartition('/')[2]}:" in note
