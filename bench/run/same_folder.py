"""Two commands on one run folder, at once or one after the other: they share its records, and it has one report.

With the same settings that is as it should be. With others, the command that ends first says so in its last lines, and
the one that ends last says what its report no longer shows.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench.records import claims, running

UNSHOWN = ("device", "runtime", "metrics", "results", "real_root", "shard_size")  # settings that choose no value
AXES = ("model", "model.layer", "data", "experiment")  # of a sweep: the configuration has only one of their values
MAX_NAMES = 5  # of each kind


def about(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """What a command keeps of itself while it runs, for another to read. overrides: as they were typed."""
    shown = {key: value for key, value in config.items() if key not in UNSHOWN}
    axes = sorted(override for override in overrides if override.partition("=")[0] in AXES)
    plain: dict[str, Any] = json.loads(json.dumps({"shown": shown, "axes": axes}, default=str))
    return {**plain, "typed": list(overrides)}


def other_commands(folder: Path) -> list[dict[str, Any]]:
    """The commands that run on the folder, as `about` has them; to be called before this one marks it as used."""
    if not claims.in_use(folder):
        return []
    command = running.command(folder) or {}
    earlier = command.get("others")
    return [
        entry
        for entry in (command.get("about"), *(earlier if isinstance(earlier, list) else ()))
        if isinstance(entry, dict)
    ]


def still_running(folder: Path, about_this: Mapping[str, Any]) -> str | None:
    """One line about a command with other settings that still runs on the folder; None where there is none."""
    for other in other_commands(folder):
        if any(other.get(key) != about_this[key] for key in ("shown", "axes")):
            typed = shlex.join(["axiom-bench", *map(str, other.get("typed") or ())])
            return (
                f"another command with other settings still runs on {folder}: {typed}. When it ends, the report shows "
                "what that one chose, no longer this; values of both are kept. run=NAME gives a report of its own."
            )
    return None


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
