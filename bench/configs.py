"""Where the package's YAML files are, conf/, and which entries a group of them has."""

from __future__ import annotations

from pathlib import Path


def conf_folder() -> Path:
    """The folder conf/, inside the package."""
    return Path(__file__).parent / "conf"


def entry_names(group: str) -> list[str]:
    """Names of all entries of conf/<group>/, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
