"""Make the package that an editable install imports, as links in `build/editable/axiom_bench/`.

The import package is `axiom_bench`, but its folders are at the top of the repository: `bench/` is
the package itself, and `methods/`, `metrics/` and `conf/` are inside it. A wheel renames them. An
editable install and mypy need a folder with the package's name. `python hatch_build.py` renews the
links, and so does `make` before it runs anything.
"""

from __future__ import annotations

import os
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python hatch_build.py` needs no build backend
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "build" / "editable" / "axiom_bench"
INSIDE = {
    "methods": "methods", "metrics": "metrics", "conf": "conf", "baselines": "results/baselines",
    "reference": "results/reference",
    "scorecard.csv": "docs/data/scorecard.csv",
}  # fmt: skip


class EditableLinks(BuildHookInterface):  # type: ignore[misc, valid-type]
    """Make the links before an editable install; a wheel needs none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Renew the links if the build is an editable install.

        Args:
            version: "editable" or "standard".
            build_data: The settings of the build, which aren't changed.
        """
        if version == "editable":
            renew()


def renew() -> None:
    """Link every entry of bench/ and every entry of INSIDE, and remove links without a target."""
    PACKAGE.mkdir(parents=True, exist_ok=True)
    entries = {path.name: path for path in (ROOT / "bench").iterdir() if path.name != "__pycache__"}
    entries |= {name: ROOT / folder for name, folder in INSIDE.items()}
    for link in PACKAGE.iterdir():
        if link.is_symlink() and link.name not in entries:
            link.unlink()
    for name, path in entries.items():
        link = PACKAGE / name
        target = os.path.relpath(path, PACKAGE)
        if not link.is_symlink() or os.readlink(link) != target:
            link.unlink(missing_ok=True)
            # Windows has two kinds of links, one for files and one for folders.
            link.symlink_to(target, target_is_directory=path.is_dir())


if __name__ == "__main__":
    renew()
