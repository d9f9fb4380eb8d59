"""What a run's configuration names beside this package's code and this machine's files: a run folder may be a
stranger's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.run.inputs.fetching import urls


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError, with the first names, where loading a job of this configuration runs code of its own, or
    fetches data."""
    named = list(_code_of(config))
    if named:
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise BenchError(
            f"The run's configuration names code, which would run with your rights: {', '.join(named[:3])}{more}. "
            "Add --trust where the run is your own."
        )
    named = [f"{key}={url[:200]}" for key, url in urls(config.get("data") or {})]
    if named:
        raise BenchError(
            f"The run's configuration names data in a store, which would be fetched with your credentials: {named[0]}. "
            "Add --trust where the run is your own."
        )


def _code_of(config: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("method", "metric"):
        for name, entry in (config.get(kind) or {}).items():
            own = f"axiom_bench.{kind}s."
            named = {
                "_target_": entry.get("_target_"),
                "aggregate": entry.get("aggregate"),
                "values": entry.get("values"),
            }
            yield from (
                f"{kind}.{name}.{key}={value}"
                for key, value in named.items()
                if isinstance(value, str) and not value.startswith(own)
            )
            # A parameter may be a method by its path.
            yield from (
                f"{kind}.{name}.params: {text}" for text in _texts(entry.get("params")) if set(text) & set(".:")
            )
    model = config.get("model") or {}
    if model.get("source") == "user" or ":" in str(model.get("architecture")):
        yield f"model.architecture={model.get('architecture')}"
    for key in ("reshape", "output"):
        yield from (f"model.{key}={text}" for text in _texts(model.get(key)) if set(text) & set(".:"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
