"""The tree that an editable install imports: `build/editable/axiom_bench/`, links to the folders at
the top.

The import package is `axiom_bench`, and its folders stand side by side here (`bench/` is the
package itself; `methods/`, `metrics/` and `conf/` are in it). A wheel is built by renaming them; an
editable install, and mypy, need a folder of that name. `python hatch_build.py` renews the links, as
`make` does whenever it runs something.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
    """Makes the links before an editable install; a wheel needs none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """version: "editable" or "standard"."""
        if version == "editable":
            renew()


def renew() -> None:
    """Link every entry of bench/, and the folders that are installed beside them; remove links to
    what has gone.
    """
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
            link.symlink_to(target, target_is_directory=path.is_dir())  # which Windows asks


if __name__ == "__main__":
    renew()
