"""The settings of a job that name other code than this package's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def code_of(config: Mapping[str, Any]) -> Iterator[str]:
    """The settings of a job by which other code than this package's may run, KEY=VALUE."""
    for kind in ("method", "metric"):
        entries = (config.get(kind) or {}).items()
        for name, entry in ((name, entry) for name, entry in entries if isinstance(entry, Mapping)):
            for key in ("_target_", "aggregate", "values", "aggregate_values"):
                value = entry.get(key)
                if isinstance(value, str) and not value.startswith(f"axiom_bench.{kind}s."):
                    yield f"{kind}.{name}.{key}={value}"
            # A parameter may be a method by its path.
            yield from (f"{kind}.{name}.params: {text}" for text in _paths(entry.get("params")))
    model = config.get("model") or {}
    if model.get("source") == "user" or ":" in str(model.get("architecture")):
        yield f"model.architecture={model.get('architecture')}"
    for key in ("reshape", "output", "read"):
        yield from (f"model.{key}={text}" for text in _paths(model.get(key)))


def _paths(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if set(value) & set(".:"):
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _paths(entry)
