"""The rule by which metrics lead a report, on made cards and on the committed one."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.judging.card import committed_card, committed_rows, leaders, verdicts
from axiom_bench.judging.tests import (
    CONTROLS,
    DEGREES,
    GAMING,
    RELIABILITY,
    SANITY,
    TRUTH_AHEAD,
    TRUTH_FIRST,
    Row,
)

NETWORKS = [f"net_{number}" for number in range(10)]
AXIOMS = ["sensitivity_error", "conservation_error"]


def row(test, network="net_0", passes: bool | None = True, value=0.9, circular=False, truth="truth"):
    return Row("mine", test, network, truth, value, 0.8, 1.0, 100, circular, passes)


GOOD = [
    *(row(test, network) for test in (TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS) for network in NETWORKS),
    row(SANITY, truth="mirrored"),
    row(GAMING),
]
FAILING = {  # rows that replace the good ones of their test and network
    "a method is significantly ahead of the truth": row(TRUTH_FIRST, passes=False, value=0.44),
    "a relation": row(SANITY, passes=False),
    "a blind map": row(GAMING, passes=False),
}
HARMLESS = {
    "by a hair": row(TRUTH_FIRST, passes=False, value=0.46),
    "on one network of ten": row(DEGREES, passes=False),
    "a method is ahead on one network of ten": row(TRUTH_AHEAD, passes=False),
    "reliability": row(RELIABILITY, passes=False),
    "a circular row": row(TRUTH_FIRST, "net_10", None, 0.0, circular=True),
    "another truth": row(TRUTH_FIRST, passes=False, value=0.1, truth="truth_drops"),
    "a number without a verdict": row(GAMING, "net_1", None, 0.9),
}


def card(*changed):
    replaced = {(each.test, each.network, each.truth) for each in changed}
    kept = [each for each in GOOD if (each.test, each.network, each.truth) not in replaced]
    return pd.DataFrame([*kept, *changed], columns=Row._fields)


@pytest.mark.parametrize("changed", FAILING.values(), ids=FAILING)
def test_one_failure_is_enough(changed):
    assert leaders(card(changed._replace(truth="mirrored") if changed.test == SANITY else changed)) == []


@pytest.mark.parametrize("changed", HARMLESS.values(), ids=HARMLESS)
def test_what_does_not_count(changed):
    assert leaders(card(changed)) == ["mine"]


@pytest.mark.parametrize("test", [TRUTH_AHEAD, DEGREES])
def test_two_networks_of_ten_are_too_many(test):
    assert leaders(card(*(row(test, network, passes=False) for network in NETWORKS[:2]))) == []


@pytest.mark.parametrize("test", [TRUTH_AHEAD, TRUTH_FIRST, DEGREES])
def test_what_is_not_asked_truth_first_or_degrees_does_not_lead(test):
    table = card()
    assert leaders(table[table["test"] != test]) == []
    assert verdicts(table[table["test"] != test])["mine"][test] is None


def test_gaming_is_asked_of_maps_alone():
    table = card()
    assert leaders(table[table["test"] != GAMING]) == ["mine"]


def test_the_default_headline_follows_from_the_committed_card():
    default = yaml.safe_load((conf_folder() / "config.yaml").read_text())["report"]["headline"]
    assert default == [*AXIOMS, *(name for name in leaders(committed_card()) if name not in AXIOMS)]


def test_a_metric_with_other_parameters_has_no_rows_of_the_card():
    shipped = yaml.safe_load((conf_folder() / "metric" / "box_iou.yaml").read_text())
    assert len(committed_rows({"metric": shipped}, "box_iou", "box_iou"))
    shipped["box_iou"]["params"] = shipped["box_iou"]["params"] | {"fraction": 0.5}
    assert committed_rows({"metric": shipped}, "box_iou", "box_iou").empty
    foreign = {"metric": {"box_iou": {"_target_": "mine.box_iou"}}}
    assert committed_rows(foreign, "box_iou", "box_iou").empty
    assert committed_rows({"metric": {"mine": {"_target_": "mine.mine"}}}, "mine", "mine").empty
