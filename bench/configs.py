"""The package's YAML files, conf/: where they are, and which entries a group has."""

from __future__ import annotations

from pathlib import Path


def conf_folder() -> Path:
    """The folder conf/, inside the package."""
    return Path(__file__).parent / "conf"


def entry_names(group: str) -> list[str]:
    """Names of all entries of conf/<group>/, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
