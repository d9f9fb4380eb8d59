"""Add the methods and metrics of the previous command in a run folder to a new command, so that its
page shows both.

The two commands must be the same except for methods, metrics and what is shown. The new command
then asks for the methods and metrics of both. Stored values are reused by their keys, so a method
whose code has changed is computed again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError, first_names
from axiom_bench.records import artefacts
from axiom_bench.records.entries import Manifest
from axiom_bench.records.files import local_path
from axiom_bench.run.composing.composition import Composition

KINDS = ("method", "metric")
# settings that two commands of one page may have different
SHOWN_GROUPS = (*KINDS, "report", "pictures", "runtime", "executor")
# A command with one of these shows exactly what it asks for.
EXACT = ("run", "suite", "protocol", "peers", "spoiled")
REPEATS = "runtime.repeats"
MAX_NAMES = 6  # names in the sentence


@dataclass(frozen=True)
class JoinedCommand:
    """A command with the methods and metrics of the previous one in the same run folder."""

    words: tuple[str, ...]
    """The settings of the command."""
    sentence: str
    """The line that says what is added, and how to show less."""


def joined_command(words: Sequence[str], composition: Composition) -> JoinedCommand | None:
    """Return the command that shows also what the previous command in its run folder has shown.

    Args:
        words: The settings of the command line, as they were typed.
        composition: The composed command line.

    Returns:
        The command. It is None if nothing is added. This is so if the command names no method or
        metric, or has a name of its own (`run=NAME`), a suite, a protocol, peers or spoiled
        methods. It is also so if the previous command had other models, data or settings.
    """
    keys = [_key(word) for word in words]
    is_exact = any(key in EXACT for key in keys)
    if is_exact or not any(_is_choice(word) for word in words):
        return None
    config = composition.plain()
    folder = local_path(str(config["results"])) / str(config["experiment"]) / str(config["run"])
    previous = _previous(folder)
    if previous is None or _other_words(previous.overrides) != _other_words(words):
        return None
    joined = [word for word in words if word.partition("=")[0] not in KINDS]
    added: dict[str, list[str]] = {}
    for kind in KINDS:
        earlier = _earlier_names(previous, kind)
        chosen = [name for name in config[kind] if _has_file(composition.folders, kind, name)]
        added[kind] = [name for name in earlier if name not in chosen]
        if added[kind] or kind in keys:
            names = dict.fromkeys([*earlier, *chosen] if added[kind] else chosen)
            joined.append(f"{kind}=[{','.join(names)}]")
        for word in previous.overrides:
            is_param = _key(word).startswith(tuple(f"{kind}.{name}." for name in added[kind]))
            if is_param and _key(word) not in keys:
                joined.append(word)
    if not any(added.values()):
        return None
    repeats = max(config["runtime"]["repeats"], _repeats(previous))
    if REPEATS not in keys and repeats:
        joined.append(f"{REPEATS}={repeats}")
    return JoinedCommand(tuple(joined), _sentence(added, config, folder))


def _sentence(added: Mapping[str, Sequence[str]], config: Mapping[str, Any], folder: Path) -> str:
    """Return the line that says what is added to a command."""
    parts = []
    for kind, names in added.items():
        if names:
            plural = "s" if len(names) > 1 else ""
            parts.append(f"{kind}{plural} {first_names(names, MAX_NAMES)}")
    # the metrics of the overview, if there is no method to leave out
    kind, key = ("method", "methods") if added["method"] else ("metric", "columns")
    fewer = f"report.{key}=[{','.join(config[kind])}]"
    command = shlex.join(["axiom-bench", "report", str(folder), fewer])
    return (
        f"This run also has {' and '.join(parts)}, which the last command in {folder} had. To show "
        f"only your own afterwards: {command}. For a run without them, add run=NAME."
    )


def _key(word: str) -> str:
    """Return the setting of a word KEY=VALUE, without the + of Hydra."""
    return word.partition("=")[0].lstrip("+")


def _is_choice(word: str) -> bool:
    """Return whether a word names methods or metrics."""
    return _key(word) in KINDS or word.startswith(tuple(f"+{kind}." for kind in KINDS))


def _other_words(words: Iterable[str]) -> list[str]:
    """Return the words that two commands of one page must share."""
    return sorted(word for word in words if _key(word).partition(".")[0] not in SHOWN_GROUPS)


def _previous(folder: Path) -> Manifest | None:
    """Return the manifest of the previous command; None if there is none that can be read."""
    try:
        return artefacts.read(folder)
    except BenchError:
        return None


def _has_file(folders: Iterable[str], kind: str, name: str) -> bool:
    """Return whether a name can be chosen: whether conf/ or a folder of the user has its file."""
    paths = [Path(folder.partition("://")[2]) for folder in folders]
    is_own = any((path / kind / f"{name}.yaml").is_file() for path in paths)
    return is_own or name in entry_names(kind)


def _own_names(words: Iterable[str], kind: str) -> set[str]:
    """Return the names of the user's own plug-ins, such as mine in `+method.mine._target_=...`."""
    names = set()
    for word in words:
        if word.startswith(f"+{kind}."):
            names.add(_key(word).split(".")[1])
    return names


def _earlier_names(previous: Manifest, kind: str) -> list[str]:
    """Return the names that the previous command chose in conf/. A user's own plug-in is shown only
    by commands that name it, because each command computes it again.
    """
    own = _own_names(previous.overrides, kind)
    chosen = previous.config.model_dump().get(kind) or {}
    shipped = entry_names(kind)
    return [name for name in chosen if name in shipped and name not in own]


def _repeats(previous: Manifest) -> int:
    """Return how often the previous command measured run times."""
    runtime = previous.config.model_dump().get("runtime") or {}
    repeats = runtime.get("repeats", 0)
    return repeats if isinstance(repeats, int) else 0
