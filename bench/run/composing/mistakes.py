"""Write the sentences for command lines and configuration files that Hydra refuses.

Hydra's own messages name its internals. A user needs the word to correct and the nearest name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable

from hydra.errors import OverrideParseException

from axiom_bench.environment import conf_folder, entry_names
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.other_names import unknown_plugin
from axiom_bench.kinds import shorten_for_error
from axiom_bench.models.spec import (
    HUB_PREFIX,
    WEIGHTS_SUFFIXES,
    hub_name,
    other_model,
    unknown_model,
)
from axiom_bench.run.composing.device import no_device
from axiom_bench.run.composing.typed_words import instead_of

NAMES = re.compile(r"\[?[^\W\d][\w@,. -]*\]?")  # the name of an entry, or a list of names
NOT_NAMES = ("", "null", "true", "false")
KEY = re.compile(r"[+~]*[a-z_][\w.@/-]*", re.ASCII | re.IGNORECASE)
# what messages call an entry of a group, if not by the group's name
KINDS = {"peers": "peer", "spoiled": "spoiled explainer"}


def explain_hydra_error(
    error: Exception,
    keys: Iterable[str],
    choices: Callable[[str], Iterable[str]],
    overrides: Iterable[str] = (),
) -> BenchError:
    """Return the sentence for Hydra's error about a command line or a configuration file.

    Args:
        error: The error that Hydra raised.
        keys: The dotted keys that can be set.
        choices: Returns the entries of a configuration group.
        overrides: The words of the command line.
    """
    # Hydra has few classes of errors, so the text of its message tells what is wrong.
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unparsable(error.override)
    if match := re.search(r"Could not (?:find|load) '((?:hydra/)?\w+)/([^\n]*)'", text):
        return _unknown_entry(match[1], match[2], choices)
    if "Could not override 'data@data.of'" in text:
        return BenchError("data.of chooses the images of mosaics; add data=mosaic.")
    if match := re.search(r"Could not override '([^'@]+)'", text):
        key = match[1]
        settings = set(keys)
        if key not in settings:
            values = (word.partition("=") for word in overrides)
            value = next((text for name, _, text in values if name == key), "")
            return _unknown_setting(key, value, settings)
        if "No match in the defaults list" in text:
            return BenchError(
                f"A folder {key}/ in your configuration folder hides the setting; rename it."
            )
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return BenchError(f"Invalid value for {key}: {_first_line(str(cause))}.")
    if match := re.search(r"already at '([^']+)'", text):
        return BenchError(f"The setting {match[1]} exists; leave out the + before it.")
    if match := re.search(r"Error merging override ([\w.]+)=", text):
        setting = next(key for key in sorted(keys) if key.startswith(f"{match[1]}."))
        return BenchError(
            f"{match[1]} has settings below it; set one of them, such as {setting}=VALUE."
        )
    if "'${data}_${model}'" in text:
        return BenchError(
            "model and data take one name each, or several with commas between them: model=a,b."
        )
    if match := re.search(r"full_key: (\S+)", text):
        return BenchError(f"Invalid value for {match[1]}: {_first_line(text)}.")
    if match := re.match(r"In '([^']+)': (.*)", " ".join(text.split())):
        return BenchError(f"{match[1]}.yaml can't be used: {match[2].rstrip('.')}.")
    return BenchError(f"The command line can't be understood: {_first_line(text)}.")


def _unknown_entry(group: str, name: str, choices: Callable[[str], Iterable[str]]) -> BenchError:
    """Return the sentence for the name of an entry that its configuration group hasn't."""
    if group == "model" and HUB_PREFIX.match(name):
        return _unknown_entry(group, hub_name(name), choices)
    if group == "model" and name.startswith("timm/"):
        short_name = name.removeprefix("timm/")
        return BenchError(f"model={name} names a network of timm; set model={short_name}.")
    if group == "model" and re.search(r"\.py\b|:", name):
        return BenchError(
            f"model={name} is code of your own; set model=user model.architecture={name}."
        )
    is_checkpoint = "/" in name and not name.endswith(WEIGHTS_SUFFIXES)
    if group == "model" and is_checkpoint and not other_model(name):
        return BenchError(
            f"model={name} is a checkpoint of transformers; set model=huggingface "
            f"model.checkpoint={name}."
        )
    if group == "data" and ("/" in name or os.path.isdir(name)):
        return BenchError(
            f"data={name} is a folder; set data=folder data.root={name}, or another kind."
        )
    if group == "device":
        return no_device(name)
    if group == "model":
        return unknown_model(name, choices("model"))
    if group in ("method", "metric"):
        entry = plugins.matching(group, name)
        if entry != name:  # the user wrote the name as tables print it
            return unknown_name(group, name, [entry])
        return unknown_plugin(group, name, choices(group))
    return unknown_name(KINDS.get(group, group), name, choices(group))


