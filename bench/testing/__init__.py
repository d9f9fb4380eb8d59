"""The common suites that check a method or a metric, the project's own or a user's.

In a test of your own, call `check_method(my_cam)` or `check_metric(my_metric)`. The suites may
import every room.
"""

from __future__ import annotations

from axiom_bench.testing.cases import CASES, Case
from axiom_bench.testing.method_checks import CHECKS as METHOD_CHECKS
from axiom_bench.testing.method_checks import accepted_cases, check_method, exemptions
from axiom_bench.testing.metric_checks import CHECKS as METRIC_CHECKS
from axiom_bench.testing.metric_checks import METRIC_CASES, answered, check_metric

__all__ = [
    "CASES",
    "METHOD_CHECKS",
    "METRIC_CASES",
    "METRIC_CHECKS",
    "Case",
    "accepted_cases",
    "answered",
    "check_method",
    "check_metric",
    "exemptions",
]
