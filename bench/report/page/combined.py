"""The runs that a report combines: when, on which device and with which versions each was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render
from axiom_bench.report.page.this_run import precision
from axiom_bench.statistics.run_folder import RunFolder


def section(run: RunFolder) -> Section:
    """A table of the runs, and one of the versions."""
    runs = run.manifest["runs"]
    libraries = dict.fromkeys(name for part in runs for name in part.get("versions") or ())
    body = render(
        "combined.html.j2",
        runs=[_about(part) for part in runs],
        versions=[(name, [(part.get("versions") or {}).get(name) or "" for part in runs]) for name in libraries],
    )
    return Section("combined", "Combined runs", body)


def _about(part: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": f"{part['experiment']}/{part['run']}",
        "folder": str(part.get("folder") or ""),
        "made": str(part.get("created") or ""),
        "models": ", ".join(part.get("models") or ()),
        "data": ", ".join(part.get("data") or ()),
        "device": str(part.get("device") or "unknown"),
        "precision": precision(part.get("precision")) or "unknown",
        "commit": str(part.get("git_commit") or "")[:12],
    }
