"""Two commands on one run folder: they share its records, but the report is of the one that ends last.

With the same settings that is as it should be. With others, the command that ends first says so in its last lines; the
one that ends last sees what the manifest held before, see `cli.replaced`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench.records import claims, running

UNSHOWN = ("device", "runtime", "metrics", "results", "real_root", "shard_size")  # settings that choose no value
AXES = ("model", "model.layer", "data", "experiment")  # of a sweep: the configuration has only one of their values


def about(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """What a command keeps of itself while it runs, for another to read. overrides: as they were typed."""
    shown = {key: value for key, value in config.items() if key not in UNSHOWN}
    axes = sorted(override for override in overrides if override.partition("=")[0] in AXES)
    plain: dict[str, Any] = json.loads(json.dumps({"shown": shown, "axes": axes}, default=str))
    return {**plain, "typed": list(overrides)}


def others(folder: Path) -> list[dict[str, Any]]:
    """The commands that run on the folder, as `about` has them; to be called before this one marks it as used."""
    if not claims.in_use(folder):
        return []
    command = running.command(folder) or {}
    earlier = command.get("beside")
    return [
        entry
        for entry in (command.get("about"), *(earlier if isinstance(earlier, list) else ()))
        if isinstance(entry, dict)
    ]


def sentence(folder: Path, own: Mapping[str, Any]) -> str | None:
    """One line about a command with other settings that still runs on the folder; None where there is none."""
    for other in others(folder):
        if any(other.get(key) != own[key] for key in ("shown", "axes")):
            typed = shlex.join(["axiom-bench", *map(str, other.get("typed") or ())])
            return (
                f"another command with other settings still runs on {folder}: {typed}. When it ends, the report shows "
                "what that one chose, no longer this; values of both are kept. run=NAME gives a report of its own."
            )
    return None
