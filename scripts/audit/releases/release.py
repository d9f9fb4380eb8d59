"""A release of a library: where it is installed, and the files that hold what was measured of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.version import Version

LIBRARIES = {"grad-cam": "pytorch_grad_cam", "torchcam": "torchcam", "captum": "captum"}  # distribution: import name
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "axiom-bench" / "releases"
MAX_LINE = 160  # characters of an error


@dataclass(frozen=True)
class Release:
    """library: the name of its distribution. folder: of its files. date: of the newest file in its archive, if known.
    failure: why it isn't installed, else empty."""

    library: str
    version: str
    folder: Path
    installed: Path
    date: str = ""
    failure: str = ""

    @property
    def baseline(self) -> Path:
        """The values: a baseline of the gate."""
        return self.folder / "values.csv"

    @property
    def maps(self) -> Path:
        """The maps themselves, for how far they moved."""
        return self.folder / "maps.npz"

    @property
    def result(self) -> Path:
        """Failures and cases; written last, so a release that has it is done."""
        return self.folder / "measured.json"

    @property
    def order(self) -> tuple[str, Version]:
        """Sorts releases by library and version."""
        return self.library, Version(self.version)

    def write(self) -> None:
        """Keep what is known of it, for later commands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {name: str(getattr(self, name)) for name in ("library", "version", "installed", "date", "failure")}
        write_json(self.folder / "release.json", content)


def stored(folder: Path) -> list[Release]:
    """The releases whose files are below a folder, in order."""
    contents = [(file.parent, json.loads(file.read_text())) for file in folder.glob("*/*/release.json")]
    releases = [
        Release(**{**content, "folder": place, "installed": Path(content["installed"])}) for place, content in contents
    ]
    return sorted(releases, key=lambda release: release.order)


def installed_in(path: Path, folder: Path) -> Release:
    """The release that a user has in a folder, as `pip install --target` makes it. Raises SystemExit without one."""
    names = {entry.metadata["Name"].lower(): entry.version for entry in distributions(path=[str(path)])}
    for library in LIBRARIES:
        if library in names:
            return Release(library, names[library], folder / library / names[library], path.resolve())
    raise SystemExit(f"{path} holds no release of {', '.join(LIBRARIES)}; make it with pip install --target.")


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Under another name first: what is there is whole."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(file)


def first_line(error: BaseException) -> str:
    """The class of an error, or of its cause, and the first line of what it says, without folders of this machine."""
    error = error.__cause__ or error
    lines = re.sub(r" \(/[^)]*\)", "", str(error)).strip().splitlines()
    return shortened(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def shortened(line: str) -> str:
    """A line of MAX_LINE characters at most."""
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."
