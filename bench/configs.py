"""The package's YAML files, conf/: where they are, which entries a group has, and the check of a setting's value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError


@dataclass(frozen=True)
class Setting:
    """The values that a setting may have. expected: the same in words, for the error."""

    fits: Callable[[object], bool]
    expected: str


def check_values(values: Mapping[str, Any], settings: Mapping[str, Setting], prefix: str = "") -> None:
    """Raises BenchError for the first value that doesn't fit its setting, called prefix + key."""
    for key, setting in settings.items():
        if key in values and not setting.fits(values[key]):
            raise BenchError(f"{prefix}{key} must be {setting.expected}, not {values[key]!r}.")


def is_integer(value: object, minimum: int = 0) -> bool:
    """Whether a value is an integer, not a bool, of at least `minimum`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def is_list(value: object, length: int, fits: Callable[[object], bool]) -> bool:
    """Whether a value is a list of that length whose entries all fit."""
    return isinstance(value, list | tuple) and len(value) == length and all(map(fits, value))


def conf_folder() -> Path:
    """The folder conf/, inside the package."""
    return Path(__file__).parent / "conf"


def entry_names(group: str) -> list[str]:
    """Names of all entries of conf/<group>/, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
