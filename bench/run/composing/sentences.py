"""Sentences for what Hydra refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from hydra.errors import OverrideParseException

from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import shown

NAMES = re.compile(r"\[?[^\W\d][\w@,. -]*\]?")  # of entries
KEY = re.compile(r"[+~]*[a-z_][\w.@/-]*", re.ASCII | re.IGNORECASE)
NOT_NAMES = ("", "null", "true", "false")
KINDS = {"peers": "peer", "spoiled": "spoiled explainer"}  # what an entry is, where its group has another name


def sentence(error: Exception, keys: Iterable[str], choices: Callable[[str], Iterable[str]]) -> BenchError:
    """What is wrong with the command line or a configuration file. keys: the dotted keys that can be set. choices: the
    entries of a configuration group."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unread(error.override)
    if match := re.search(r"Could not (?:find|load) '([\w/]+)/([^/\n]*)'", text):
        return unknown(KINDS.get(match[1], match[1]), match[2], choices(match[1]))
    if "Could not override 'data@data.of'" in text:
        return BenchError("data.of chooses the images of mosaics; add data=mosaic.")
    if match := re.search(r"Could not override '([^'@]+)'", text):
        settings = set(keys)
        if match[1] not in settings:
            return _unset(match[1], settings)
        if "No match in the defaults list" in text:
            return BenchError(f"A folder {match[1]}/ in your configuration folder hides the setting; rename it.")
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return BenchError(f"Invalid value for {match[1]}: {_first_line(str(cause))}.")
    if "'${data}_${model}'" in text:
        return BenchError("model and data take one name each, or several with commas between them: model=a,b.")
    if match := re.search(r"full_key: (\S+)", text):
        return BenchError(f"Invalid value for {match[1]}: {_first_line(text)}.")
    if match := re.match(r"In '([^']+)': (.*)", " ".join(text.split())):
        return BenchError(f"{match[1]}.yaml can't be used: {match[2].rstrip('.')}.")
    return BenchError(f"The command line can't be understood: {_first_line(text)}.")


def _unread(override: str) -> BenchError:
    """For what Hydra's grammar can't read, also with its value in quotes."""
    key, equals, _ = override.partition("=")
    if equals and not KEY.fullmatch(key):
        return BenchError(f"{shown(key)} can't be a setting: its name has ASCII letters, digits, _, - and dots.")
    return BenchError(
        f"The command line can't be understood at {shown(override)}; write KEY=VALUE, and a list of texts with two "
        "kinds of quotes: \"KEY=['a','b']\"."
    )


def _unset(key: str, settings: Collection[str]) -> BenchError:
    """For a setting that doesn't exist; a user's own method, or another parameter of one, is added with +."""
    group, _, rest = key.partition(".")
    name, _, setting = rest.partition(".")
    if group in ("method", "metric"):
        is_added = setting == "_target_" or (setting.startswith("params.") and f"{group}.{name}" in settings)
        if is_added:
            return BenchError(f"{key} isn't there to be changed; add + to set it: +{key}=VALUE.")
        if setting and f"{group}.{name}" not in settings:
            of_run = {entry.split(".")[1] for entry in settings if entry.startswith(f"{group}.")}
            return unknown(f"{group} in this run", name, of_run)
    return unknown("setting", key, settings)


def unexpected(error: Exception, overrides: Iterable[str], groups: Collection[str]) -> BenchError:
    """What is wrong where Hydra raises an error of its inside: a choice that is no name, as far as can be told. groups:
    whose entries are chosen by name."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key in groups and (value.strip("[]").lower() in NOT_NAMES or not NAMES.fullmatch(value)):
            return BenchError(
                f"{key}={shown(value)} chooses no {KINDS.get(key, key)}: give its name, or names in brackets where a "
                f"run takes several; axiom-bench list shows them."
            )
    reason = _first_line(str(error)) or "no reason given"
    return BenchError(f"The configuration can't be put together ({type(error).__name__}: {reason}).")


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].rstrip(".")
