"""One line about what the report of the previous command showed and the new one doesn't."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

MAX_NAMES = 5  # of each kind


def no_longer_shown(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """One line that names the models, layers, methods, metrics and images which the new manifest leaves out.

    None where it leaves out nothing.
    """
    parts = list(_missing(before, after))
    if not parts:
        return None
    return (
        f"the report no longer shows {'; '.join(parts)}: its run name held them until now. "
        "Their records are kept; run=NAME gives a report of its own."
    )


def _missing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("models", "model"), ("methods", "method"), ("metrics", "metric"), ("data", "data set")):
        names = [name for name in before.get(key) or {} if name not in (after.get(key) or {})]
        if names:
            yield _listed(kind, names)
    for model, facts in _shared(before, after, "models"):
        layers = [layer for layer in facts[0].get("layers") or () if layer not in (facts[1].get("layers") or ())]
        if layers:
            yield f"{_listed('layer', layers)} of {model}"
    for data, facts in _shared(before, after, "data"):
        count = len(set(facts[0].get("ids") or ()) - set(facts[1].get("ids") or ()))
        if count:
            yield f"{count} image{'s' if count > 1 else ''} of {data}"


def _shared(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What both manifests say of each model or data set that is in both."""
    new = after.get(key) or {}
    yield from ((name, (facts, new[name])) for name, facts in (before.get(key) or {}).items() if name in new)


def _listed(kind: str, names: Collection[str]) -> str:
    listed = ", ".join(list(names)[:MAX_NAMES]) + (
        f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    )
    return f"{kind}{'s' if len(names) > 1 else ''} {listed}"
