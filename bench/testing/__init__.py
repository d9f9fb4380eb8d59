"""The common suites for anyone's method or metric; they may import every room.

In a test of your own: `check_method(my_cam)`, `check_metric(my_metric)`.
"""

from __future__ import annotations

from axiom_bench.testing.cases import CASES, Case
from axiom_bench.testing.method_checks import CHECKS as METHOD_CHECKS
from axiom_bench.testing.method_checks import accepted_cases, check_method, exemptions
from axiom_bench.testing.metric_checks import CHECKS as METRIC_CHECKS
from axiom_bench.testing.metric_checks import METRIC_CASES, answered, check_metric

__all__ = [
    "CASES", "METHOD_CHECKS", "METRIC_CASES", "METRIC_CHECKS", "Case", "accepted_cases", "answered", "check_method",
    "check_metric", "exemptions",
]  # fmt: skip
