"""`axiom-bench list`: what can be chosen, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from axiom_bench.evaluation import plugins
from axiom_bench.models.registry import describe_model, model_names
from axiom_bench.records.sources import version_of

KINDS = ("methods", "peers", "metrics", "models", "data")


def listing(kind: str | None) -> list[str]:
    """The lines for one kind; for None those of all kinds, under headings."""
    lines: list[str] = []
    for one in (kind,) if kind else KINDS:
        entries = dict(LISTED[one]())
        width = max(map(len, entries))
        if kind is None:
            lines += ["", one] if lines else [one]
        lines += [f"  {name:<{width}}  {said}" for name, said in entries.items()]
    return lines


def _plugins(kind: str) -> Iterator[tuple[str, str]]:
    for name in plugins.names(kind):
        entry = plugins.load(kind, name)
        reference = entry.spec.reference
        yield name, entry.description + (f" [{reference}]" if reference else "")


def _peers() -> Iterator[tuple[str, str]]:
    """Told without importing a library, which may be absent."""
    for name in plugins.names(plugins.PEERS):
        about = yaml.safe_load((plugins.conf_folder() / plugins.PEERS / f"{name}.yaml").read_text())[name]
        version = version_of(about["library"])
        yield name, f"{about['title']}, {'pip install axiom-bench[peers]' if version == 'absent' else version}"


def _models() -> Iterator[tuple[str, str]]:
    yield from ((name, describe_model(name)) for name in model_names())


def _data() -> Iterator[tuple[str, str]]:
    yield from ((name, _comment(plugins.conf_folder() / "data" / f"{name}.yaml")) for name in plugins.names("data"))


def _comment(path: Path) -> str:
    """The first line of a YAML file, which says what it is."""
    return path.read_text().splitlines()[0].removeprefix("#").strip()


LISTED: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "methods": lambda: _plugins("method"),
    "peers": _peers,
    "metrics": lambda: _plugins("metric"),
    "models": _models,
    "data": _data,
}
