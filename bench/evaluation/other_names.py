"""The names that other libraries and papers use for methods and metrics: conf/other_names.yaml.

A user types such a name and gets the entry here, or the reason why there is none. The module
imports no torch, so that messages and `axiom-bench list` are quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from axiom_bench.environment import conf_folder, entry_names, letters, read_yaml
from axiom_bench.errors import BenchError, unknown_name

OTHER_KIND = {"method": "metric", "metric": "method"}


@dataclass(frozen=True)
class OtherName:
    """A name of a method or metric that has no entry of this name."""

    name: str
    """The name as its library or paper writes it."""
    entries: tuple[str, ...] = ()
    """The entries that compute it."""
    reason: str = ""
    """The sentence that says why no entry does. Empty if one does."""

    @property
    def description(self) -> str:
        """The entries or the reason, for a list of names."""
        if self.reason:
            return f"not included: {self.reason}"
        return f"here: {', '.join(self.entries)}"


@cache
def other_names(kind: str) -> tuple[OtherName, ...]:
    """Return the other names of a kind, sorted without case.

    Args:
        kind: "method" or "metric".
    """
    names = []
    for name, answer in read_yaml(conf_folder() / "other_names.yaml")[kind].items():
        if isinstance(answer, str):
            names.append(OtherName(name, reason=answer))
        else:
            names.append(OtherName(name, entries=tuple(answer)))
    return tuple(sorted(names, key=lambda other: other.name.casefold()))


def unknown_plugin(kind: str, name: str, names: Iterable[str]) -> BenchError:
    """Return the error for a method or metric that doesn't exist.

    The message has the entry that other libraries call by this name, or the reason why there is
    none. Otherwise it has the nearest names.

    Args:
        kind: "method" or "metric".
        name: The name that doesn't exist.
        names: The names that exist.
    """
    message = f"There is no {kind} {name!r}"
    if kind == "method" and name in entry_names("peers"):
        return BenchError(f"{message} of this project; type peers={name}.")
    if kind == "metric" and (metric := _metric_of_value(name)):
        return BenchError(f"{message}; it is a value of {metric!r}.")
    if other := _other_name(kind, name):
        if other.reason:
            return BenchError(f"The {kind} {name!r} isn't included. {other.reason}")
        return BenchError(f"{message}; it is {_in_words(other)}.")
    other_kind = OTHER_KIND[kind]
    if letters(name) in map(letters, entry_names(other_kind)):
        return BenchError(f"{message}: {name!r} is a {other_kind}.")
    if other := _other_name(other_kind, name):
        answer = other.reason or f"It is {_in_words(other)}."
        return BenchError(f"{message}: {name!r} is a {other_kind}. {answer}")
    return unknown_name(kind, name, names)


def _other_name(kind: str, name: str) -> OtherName | None:
    """Return the other name of a kind with the letters of a name."""
    typed_letters = letters(name)
    return next(
        (other for other in other_names(kind) if letters(other.name) == typed_letters), None
    )


def _in_words(other: OtherName) -> str:
    """Return the entries of a name, and how a run chooses those of other libraries."""
    entries = " or ".join(repr(entry) for entry in other.entries)
    return f"{entries} here{_peers_hint(other.entries)}"


def _peers_hint(entries: Iterable[str]) -> str:
    """Return how a run chooses those entries that are other libraries' methods; "" if none is."""
    peers = ",".join(entry for entry in entries if "@" in entry)
    return f' (in a run: "peers=[{peers}]")' if peers else ""


def _metric_of_value(value: str) -> str | None:
    """Return the metric that has several values, one of which has this name."""
    for name in entry_names("metric"):
        entry = read_yaml(conf_folder() / "metric" / f"{name}.yaml").get(name) or {}
        if value in {*entry.get("values", ()), *entry.get("aggregate_values", ())}:
            return name
    return None
