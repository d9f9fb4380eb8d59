"""Hydra's and OmegaConf's errors as one clear sentence, with the nearest names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import shown

NAMES = re.compile(r"\[?[^\W\d][\w@,. -]*\]?")  # of entries
NOT_NAMES = ("", "null", "true", "false")
KINDS = {"peers": "peer", "spoiled": "spoiled explainer"}  # what an entry is, where its group has another name


def sentence(error: Exception, keys: Iterable[str], choices: Callable[[str], Iterable[str]]) -> BenchError:
    """What is wrong with the command line or a configuration file.

    keys: the dotted keys that can be set. choices: the entries of a configuration group.
    """
    text = str(error)
    if match := re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]+)'", text):
        return unknown(KINDS.get(match[1], match[1]), match[2], choices(match[1]))
    if "Could not override 'data@data.of'" in text:
        return BenchError("data.of chooses the images of mosaics; add data=mosaic.")
    if match := re.search(r"Could not override '([^'@]+)'", text):
        settings = set(keys)
        if match[1] not in settings:
            return unknown("setting", match[1], settings)
        if "No match in the defaults list" in text:
            return BenchError(f"A folder {match[1]}/ in your configuration folder hides the setting; rename it.")
        return BenchError(f"Invalid value for {match[1]}: {_cause(error)}.")
    if "'${data}_${model}'" in text:
        return BenchError("model and data take one name each, or several with commas between them: model=a,b.")
    if match := re.search(r"full_key: (\S+)", text):
        return BenchError(f"Invalid value for {match[1]}: {_first_line(text)}.")
    return BenchError(
        f"The command line can't be understood: {_first_line(text)}; write KEY=VALUE, and quote it for the shell."
    )


def unexpected(error: Exception, overrides: Iterable[str], groups: Collection[str]) -> BenchError:
    """What is wrong where Hydra raises an error of its inside: a choice that is no name, as far as can be told.

    groups: whose entries are chosen by name.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key in groups and (value.strip("[]").lower() in NOT_NAMES or not NAMES.fullmatch(value)):
            return BenchError(
                f"{key}={shown(value)} chooses no {KINDS.get(key, key)}: give its name, or names in brackets where a "
                f"run takes several; axiom-bench list shows them."
            )
    reason = _first_line(str(error)) or "no reason given"
    return BenchError(f"The configuration can't be put together ({type(error).__name__}: {reason}).")


def _cause(error: BaseException) -> str:
    """What the innermost error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_line(str(error))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].rstrip(".")
