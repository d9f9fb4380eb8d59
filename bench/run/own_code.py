"""List the settings of a job that refer to code outside this package.

`verify` and the leaderboard ask before they run the settings of a stranger's run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def code_settings(config: Mapping[str, object]) -> Iterator[str]:
    """Yield the settings of a job, KEY=VALUE, that may run code outside this package."""
    for kind in ("method", "metric"):
        for name, entry in _group(config, kind).items():
            if not isinstance(entry, Mapping):
                continue
            for key in ("_target_", "aggregate", "values", "aggregate_values"):
                value = entry.get(key)
                if isinstance(value, str) and not value.startswith(f"axiom_bench.{kind}s."):
                    yield f"{kind}.{name}.{key}={value}"
            for text in _paths(entry.get("params")):  # a parameter may be the path of a method
                yield f"{kind}.{name}.params: {text}"
    model = _group(config, "model")
    if model.get("source") == "user" or ":" in str(model.get("architecture")):
        yield f"model.architecture={model.get('architecture')}"
    for key in ("reshape", "output", "read"):
        for text in _paths(model.get(key)):
            yield f"model.{key}={text}"


def _group(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a group of settings, or {} if the configuration has none of this name."""
    group = config.get(name)
    return group if isinstance(group, Mapping) else {}


def _paths(value: object) -> Iterator[str]:
    """Yield the texts in a value, at any depth, that may be the path of an object."""
    if isinstance(value, str):
        if set(value) & set(".:"):
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _paths(entry)
