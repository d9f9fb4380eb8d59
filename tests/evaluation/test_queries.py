"""What metrics ask the model, asked for all methods together: as many passes as are needed, and not a bit changed."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.cutting.passes import rows_at_once
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins, queries
from axiom_bench.evaluation.evaluate import evaluate, explained, frame, queries_of, rows_of
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.evaluation.queries import MOST_ROWS, Again, Copies
from axiom_bench.evaluation.specs import MethodSpec, MetricSpec
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.run.costs import Cost

METHODS = [methods.get(name) for name in ("grad_cam", "xgrad_cam", "centered", "random")]
ASKING = [metric for metric in (metrics.get(name) for name in metrics.names()) if metric.spec.queries]


def table(trace: ab.Trace, batch: ab.Batch, chosen: list[Plugin], measured: list[Plugin]) -> pd.DataFrame:
    return frame(part for part in rows_of(trace, batch, chosen, measured) if "value" in part)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """float32, where a pass of another size may round otherwise."""
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None, num_classes=7).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 40, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def traced(network, images) -> ab.Trace:
    return ab.trace(network, "layer4", images, torch.tensor([0, 1, 2]))


def test_a_run_of_all_metrics_costs_what_is_said(trace, batch):
    """Not a pass more for the second method where the image pays, and none for a model that is asked the same twice."""
    known = [metric for metric in (metrics.get(name) for name in metrics.names()) if metric.spec.of == "method"]
    chosen = [methods.get("grad_cam"), methods.get("hires_cam"), methods.get("layer_cam")]
    before = trace.passes.trunk_forward
    found = table(trace, batch, chosen, known)
    measured = [one for one in known if set(value_names(one)) & set(found.metric[found.status == "ok"])]
    assert (trace.passes.trunk_forward - before) / len(trace) == Cost.of(measured, 3).per_image


def test_in_company_every_value_is_what_it_is_alone(traced):
    """Bit by bit, in float32: all methods and all metrics that ask, against one method and one metric at a time."""
    few = [with_few_passes(metric) for metric in ASKING]
    batch = annotated(traced)
    together = table(replace(traced), batch, METHODS, few).set_index(["method", "metric"])
    good = together[together.status == "ok"].index.get_level_values("metric")
    assert set(good) >= {name for metric in few for name in value_names(metric)}
    for method in METHODS:
        for metric in few:
            alone = table(replace(traced), batch, [method], [metric]).set_index(["method", "metric"])
            pd.testing.assert_frame_equal(together.loc[alone.index.unique()], alone, check_exact=True)


def with_few_passes(metric: Plugin) -> Plugin:
    """At parameters that cost less; the default metrics take minutes."""
    fewer = {"steps": 5, "subsets": 4, "squares": 1, "samples": 2}
    params = {**metric.params, **{name: value for name, value in fewer.items() if name in metric.params}}
    return plugins.from_config(
        "metric", metric.name, {**metric.spec.as_dict(), "_target_": metric.target, "params": params}
    )


def annotated(trace: ab.Trace) -> ab.Batch:
    boxes = torch.tensor([[2.0, 3.0, 30.0, 31.0], [0.0, 0.0, 20.0, 40.0]])
    notes = tuple(ab.Annotation(torch.stack([target, target + 1]), boxes) for target in trace.targets)
    return ab.Batch(trace.images, tuple("abc"), trace.targets, notes)


def test_all_copies_share_passes_of_one_size(network, images, monkeypatch):
    """1, 1, 3 and 7 copies of three images for four methods: full passes, and one that is filled up."""
    trace = ab.trace(network, "layer4", images, torch.tensor([0, 1, 2]))
    rows, forward = [], trace.cut_model.forward_logits
    monkeypatch.setattr(trace.cut_model, "forward_logits", lambda images: rows.append(len(images)) or forward(images))
    few = [("confidence_drop", {}), ("average_drop", {}), ("insertion_auc", {"steps": 3}), ("road_morf", {})]
    chosen = [plugins.from_config("metric", name, {**metrics.get(name).spec.as_dict(), "_target_": metrics.get(name).target,
                                                   "params": {**metrics.get(name).params, **params}})
              for name, params in few]  # fmt: skip
    size = min(rows_at_once(trace, images[0]), MOST_ROWS["cpu"])
    before = replace(trace.passes)
    table(trace, annotated(trace), METHODS, chosen)
    asked = len(METHODS) * len(images) * (1 + 1 + 3 + 7)
    assert trace.passes.trunk_forward - before.trunk_forward == asked
    assert trace.passes.head_forward - before.head_forward == asked
    assert size == 64
    assert rows == [size] * -(-asked // size)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2", "shufflenet_v2_x0_5", "vgg11"])
def test_a_row_is_the_same_wherever_it_stands_in_its_pass(name):
    """What sharing passes rests on."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=9).eval()
    images = torch.randn(4, 3, 64, 64)
    trace = ab.trace(model, next(name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)), images)
    size = rows_at_once(trace, images[0])
    others = torch.randn(size, 3, 64, 64)
    expected = None
    for place in (0, 1, size // 2, size - 2, size - 1):
        others[place] = images[0]
        logits = trace.forward_logits(others)[place]
        expected = logits if expected is None else expected
        assert torch.equal(logits, expected)


def test_methods_that_memory_does_not_hold_together_have_the_same_values(network, images):
    """A cut that may hold two methods' contributions, and one that holds all."""
    found = []
    activations = 3 * 512 * 2 * 2 * 4  # bytes
    for memory in (2 * activations, 2**30):
        cut = ab.cut(network, "layer1.0.conv1", ablation_memory=memory)
        trace = cut.trace(images, torch.tensor([0, 1, 2]))
        found.append(table(trace, annotated(trace), METHODS, [metrics.get("random_logit"), metrics.get("gini")]))
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_one_other_trace_is_held_at_a_time(net, batch, trace):
    held, most = weakref.WeakSet(), 0

    def counting(of: ab.Trace) -> Tensor:
        nonlocal most
        gc.collect()
        if of is not trace:
            held.add(of)
        most = max(most, len(held))
        return of.gradients

    known = [Plugin(name, "tests.counting", counting, MethodSpec(on_score_scale=True)) for name in ("one", "two")]
    table(trace, batch, known, [metrics.get("explanation_sensitivity"), metrics.get("random_logit")])
    assert most == 1


def test_another_trace_is_made_once_for_all_methods(trace, batch):
    seen = []

    def noting(of: ab.Trace) -> Tensor:
        seen.append(of)
        return of.gradients

    known = [Plugin(name, "tests.noting", noting, MethodSpec(on_score_scale=True)) for name in ("one", "two")]
    table(trace, batch, known, [metrics.get("explanation_sensitivity"), metrics.get("random_logit")])
    assert len(seen) == 2 * (1 + 10 + 1)
    assert len({id(of) for of in seen}) == 1 + 10 + 1


def test_what_is_held_is_not_asked_again(trace, batch):
    method = methods.get("grad_cam")
    explanation = explained(trace, batch, method)
    asked = [("deletion_auc", query) for query in queries_of(metrics.get("deletion_auc"), explanation)]
    assert [isinstance(query, Copies) for _, query in asked] == [True]
    queries.ask(asked)
    before = replace(trace.passes)
    queries.ask([*asked, *asked])
    asked[0][1].answer()
    assert trace.passes == before


def test_a_metric_that_asks_wrongly_is_named(net, batch):
    def fill(value: str) -> Plugin:
        known = metrics.get("average_drop")
        return plugins.from_config(
            "metric", "mine", {**known.spec.as_dict(), "_target_": known.target, "params": {"fill": value}}
        )

    with pytest.raises(BenchError, match=r"The metric 'mine' can't be measured: A perturbation's fill is .* 'snow'"):
        evaluate(net, "1", [batch], ["grad_cam"], [fill("snow")])
    known = metrics.get("deletion_auc")
    about = {
        **known.spec.as_dict(),
        "_target_": known.target,
        "params": {**known.params, "output": "nonsense"},
        "needs": [],
    }
    with pytest.raises(BenchError, match=r"The metric 'mine' can't be measured: There is no output 'nonsense'"):
        evaluate(net, "1", [batch], ["grad_cam"], [plugins.from_config("metric", "mine", about)])
    config = {
        "_target_": "axiom_bench.metrics.average_drop.average_drop",
        "queries": "axiom_bench.metrics.average_drop.nothing",
    }
    with pytest.raises(BenchError, match=r"^The metric 'mine' names 'axiom_bench.metrics.average_drop.nothing'"):
        plugins.from_config("metric", "mine", config)


def test_copies_that_are_too_few_are_named(trace):
    short = Copies(trace, replace(trace), "short", 2, lambda rows: iter([trace.images]), lambda logits, _: logits)
    with pytest.raises(BenchError, match=r"'mine' can't be measured: 'short' gives 4 copies less than 2 of 4 images"):
        queries.ask([("mine", short)])


def test_a_metric_of_ones_own_asks_with_the_others(trace, batch):
    """A module's function of a query, as a YAML's dotted path would name it."""
    asked = []

    def query(explanation: Explanation) -> Again:
        asked.append(explanation)
        return Again(explanation, "again", trace.again, "mine", lambda again: again.raw_map.flatten(1).sum(1))

    def mine(explanation: Explanation) -> Tensor:
        return query(explanation).answer() - explanation.raw_map.flatten(1).sum(1)

    plugin = Plugin("mine", "tests.mine", mine, MetricSpec())
    assert set(table(trace, batch, METHODS[:2], [plugin]).value) == {0.0}
    assert queries_of(plugin, asked[0]) == []


def test_nothing_to_ask_asks_nothing(trace, batch):
    before = replace(trace.passes)
    table(trace, batch, METHODS, [metrics.get("gini")])
    queries.ask([])
    assert trace.passes == before
