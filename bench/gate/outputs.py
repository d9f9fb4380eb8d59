"""The result of a gate for programs: JUnit's XML, which CI services show as tests, and JSON."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from axiom_bench.gate.by_image import MovedImage
from axiom_bench.gate.comparison import MOVED, NOT_COMPARABLE, GateResult
from axiom_bench.gate.findings import KEY, Finding

# What XML 1.0 can't hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Case = tuple[str, str]  # class name and name


def junit_xml(result: GateResult) -> str:
    """One testsuite for each model, layer and data set, with the attributes and elements that the schema of Ant's JUnit
    task asks for, so that stricter readers take it too.

    Failures are findings, one test for each row that was compared and for each name that came or went; a gate that
    can't compare is one test with an error. With allowed improvements, which hold, nothing fails."""
    root = Element("testsuites")
    suites = _suites(result)
    for number, (name, cases) in enumerate(suites.items()):
        suite = _suite(root, name, number, cases, result)
        for (class_name, test), findings in cases.items():
            case = SubElement(suite, "testcase", name=_clean(test), classname=_clean(class_name), time="0")
            if findings and result.exit_code == MOVED:
                lines = [_clean(finding.line) for finding in findings]
                SubElement(case, "failure", message=lines[0], type=findings[0].verdict).text = "\n".join(lines)
            elif result.exit_code == NOT_COMPARABLE:
                SubElement(case, "error", message=_clean(result.conclusion), type="not_comparable")
        SubElement(suite, "system-out").text = _clean(result.conclusion)
        SubElement(suite, "system-err")
    indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suites(result: GateResult) -> dict[str, dict[Case, list[Finding]]]:
    """{name of a suite: {test: its findings}}"""
    suites: dict[str, dict[Case, list[Finding]]] = defaultdict(dict)
    for row in result.rows:
        suites[".".join(row[:3])].setdefault((".".join(row[:4]), row[4]), [])
    for finding in result.findings:
        if finding.row is not None:
            suite, case = ".".join(finding.row[:3]), (".".join(finding.row[:4]), finding.row[4])
        else:
            suite, case = "names", ("names", " ".join(finding.place))
        suites[suite].setdefault(case, []).append(finding)
    if not suites:
        suites["gate"]["gate", "comparison"] = []
    return suites


def _suite(
    root: Element, name: str, number: int, cases: Mapping[Case, Sequence[Finding]], result: GateResult
) -> Element:
    failures = sum(bool(findings) for findings in cases.values()) if result.exit_code == MOVED else 0
    errors = len(cases) if result.exit_code == NOT_COMPARABLE else 0
    about = {
        "name": _clean(name), "package": "axiom-bench", "id": str(number), "tests": str(len(cases)),
        "failures": str(failures), "errors": str(errors), "time": "0", "hostname": "localhost",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
    }  # fmt: skip
    suite = SubElement(root, "testsuite", about)
    properties = SubElement(suite, "properties")
    for key, value in (("run", result.run), ("baseline", result.baseline)):
        SubElement(properties, "property", name=key, value=_clean(value))
    return suite


def _clean(text: str) -> str:
    """At least one character, none that XML can't hold."""
    return _FORBIDDEN.sub("\ufffd", text).strip() or "-"


FORMAT = 1  # of the JSON: counted up where a key changes its meaning or goes
VERDICTS = {0: "holds", 1: "moved", 2: "not_comparable"}  # of exit codes


def json_text(result: GateResult) -> str:
    """Keys as docs/ci.md describes them; a number that isn't finite is null."""
    content = {
        "format": FORMAT,
        "run": result.run,
        "baseline": result.baseline,
        "exit_code": result.exit_code,
        "verdict": VERDICTS[result.exit_code],
        "conclusion": result.conclusion,
        "notes": list(result.notes),
        "rows_compared": len(result.rows),
        "findings": [_finding(finding) for finding in result.findings],
        "images": [_image(image) for image in result.images],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    row = finding.row
    place = dict(zip(KEY, row, strict=True)) if row else {finding.place[0]: finding.place[1]}
    return {
        **{name: place.get(name) for name in KEY},
        "what": finding.what,
        "verdict": finding.verdict,
        "before": _number(finding.before),
        "after": _number(finding.after),
        "allowed": _number(finding.allowed),
        "p": _number(finding.p),
        "sentence": finding.line,
    }


def _image(image: MovedImage) -> dict[str, Any]:
    about = {"image_id": image.image_id, "target_class": image.target_class}
    values = {"before": _number(image.before), "after": _number(image.after)}
    return {**dict(zip(KEY, image.row, strict=True)), **about, **values}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
