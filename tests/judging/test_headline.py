"""The rule that chooses the metrics of a report's headline, on invented cards and the real one."""

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
    test,
    network="net_0",
    passes: bool | None = True,
    value=0.9,
    circular=False,
    truth="truth",
):
    return Row("mine", test, network, truth, value, 0.8, 1.0, 100, circular, passes)


def failures(test, networks):
    return [row(test, network, passes=False) for network in networks]


NETWORK_TESTS = (TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS)
GOOD = [row(test, network) for test in NETWORK_TESTS for network in NETWORKS]
GOOD += [row(SANITY, truth="mirrored"), row(GAMING)]

# Rows that replace the good ones of their test, network and truth, such that the metric fails.
FAILING_ROWS: dict[str, list[Row]] = {
    "a method is significantly ahead of the truth": [row(TRUTH_FIRST, passes=False, value=0.44)],
    "a relation": [row(SANITY, passes=False, truth="mirrored")],
    "a blind map": [row(GAMING, passes=False)],
    f"{TRUTH_AHEAD} on two networks of ten": failures(TRUTH_AHEAD, NETWORKS[:2]),
    f"{DEGREES} on two networks of ten": failures(DEGREES, NETWORKS[:2]),
    f"{CONTROLS} on two networks of ten": failures(CONTROLS, NETWORKS[:2]),
}
# Rows that replace good ones while the metric still leads.
HARMLESS_ROWS: dict[str, list[Row]] = {
    "by a hair": [row(TRUTH_FIRST, passes=False, value=0.46)],
    "on one network of ten": [
        row(TRUTH_AHEAD, passes=False),
        row(DEGREES, passes=False),
        row(CONTROLS, passes=False),
    ],
    "reliability": [row(RELIABILITY, passes=False)],
    "a circular row": [row(TRUTH_FIRST, "net_10", None, 0.0, circular=True)],
    "another truth": [row(TRUTH_FIRST, passes=False, value=0.1, truth="truth_drops")],
    "a number without a verdict": [row(GAMING, "net_1", None, 0.9)],
}


@pytest.mark.parametrize("name", [*FAILING_ROWS, *HARMLESS_ROWS])
def test_whether_a_metric_leads(name):
    def key(row):
        return (row.test, row.network, row.truth)

    changed = FAILING_ROWS.get(name) or HARMLESS_ROWS[name]
    replaced = {key(row) for row in changed}
    kept = [row for row in GOOD if key(row) not in replaced]
    expected = ["mine"] if name in HARMLESS_ROWS else []
    assert leaders(frame([*kept, *changed])) == expected


@pytest.mark.parametrize("test", TESTS)
def test_what_is_not_asked_truth_or_degrees_does_not_lead(test):
    table = frame(row for row in GOOD if row.test != test)
    assert leaders(table) == ([] if TESTS[test].is_required else ["mine"])
    assert verdicts(table)["mine"].get(test) is None


def test_the_default_headline_follows_from_the_committed_card():
    config = yaml.safe_load((conf_folder() / "config.yaml").read_text())
    leading_metrics = leaders(committed_card())
    others = [metric for metric in leading_metrics if metric not in AXIOMS]
    assert config["report"]["headline"] == [*AXIOMS, *others]


def test_a_metric_with_other_parameters_has_no_rows_of_the_card():
    shipped = yaml.safe_load((conf_folder() / "metric" / "box_iou.yaml").read_text())
    assert len(committed_rows(ConfigEntry(metric=shipped), "box_iou", "box_iou"))
    shipped["box_iou"]["params"]["fraction"] = 0.5
    assert committed_rows(ConfigEntry(metric=shipped), "box_iou", "box_iou").empty
    same_name = ConfigEntry(metric={"box_iou": {"_target_": "mine.box_iou"}})
    assert committed_rows(same_name, "box_iou", "box_iou").empty
    new_metric = ConfigEntry(metric={"mine": {"_target_": "mine.mine"}})
    assert committed_rows(new_metric, "mine", "mine").empty
