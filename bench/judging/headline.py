"""Which metrics lead a report: a rule over the scorecard, older than what it judges. A metric leads that is asked both
truth tests and degrees, and that passes every test it is asked:

- Truth ahead, by the primary truth: on at least SHARE of the networks no method or control has a better value. That
  none is significantly better isn't enough: of few images, or noisy values, nothing is.
- Truth first, by the primary truth: on no network is a method or control significantly better than the truth and, at
  the same time, better on more than half of the images by MARGIN.
- Degrees and controls: passed on at least SHARE of the networks. Sanity and gaming: by every relation and network.

Reliability isn't asked: it tells how many images a ranking takes, not whether the ranking is right. Circular rows count
for nothing. Where no metric passes, the axiom errors of the paper lead alone, as axioms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.judging.card import CONTROLS, DEGREES, GAMING, OF_A_TRUTH, SANITY, TRUTH_AHEAD, TRUTH_FIRST

PRIMARY = "truth"  # Shapley values: of channels where the network tells them, else of the image's parts
MARGIN = 0.05
SHARE = 0.9
ASKED = (TRUTH_AHEAD, TRUTH_FIRST, DEGREES, CONTROLS, SANITY, GAMING)
NEEDED = (TRUTH_AHEAD, TRUTH_FIRST, DEGREES)  # without these a metric isn't judged


def verdicts(card: pd.DataFrame) -> dict[str, dict[str, bool | None]]:
    """{metric: {test of ASKED: whether the rule holds}}, None where the test isn't asked of the metric."""
    counted: dict[str, dict[str, list[Any]]] = {str(metric): {} for metric in card["metric"].unique()}
    row: Any
    for row in card[["metric", "test", "truth", "circular", "passes", "value"]].itertuples(index=False):
        if not row.circular and not pd.isna(row.passes) and (row.test not in OF_A_TRUTH or row.truth == PRIMARY):
            counted[row.metric].setdefault(row.test, []).append(row)
    return {
        metric: {test: _holds(test, rows_of[test]) if test in rows_of else None for test in ASKED}
        for metric, rows_of in counted.items()
    }


def leaders(card: pd.DataFrame) -> list[str]:
    """The metrics that the rule lets lead, in the card's order."""
    return [
        metric
        for metric, tests in verdicts(card).items()
        if False not in tests.values() and not any(tests[test] is None for test in NEEDED)
    ]


def _holds(test: str, rows: Sequence[Any]) -> bool:
    if test == TRUTH_FIRST:
        return all(row.passes or row.value >= 0.5 - MARGIN for row in rows)
    passed = [bool(row.passes) for row in rows]
    return sum(passed) / len(passed) >= SHARE if test in (TRUTH_AHEAD, DEGREES, CONTROLS) else all(passed)


@cache
def committed_card() -> pd.DataFrame:
    """docs/data/scorecard.csv, which is installed with the package: the columns of `card.Row`, and commit."""
    card = pd.read_csv(conf_folder().parent / "scorecard.csv", dtype={"passes": str}, keep_default_na=False)
    for name in ("value", "low", "high"):
        card[name] = pd.to_numeric(card[name])
    card["passes"] = card["passes"].map({"True": True, "False": False})
    return card


def committed_rows(config: Mapping[str, Any], metric: str, value: str) -> pd.DataFrame:
    """The committed card's rows of a value of a metric; none where a run's config has the metric with other code or
    parameters than those that were judged."""
    is_ours = metric in entry_names("metric")
    shipped = read_yaml(conf_folder() / "metric" / f"{metric}.yaml").get(metric) if is_ours else None
    card = committed_card()
    is_same = bool(shipped) and _settings((config.get("metric") or {}).get(metric)) == _settings(shipped)
    return card[card["metric"] == value] if is_same else card[:0]


def _settings(entry: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The code and the parameters of a metric's entry."""
    return (entry or {}).get("_target_"), (entry or {}).get("params") or {}
