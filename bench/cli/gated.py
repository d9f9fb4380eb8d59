"""A run of somebody's methods and its gate in one call, for the pytest plugin: the values are kept between calls."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from axiom_bench.errors import BenchError, type_name
from axiom_bench.gate import GateOptions, GateResult, gate, write_baseline

Named = str | Sequence[str | Mapping[str, Any]] | Mapping[str, Any]  # names, dotted paths, or {name: YAML's content}
UNNEEDED = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")  # a gate reads neither
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NO_KEYS = ("null", "true", "false", "nan", "inf")  # words that Hydra reads as other values


@dataclass(frozen=True)
class Gated:
    """What is run and compared. methods, metrics: a name of conf/, the dotted path of a function, a sequence of such,
    or {name: path, or what its YAML would hold}; no metrics: the default run's. model, data: names of conf/; None: the
    embedded default. settings: more of them, as ("data.size=32",)."""

    methods: Named
    metrics: Named | None = None
    model: str | None = None
    data: str | None = None
    settings: Sequence[str] = ()
    how: GateOptions = field(default_factory=GateOptions)

    @property
    def overrides(self) -> list[str]:
        """The settings of the run, as the command line takes them. Raises BenchError for what names no plug-in."""
        chosen = [*_plugins("method", self.methods)]
        chosen += [] if self.metrics is None else _plugins("metric", self.metrics)
        places = [f"{group}={name}" for group, name in (("model", self.model), ("data", self.data)) if name is not None]
        return [*UNNEEDED, *chosen, *places, *self.settings]


def run(gated: Gated, cache: Path) -> Path:
    """The run folder, in `cache`, with all values; those that are there aren't computed again. A second process that
    wants the same waits. Raises BenchError where a job fails."""
    from axiom_bench.cli.benchmark import compute

    overrides = gated.overrides
    name = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{name}.lock"), warnings.catch_warnings():
        warnings.simplefilter("default")  # where a test run turns warnings into errors, a library's own isn't one
        code, lines, folder = compute([*overrides, f"results={_literal(str(cache))}", f"run={name}"])
    if code:
        raise BenchError("\n".join(lines))
    return folder


def compare(gated: Gated, folder: Path, baseline: Path) -> GateResult:
    """The gate of the run."""
    return gate(folder, baseline, gated.how)


def update(gated: Gated, folder: Path, baseline: Path, reason: str | None) -> bool:
    """Writes the baseline unless the run holds it already; whether it did. Raises BenchError where it can't."""
    if compare(gated, folder, baseline).exit_code == 0:
        return False
    write_baseline(folder, baseline, reason, sampled=gated.how.sampled)
    return True


def _plugins(kind: str, named: Named) -> list[str]:
    """The overrides that choose these and no others."""
    entries = _entries(kind, named)
    own = {name: entry for name, entry in entries.items() if entry is not None}
    listed = ",".join(name for name in entries if name not in own)
    return [f"{kind}=[{listed}]", *(f"+{kind}.{name}={_literal(entry)}" for name, entry in own.items())]


def _entries(kind: str, named: Named) -> dict[str, Mapping[str, Any] | None]:
    """{name: what its YAML would hold, None for one of conf/}. Raises BenchError."""
    if not isinstance(named, str | Mapping | list | tuple):
        _entry(kind, named)  # which refuses it
    if isinstance(named, Mapping):
        return {str(name): _entry(kind, entry) for name, entry in named.items()}
    entries: dict[str, Mapping[str, Any] | None] = {}
    for entry in [named] if isinstance(named, str) else named:
        target = entry if isinstance(entry, str) else _entry(kind, entry)["_target_"]
        name = str(target).rpartition(".")[2]
        if name in entries:
            raise BenchError(f"Two {kind}s are called {name!r}; give them names, as {{'mine': 'my_pkg.my_cam'}}.")
        entries[name] = None if entry == name else _entry(kind, entry)
    return entries


def _entry(kind: str, entry: object) -> Mapping[str, Any]:
    if isinstance(entry, str):
        return {"_target_": entry}
    if isinstance(entry, Mapping) and isinstance(entry.get("_target_"), str):
        return entry
    if callable(entry):
        raise BenchError(
            f"A {kind} is named, so that its values can be kept: 'my_pkg.my_cam', not the function itself."
        )
    raise BenchError(f"A {kind} can't be {type_name(entry)}; give 'my_pkg.my_cam' or {{'_target_': 'my_pkg.my_cam'}}.")


def _literal(value: object) -> str:
    """A value in the grammar of Hydra's overrides. Raises BenchError for one that it has no word for."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{_literal(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):  # before the numbers: True == 1
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):  # float() writes a number of NumPy as Python's
        return repr(float(value))
    if isinstance(value, str):
        # Only backslashes before a quote, or before the end, are escaped.
        return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), value) + "'"
    raise BenchError(f"{value!r} can't be given to a run: it is no number, text, list or mapping.")


def _key(key: object) -> str:
    """Keys have no quotes in that grammar."""
    if isinstance(key, int | float):
        return _literal(key)
    if not isinstance(key, str) or not KEY.fullmatch(key) or key.lower() in NO_KEYS:
        raise BenchError(f"The key {key!r} can't be given to a run: a key is a word of letters, digits, '_', '.', '-'.")
    return key
