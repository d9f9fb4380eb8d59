"""Sentences for what Hydra refuses of a command line or a configuration file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable

from hydra.errors import OverrideParseException

from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.kinds import shown
from axiom_bench.models.spec import unknown_model
from axiom_bench.run.composing.device import no_device

NAMES = re.compile(r"\[?[^\W\d][\w@,. -]*\]?")  # of entries
NOT_NAMES = ("", "null", "true", "false")
KEY = re.compile(r"[+~]*[a-z_][\w.@/-]*", re.ASCII | re.IGNORECASE)
KINDS = {
    "peers": "peer",
    "spoiled": "spoiled explainer",
}  # what an entry is, where its group has another name


def sentence(
    error: Exception, keys: Iterable[str], choices: Callable[[str], Iterable[str]]
) -> BenchError:
    """What is wrong with the command line or a configuration file. keys: the dotted keys that can
    be set. choices: the entries of a configuration group.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unread(error.override)
    if match := re.search(r"Could not (?:find|load) '((?:hydra/)?\w+)/([^\n]*)'", text):
        name = match[2]
        if match[1] == "model" and re.search(r"\.py\b|:", name):
            return BenchError(
                f"model={name} is code of your own; set model=user model.architecture={name}."
            )
        if match[1] == "data" and ("/" in name or os.path.isdir(name)):
            return BenchError(
                f"data={name} is a folder; set data=folder data.root={name}, or another kind."
            )
        if match[1] == "device":
            return no_device(name)
        if match[1] == "model":
            return unknown_model(name, choices("model"))
        if match[1] in ("method", "metric") and (entry := plugins.matching(match[1], name)) != name:
            return unknown(match[1], name, [entry])  # written as it is printed
        return unknown(KINDS.get(match[1], match[1]), name, choices(match[1]))
    if "Could not override 'data@data.of'" in text:
        return BenchError("data.of chooses the images of mosaics; add data=mosaic.")
    if match := re.search(r"Could not override '([^'@]+)'", text):
        settings = set(keys)
        if match[1] not in settings:
            return _unset(match[1], settings)
        if "No match in the defaults list" in text:
            return BenchError(
                f"A folder {match[1]}/ in your configuration folder hides the setting; rename it."
            )
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return BenchError(f"Invalid value for {match[1]}: {_first_line(str(cause))}.")
    if match := re.search(r"already at '([^']+)'", text):
        return BenchError(f"The setting {match[1]} exists; leave out the + before it.")
    if match := re.search(r"Error merging override ([\w.]+)=", text):
        below = next(key for key in sorted(keys) if key.startswith(f"{match[1]}."))
        return BenchError(f"{match[1]} has settings below it; set one of them, as {below}=VALUE.")
    if "'${data}_${model}'" in text:
        return BenchError(
            "model and data take one name each, or several with commas between them: model=a,b."
        )
    if match := re.search(r"full_key: (\S+)", text):
        return BenchError(f"Invalid value for {match[1]}: {_first_line(text)}.")
    if match := re.match(r"In '([^']+)': (.*)", " ".join(text.split())):
        return BenchError(f"{match[1]}.yaml can't be used: {match[2].rstrip('.')}.")
    return BenchError(f"The command line can't be understood: {_first_line(text)}.")


def _unread(override: str) -> BenchError:
    """For what Hydra's grammar can't read, also with its value in quotes."""
    key, equals, _ = override.partition("=")
    if equals and not KEY.fullmatch(key):
        return BenchError(
            f"{shown(key)} can't be a setting: its name has ASCII letters, digits, _, - and dots."
        )
    if not equals and os.path.exists(override):
        return BenchError(
            f"{shown(override)} is a path, not KEY=VALUE; axiom-bench --help says what takes run "
            "folders."
        )
    return BenchError(
        f"The command line can't be understood at {shown(override)}; write KEY=VALUE, a text with "
        "signs as \"KEY='a & b'\", and a list of texts with two kinds of quotes: "
        "\"KEY=['a','b']\"."
    )


def _unset(key: str, settings: Collection[str]) -> BenchError:
    """For a setting that doesn't exist; a user's own method, or another parameter of one, is added
    with +.
    """
    group, _, rest = key.partition(".")
    if key in ("data.root", "data.path", "data.labels"):
        files = {name: conf_folder() / f"data/{name}.yaml" for name in entry_names("data")}
        have = [
            name for name, file in files.items() if f"\n{rest}:" in file.read_text(encoding="utf-8")
        ]
        return BenchError(
            f"The data set that is chosen has no {key}; these have one: data={', '.join(have)}."
        )
    name, _, setting = rest.partition(".")
    if group in ("method", "metric"):
        is_added = setting == "_target_" or (
            setting.startswith("params.") and f"{group}.{name}" in settings
        )
        if is_added:
            return BenchError(f"{key} isn't there to be changed; add + to set it: +{key}=VALUE.")
        if setting and f"{group}.{name}" not in settings:
            of_run = {entry.split(".")[1] for entry in settings if entry.startswith(f"{group}.")}
            return unknown(f"{group} in this run", name, of_run)
    return unknown("setting", key, settings)


def unexpected(error: Exception, overrides: Iterable[str], groups: Collection[str]) -> BenchError:
    """What is wrong where Hydra raises an error of its inside: a choice that is no name, as far as
    can be told. groups: whose entries are chosen by name.
    """
    for override in overrides:
        key, _, value = override.replace("'", "").partition("=")
        if key in groups and (value.strip("[]").lower() in NOT_NAMES or not NAMES.fullmatch(value)):
            return BenchError(
                f"{key}={shown(value)} chooses no {KINDS.get(key, key)}: give its name, or names "
                "in brackets where a run takes several; axiom-bench list shows them."
            )
    reason = _first_line(str(error)) or "no reason given"
    return BenchError(
        f"The configuration can't be put together ({type(error).__name__}: {reason})."
    )


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].rstrip(".")
