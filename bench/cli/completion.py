"""`axiom-bench --completion SHELL`: a script with which a shell completes commands, options,
settings and names.

The names are written into the script, so that completing a word starts no Python. This module
doesn't import torch. The scripts without names are in `shells/`.
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.cli.listing import ALL_OTHER_NAMES, LISTED
from axiom_bench.environment import conf_folder, conf_groups, entry_names, read_yaml
from axiom_bench.models.spec import classifiers

SHELLS = ("bash", "zsh", "fish")
# {option or command: the groups in conf/ whose names it takes}
GROUPS_BY_WORD = {
    "--model": ("model",),
    "--methods": ("method", "peers"),
    "--metric": ("metric",),
    "--metrics": ("metric",),
    "--suite": ("suite",),
    "rank": ("method",),
    "submit": ("method",),
    "reference": ("suite",),
}
SETTINGS_ARGUMENTS = {"overrides", "images", "run_folders"}  # arguments that may be KEY=VALUE
NO_CHOICES = {"data_model"}  # a group that other choices decide


@dataclass(frozen=True)
class Words:
    """The words that a shell completes."""

    options: Mapping[str, Sequence[str]]
    """{command: its options}."""
    names: Mapping[str, Sequence[str]]
    """{setting, option or command: the names that it takes}."""
    settings: Sequence[str]
    """The settings of conf/, each with its sign, such as "model=" and "report.headline="."""
    with_settings: Sequence[str]
    """The commands that take settings."""


def script(shell: str, parser: ArgumentParser) -> str:
    """Return the script of a shell.

    Args:
        shell: One of SHELLS.
        parser: The parser of all commands.
    """
    words = _words(parser)
    cases = _fish_cases if shell == "fish" else _posix_cases
    parts = {
        "names": cases(words.names),
        "options": cases(words.options),
        "commands": _quoted(words.options),
        "settings": _quoted(words.settings),
        "with_settings": _quoted(words.with_settings),
    }
    template = Path(__file__).parent / "shells" / f"axiom-bench.{shell}"
    text = template.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _words(parser: ArgumentParser) -> Words:
    """Return the words of the parser and of conf/."""
    (commands,) = (action for action in parser._actions if isinstance(action, _SubParsersAction))
    names: dict[str, Sequence[str]] = {}
    for group in sorted(conf_groups() - NO_CHOICES):
        entries = set(entry_names(group))
        if group == "model":
            entries |= set(classifiers())  # the networks of libraries
        names[group] = sorted(entries)
    for word, groups in GROUPS_BY_WORD.items():
        names[word] = [name for group in groups for name in names[group]]
    names["list"] = [*LISTED, ALL_OTHER_NAMES]
    options = {}
    with_settings = []
    for command, subparser in commands.choices.items():
        actions = subparser._actions
        options[command] = [option for action in actions for option in action.option_strings]
        if SETTINGS_ARGUMENTS & {action.dest for action in actions}:
            with_settings.append(command)
        for action in actions:
            for word in action.option_strings or [command]:
                if action.choices:
                    names[word] = [str(choice) for choice in action.choices]
    settings = [f"{key}=" for key in _settings()]
    return Words(options, names, settings, with_settings)


def _settings() -> Iterator[str]:
    """Yield the groups that a command line chooses from, and the settings of conf/config.yaml."""
    yield from sorted(conf_groups() - NO_CHOICES)
    config = read_yaml(conf_folder() / "config.yaml")
    for key, value in config.items():
        if key not in conf_groups() and key not in ("defaults", "hydra"):
            yield from _dotted(str(key), value)


def _dotted(key: str, value: object) -> Iterator[str]:
    """Yield a setting, or the settings below it."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _dotted(f"{key}.{name}", inner)
    else:
        yield key


def _quoted(names: Iterable[str]) -> str:
    """Return names as one word of a shell. They have neither quotes nor spaces."""
    return f"'{' '.join(names)}'"


def _posix_cases(names_by_word: Mapping[str, Sequence[str]]) -> str:
    """Return the branches of a `case` of bash and zsh, which print the names of a word."""
    return "\n".join(
        f"    {word}) echo {_quoted(names)} ;;" for word, names in names_by_word.items()
    )


def _fish_cases(names_by_word: Mapping[str, Sequence[str]]) -> str:
    """Return the branches of a `switch` of fish, which print the names of a word."""
    return "\n".join(
        f"        case '{word}'\n            string split -- ' ' {_quoted(names)}"
        for word, names in names_by_word.items()
    )
