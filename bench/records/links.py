"""Links in a run folder, which may come from a stranger: what leads out of the folder is neither read nor written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError

FOLDERS = (
    *("records", "curves", "whole_set", "runtime", "pictures", "gallery", "running"),
    *("tables", "figures", "report", "report/pictures", "paper"),
)
OWN = ("manifest.json", "report_stamp.json")


def check_folders(folder: Path) -> None:
    """Raises BenchError where a folder that is read or written leads out of the run folder, or a file that is read
    first leads out of it or is none, as a pipe, which would be waited for."""
    _check(folder, (*FOLDERS, *OWN))


def check_files(folder: Path, manifest: Mapping[str, Any], kinds: Iterable[str]) -> None:
    """Raises BenchError as `check_folders`, for the files that a manifest lists; those of combined runs lie in
    other folders."""
    if manifest.get("runs"):
        return
    lists = [manifest.get(kind) or () for kind in kinds]
    lists += [job.get("records") or () for job in manifest.get("jobs") or ()]
    names = dict.fromkeys(str(name) for names in lists for name in names)
    _check(folder, (*dict.fromkeys(map(os.path.dirname, names)), *names))


def _check(folder: Path, names: Iterable[str]) -> None:
    root = os.path.realpath(folder)
    for name in names:
        path = os.path.join(folder, name)
        try:
            is_file = stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):  # absent: whoever reads it says so
            continue
        if is_file:
            continue
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise BenchError(f"{path} leads out of the run folder; put there the files themselves.")
        if not (os.path.isfile(path) or os.path.isdir(path)):
            raise BenchError(f"{path} is no file; run the same command again, which replaces it.")
