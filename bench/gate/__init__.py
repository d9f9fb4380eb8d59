"""Comparison of a run with a baseline: 0 holds, 1 moved, 2 can't compare. Imports report's summaries and records.

Needs no torch and no matplotlib.
"""

from __future__ import annotations

from axiom_bench.gate.baseline import baseline_of, write_baseline
from axiom_bench.gate.comparison import GateResult, gate
from axiom_bench.gate.tolerance import Limit, tolerance

__all__ = ["GateResult", "Limit", "baseline_of", "gate", "tolerance", "write_baseline"]
