"""The result of a gate as JSON, for programs: FORMAT is counted up where a key changes its meaning or goes."""

from __future__ import annotations

import json
import math
from typing import Any

from axiom_bench.gate.comparison import GateResult
from axiom_bench.gate.findings import KEY, Finding
from axiom_bench.gate.moved_images import MovedImage

FORMAT = 1
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
