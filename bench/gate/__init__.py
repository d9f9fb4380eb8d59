"""Comparison of a run with a baseline. Imports report's summaries and records."""

from __future__ import annotations

from axiom_bench.gate.baseline import baseline_of, write_baseline
from axiom_bench.gate.comparison import Comparison, GateResult, gate
from axiom_bench.gate.findings import Finding
from axiom_bench.gate.json_output import json_text
from axiom_bench.gate.junit import junit_xml
from axiom_bench.gate.limits import Limit, tolerance
from axiom_bench.gate.markdown_page import markdown, write_markdown

__all__ = [
    "Comparison",
    "Finding",
    "GateResult",
    "Limit",
    "baseline_of",
    "gate",
    "json_text",
    "junit_xml",
    "markdown",
    "tolerance",
    "write_baseline",
    "write_markdown",
]
