"""The rule by which metrics lead a report, on made cards and on the committed one."""

from __future__ import annotations

import pytest
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.judging.card import committed_card, committed_rows, frame, leaders, verdicts
from axiom_bench.judging.tests import (
    CONTROLS,
    DEGREES,
    GAMING,
    RELIABILITY,
    SANITY,
    TESTS,
    TRUTH_AHEAD,
    TRUTH_FIRST,
    Row,
)
from axiom_bench.records.entries import ConfigEntry

NETWORKS = [f"net_{number}" for number in range(10)]
AXIOMS = ["sensitivity_error", "conservation_error"]


def row(
    test, network="net_0", passes: bool | None = True, value=0.9, circular=False, truth="truth"
):
    return Row("mine", test, network, truth, value, 0.8, 1.0, 100, circular, passes)


GOOD = [
    *(
        row(test, network)
        for test in (TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS)
        for network in NETWORKS
    ),
    row(SANITY, truth="mirrored"),
    row(GAMING),
]
# Rows that replace the good ones of their test, network and truth; and whether the metric leads
# with them.
CASES: dict[str, tuple[list[Row], bool]] = {
    "a method is significantly ahead of the truth": (
        [row(TRUTH_FIRST, passes=False, value=0.44)],
        False,
    ),
    "a relation": ([row(SANITY, passes=False, truth="mirrored")], False),
    "a blind map": ([row(GAMING, passes=False)], False),
    **{
        f"{test} on two networks of ten": (
            [row(test, network, passes=False) for network in NETWORKS[:2]],
            False,
        )
        for test in (TRUTH_AHEAD, DEGREES, CONTROLS)
    },
    "by a hair": ([row(TRUTH_FIRST, passes=False, value=0.46)], True),
    "on one network of ten": (
        [row(test, passes=False) for test in (TRUTH_AHEAD, DEGREES, CONTROLS)],
        True,
    ),
    "reliability": ([row(RELIABILITY, passes=False)], True),
    "a circular row": ([row(TRUTH_FIRST, "net_10", None, 0.0, circular=True)], True),
    "another truth": ([row(TRUTH_FIRST, passes=False, value=0.1, truth="truth_drops")], True),
    "a number without a verdict": ([row(GAMING, "net_1", None, 0.9)], True),
}


@pytest.mark.parametrize("name", CASES)
def test_whether_a_metric_leads(name):
    changed, is_leading = CASES[name]
    replaced = {(each.test, each.network, each.truth) for each in changed}
    kept = [each for each in GOOD if (each.test, each.network, each.truth) not in replaced]
    assert leaders(frame([*kept, *changed])) == ["mine"] * is_leading


@pytest.mark.parametrize("test", TESTS)
def test_what_is_not_asked_truth_or_degrees_does_not_lead(test):
    table = frame(each for each in GOOD if each.test != test)
    assert leaders(table) == ["mine"] * (not TESTS[test].is_required)
    assert verdicts(table)["mine"].get(test) is None


def test_the_default_headline_follows_from_the_committed_card():
    default = yaml.safe_load((conf_folder() / "config.yaml").read_text())["report"]["headline"]
    assert default == [*AXIOMS, *(name for name in leaders(committed_card()) if name not in AXIOMS)]


def test_a_metric_with_other_parameters_has_no_rows_of_the_card():
    shipped = yaml.safe_load((conf_folder() / "metric" / "box_iou.yaml").read_text())
    assert len(committed_rows(ConfigEntry(metric=shipped), "box_iou", "box_iou"))
    shipped["box_iou"]["params"] = shipped["box_iou"]["params"] | {"fraction": 0.5}
    assert committed_rows(ConfigEntry(metric=shipped), "box_iou", "box_iou").empty
    foreign = ConfigEntry(metric={"box_iou": {"_target_": "mine.box_iou"}})
    assert committed_rows(foreign, "box_iou", "box_iou").empty
    assert committed_rows(
        ConfigEntry(metric={"mine": {"_target_": "mine.mine"}}), "mine", "mine"
    ).empty
