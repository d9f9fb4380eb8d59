"""Measure one release, in a process that sees its folder before what is installed otherwise.

    python -m scripts.audit.releases.measure FOLDER LIBRARY VERSION INSTALLED PHOTOGRAPHS

FOLDER gets values.csv and maps.npz, where any method could be called, and then measured.json.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from .release import LIBRARIES, Release, first_line, write_json


def main(folder: str, library: str, version: str, installed: str, photographs: str) -> None:
    """Measure and write. Raises SystemExit where another folder's library would be measured."""
    sys.path.insert(0, installed)  # before the libraries are imported
    release = Release(library, version, Path(folder), Path(installed))
    write_json(release.result, {**_values(release, int(photographs)), "cases": _cases(library)})


def _values(release: Release, photographs: int) -> dict[str, Any]:
    import numpy as np

    from ..libraries import PEERS, versions
    from .earlier import bridged
    from .values import baseline_of, measured

    name = LIBRARIES[release.library]
    failure = _import_failure(name, release.installed)
    earlier = [] if failure else bridged(name)
    found = measured(name, photographs)
    if found.records:
        baseline_of(found.records, release.library, release.version).write(release.baseline)
        np.savez_compressed(release.maps, **found.maps)
    return {
        "failure": failure,
        "failures": found.failures,
        "earlier": earlier,
        "versions": versions((*PEERS, "torch", "numpy")),
        "photographs": photographs,
    }


def _import_failure(name: str, installed: Path) -> str:
    """Why the library can't be imported, else empty. Raises SystemExit where it comes from another folder."""
    from axiom_bench.data import torchvision_import  # noqa: F401 - the libraries import torchvision

    try:
        file = getattr(import_module(name), "__file__", None)
    except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
        return first_line(error)
    if file is None or not Path(file).resolve().is_relative_to(installed.resolve()):
        raise SystemExit(f"it has no module {name}")
    return ""


def _cases(library: str) -> dict[str, dict[str, Any]]:
    """{case: whether it is reproduced, or its error's first line} of the cases that are about a library."""
    from ..cases import cases, run

    outcomes: dict[str, dict[str, Any]] = {}
    for case in (case for case in cases("methods") if library in case.libraries):
        try:
            outcomes[case.name] = {"reproduced": run(case).reproduced}
        except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
            outcomes[case.name] = {"failure": first_line(error)}
    return outcomes


if __name__ == "__main__":
    main(*sys.argv[1:])
