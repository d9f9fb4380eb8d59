"""Hydra's and OmegaConf's errors as one clear sentence, with the nearest names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation.plugins import conf_folder
from axiom_bench.models.registry import model_names


def sentence(error: Exception, keys: Iterable[str]) -> BenchError:
    """What is wrong with the command line or a configuration file. keys: the dotted keys that can be set."""
    text = str(error)
    if group := re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]+)'", text):
        return unknown(group[1].removesuffix("s"), group[2], choices(group[1]))  # "peers" is the one plural
    if key := re.search(r"Could not override '([^'@]+)'", text):
        known = set(keys)
        if key[1] not in known:
            return unknown("setting", key[1], known)
        return BenchError(f"The setting {key[1]!r} can't take that: {_cause(error)}.")
    if "'${data}_${model}'" in text:
        return BenchError("model and data take one name each, or several with commas between them: model=a,b.")
    if key := re.search(r"full_key: (\S+)", text):
        return BenchError(f"The setting {key[1]!r} can't be used: {_first_line(text)}.")
    return BenchError(
        f"The command line can't be understood: {_first_line(text)}; write KEY=VALUE, and quote it for the shell."
    )


def choices(group: str) -> list[str]:
    """What a configuration group offers: its files, and for models also torchvision's names."""
    if group == "model":
        return model_names()
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def _cause(error: BaseException) -> str:
    """What the innermost error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_line(str(error))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].rstrip(".")
