"""Save a share of a run's figures: python -m axiom_bench.report.figures FOLDER INDEX COUNT SETTINGS; see saving.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from axiom_bench.report.figures.saving import save_share
from axiom_bench.report.run_folder import RunFolder

if __name__ == "__main__":
    folder, index, count, settings = sys.argv[1:]
    save_share(RunFolder.read(Path(folder), json.loads(settings)), int(index), int(count))
