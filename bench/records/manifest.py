"""manifest.json: a run's configuration, its models, data, methods and metrics, and the files that count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import files

NAME = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
    """The parsed manifest. Raises BenchError where it is missing, can't be read, or isn't a run's manifest."""
    file = folder / NAME
    try:
        manifest = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BenchError(f"{folder} is no run folder: it has no {NAME}; give results/<experiment>/<run>.") from error
    except (OSError, ValueError) as error:
        raise BenchError(f"{file} can't be read ({error}); run the same command again to write it anew.") from error
    if not isinstance(manifest, dict) or not {"experiment", "run"} <= manifest.keys():
        raise BenchError(f"{file} isn't a run's manifest; run the same command again to write it anew.")
    return manifest


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, completely or not at all. Raises BenchError where it can't."""
    files.write(folder / NAME, (json.dumps(manifest, indent=1, default=str) + "\n").encode())
