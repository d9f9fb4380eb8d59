"""The comparison of a run with a baseline, which needs only records and statistics.

`axiom-bench gate`, the pytest plug-in and scripts use it to stop a change that moves values.
"""

from __future__ import annotations

from axiom_bench.gate.baseline import write_baseline
from axiom_bench.gate.compare import Limit, tolerance
from axiom_bench.gate.comparison import GateOptions, GateResult, gate
from axiom_bench.gate.findings import Finding
from axiom_bench.gate.outputs import json_text, junit_xml, markdown, write_markdown

__all__ = [
    "Finding",
    "GateOptions",
    "GateResult",
    "Limit",
    "gate",
    "json_text",
    "junit_xml",
    "markdown",
    "tolerance",
    "write_baseline",
    "write_markdown",
]