def _unparsable(override: str) -> BenchError:
    """Return the sentence for an override that Hydra's grammar can't read, even with its value in
    quotes.
    """
    key, equals, _ = override.partition("=")
    if equals and not KEY.fullmatch(key):
        return BenchError(
            f"{shorten_for_error(key)} can't be a setting: its name has ASCII letters, digits, _, "
            "- and dots."
        )
    if not equals and os.path.exists(override):
        return BenchError(
            f"{shorten_for_error(override)} is a path, not KEY=VALUE; axiom-bench --help says "
            "what takes run folders."
        )
    return BenchError(
        f"The command line can't be understood at {shorten_for_error(override)}; write KEY=VALUE, "
        "a text with signs as \"KEY='a & b'\", and a list of texts with two kinds of quotes: "
        "\"KEY=['a','b']\"."
    )


def _unknown_setting(key: str, value: str, settings: Collection[str]) -> BenchError:
    """Return the sentence for a setting that doesn't exist. A user's own method, or another
    parameter of a method, is added with +.
    """
    if advice := instead_of(key, value.strip("'\"")):
        return BenchError(f"There is no setting {key!r}; {advice}.")
    group, _, rest = key.partition(".")
    if key in ("data.root", "data.path", "data.labels"):
        names = []
        for name in entry_names("data"):
            file = conf_folder() / f"data/{name}.yaml"
            if f"\n{rest}:" in file.read_text(encoding="utf-8"):
                names.append(name)
        return BenchError(
            f"The data set that is chosen has no {key}; these have one: data={', '.join(names)}."
        )
    name, _, setting = rest.partition(".")
    if group in ("method", "metric"):
        has_entry = f"{group}.{name}" in settings
        if setting == "_target_" or (setting.startswith("params.") and has_entry):
            return BenchError(f"{key} doesn't exist; add + to set it: +{key}=VALUE.")
        if setting and not has_entry:
            names_of_run = {
                entry.split(".")[1] for entry in settings if entry.startswith(f"{group}.")
            }
            return unknown_name(group, name, names_of_run, place="in this run")
    return unknown_name("setting", key, settings)


def explain_internal_error(
    error: Exception, overrides: Iterable[str], groups: Collection[str]
) -> BenchError:
    """Return the sentence for an internal error of Hydra. The known reason is a choice that is no
    name.

    Args:
        error: The error that Hydra raised.
        overrides: The words of the command line.
        groups: The groups whose entries are chosen by name.
    """
    for override in overrides:
        key, _, value = override.replace("'", "").partition("=")
        if key in groups and (value.strip("[]").lower() in NOT_NAMES or not NAMES.fullmatch(value)):
            return BenchError(
                f"{key}={shorten_for_error(value)} chooses no {KINDS.get(key, key)}: give its "
                "name, or names in brackets if a run takes several; axiom-bench list shows "
                "them."
            )
    reason = _first_line(str(error)) or "no reason given"
    return BenchError(f"The configuration can't be composed ({type(error).__name__}: {reason}).")


def _first_line(text: str) -> str:
    """Return the first line of an error's text, without its full stop."""
    return text.strip().split("\n")[0].rstrip(".")
