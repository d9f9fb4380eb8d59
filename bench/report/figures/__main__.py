"""Save a share of a run's figures: python -m axiom_bench.report.figures FOLDER INDEX COUNT SETTINGS; see saving.py.

Ends when its standard input does: however the process that started it ends, nothing is left that draws.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path


def _end_with_the_input() -> None:
    os.read(0, 1)  # no byte ever comes; sys.stdin's lock would be in the way at the interpreter's own end
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    from axiom_bench.report.figures.saving import save_share  # imports what draws, which takes a second
    from axiom_bench.report.run_folder import RunFolder

    folder, index, count, settings = sys.argv[1:]
    save_share(RunFolder.read(Path(folder), json.loads(settings)), int(index), int(count))
