"""The relations that a metric's definition implies, for the networks and for every metric."""

import pytest
import torch

from axiom_bench import metrics
from axiom_bench.cutting.cut_model import trace
from axiom_bench.evaluation import plugins
from axiom_bench.testing.relations import LAYER, RELATIONS, SIZE, network, sanity
from tests.metrics.build import with_fewer

EXPECTED = {
    "mirrored": lambda logits: logits,
    "dead_channel": lambda logits: logits,
    "double_logits": lambda logits: 2 * logits,
    "constant_added": lambda logits: logits + 3,
    "shown_twice": lambda logits: logits,
}
ROUNDING = {"rtol": 0, "atol": 1e-12}  # float64, sums of some hundred terms of the size of 1


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_what_a_relation_does_to_logits_and_activations(relation):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    before = trace(network(), LAYER, images)
    channels = before.activations.shape[1]

    changed = network()
    relation.change_network(changed)
    after = trace(changed, LAYER, images.flip(3) if relation.is_mirrored else images)
    maps = after.activations.flip(3) if relation.is_mirrored else after.activations

    torch.testing.assert_close(after.logits, EXPECTED[relation.name](before.logits), **ROUNDING)
    torch.testing.assert_close(maps[:, :channels], before.activations, **ROUNDING)
    assert not maps[:, channels:].any()


def rows_of(metric):
    return sanity(metric, plugins.value_names(metric))


@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_changes_under_the_relations_that_it_names_and_no_other(name):
    changed = {row.truth: row.about for row in rows_of(with_fewer(name)) if not row.value}
    claimed = metrics.get(name).spec.changes_under
    for relation, measured in changed.items():
        assert relation in claimed, (
            f"conf/metric/{name}.yaml: under {relation} the value {measured}. "
            f'Write `changes_under: {{{relation}: "the reason"}}`, '
            f"or fix {metrics.get(name).target}."
        )
    unneeded = sorted(claimed.keys() - changed)
    assert not unneeded, f"conf/metric/{name}.yaml: nothing changes under {unneeded[0]}; remove it"


def test_a_metric_that_looks_to_one_side_is_found():
    def left(explanation):
        return explanation.heatmap[:, :, :2].sum((1, 2))

    passes = {row.truth: row.passes for row in rows_of(plugins.plugin_for("metric", left))}
    assert passes == dict.fromkeys(EXPECTED, True) | {"mirrored": False}


def test_a_metric_that_depends_on_its_batch_is_found():
    def rank(explanation):
        return explanation.heatmap.sum((1, 2)).argsort().argsort()

    rows = rows_of(plugins.plugin_for("metric", rank))
    assert [row.truth for row in rows if not row.passes] == ["shown_twice"]
