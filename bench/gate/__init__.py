"""Comparison of a run with a baseline. Imports report's summaries and records."""

from __future__ import annotations

from axiom_bench.gate.baseline import baseline_of, write_baseline
from axiom_bench.gate.comparison import GateResult, gate
from axiom_bench.gate.limits import Limit, tolerance

__all__ = ["GateResult", "Limit", "baseline_of", "gate", "tolerance", "write_baseline"]
