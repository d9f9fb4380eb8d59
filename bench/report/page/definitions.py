"""What each method and metric of the run computes, after which work: the words that tables and charts link to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from axiom_bench.report.page.html import Section, render
from axiom_bench.statistics.run_folder import RunFolder

STYLES, SCRIPTS = ("definitions.css",), ("definitions.js",)
RESULT = re.compile(r" -> (?:\([^)]*\)(?: each)?|two values \([^)]*\))")  # the shape at the end of a docstring's line


@dataclass(frozen=True)
class Definition:
    """id: its anchor. name: as in commands and files. formula: what is computed. facts: further sentences.

    cited: text, title and url of the work, empty where none is.
    """

    id: str
    name: str
    title: str
    formula: str
    facts: tuple[str, ...]
    cited: Mapping[str, str]


@dataclass(frozen=True)
class Terms:
    """Anchors of the definitions. methods: by name and by title. metrics: by name. titles: of metrics, by title."""

    methods: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)


def definitions_of(run: RunFolder) -> tuple[list[Definition], list[Definition]]:
    """Those of the methods and of the metrics with records, in the manifest's order."""
    methods = run.methods
    metrics = run.manifest.get("metrics") or {}
    params = {
        name: (entry or {}).get("params") or {} for name, entry in (run.config.get("metric") or {}).items()
    }  # the manifest's metrics are values, which share their metric's parameters
    of_metrics = [
        _definition("metric", name, run.metadata.value(name).title, about, _metric_facts(about, params))
        for name, about in ((name, metrics.get(name) or {}) for name in run.metrics)
    ]
    of_methods = [
        _definition(
            "method",
            name,
            run.metadata.method_title(name),
            run.metadata.method(name),
            _method_facts(run.metadata.method(name)),
        )
        for name in methods
    ]
    return of_methods, of_metrics


def section(methods: Iterable[Definition], metrics: Iterable[Definition]) -> Section:
    """Both lists, each entry an anchor."""
    body = render("definitions.html.j2", kinds={"Methods": list(methods), "Metrics": list(metrics)})
    return Section("definitions", "Definitions", body, STYLES, SCRIPTS)


def terms(methods: Iterable[Definition], metrics: Iterable[Definition]) -> Terms:
    """Where each method and metric is defined; a title of several has the first."""
    methods, metrics = list(methods), list(metrics)
    return Terms(
        {name: entry.id for entry in reversed(methods) for name in (entry.title, entry.name)},
        {entry.name: entry.id for entry in metrics},
        {entry.title: entry.id for entry in reversed(metrics)},
    )


def _definition(kind: str, name: str, title: str, about: Mapping[str, Any], facts: Iterable[str]) -> Definition:
    anchor = f"{kind}-{re.sub(r'[^A-Za-z0-9_.@-]', '-', name)}"
    formula = RESULT.sub("", str(about.get("description") or "")).rstrip(".")
    return Definition(anchor, name, title, formula, tuple(facts), _cited(about.get("cited")))


def _cited(cited: object) -> Mapping[str, str]:
    """Without an address that is no page of the web: a stranger's may be a script."""
    if not cited or not isinstance(cited, Mapping):
        return {}
    texts = {name: str(cited.get(name) or "") for name in ("text", "title", "url")}
    return texts if texts["url"].startswith(("https://", "http://")) else texts | {"url": ""}


def _method_facts(about: Mapping[str, Any]) -> Iterable[str]:
    if about.get("params"):
        yield f"Parameters: {_listed(about['params'])}."
    if about.get("on_score_scale") is False:
        yield "Not on the score's scale, so the axiom errors don't apply to it."
    if about.get("note"):
        yield str(about["note"])


def _metric_facts(about: Mapping[str, Any], params: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    better = {"lower": "Lower is better.", "higher": "Higher is better."}.get(str(about.get("better")))
    unit = f"Unit: {about['unit']}." if about.get("unit") else ""
    yield " ".join(filter(None, (unit, better)))
    if about.get("definition"):
        deviation = about.get("deviation")
        yield f"Follows {about['definition']}" + (f". Differs: {deviation}." if deviation else ".")
    own = params.get(str(about.get("metric")))
    if own:
        yield f"Parameters: {_listed(own)}."
    if about.get("note"):
        yield str(about["note"])


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())
