"""Save a share of a run's figures: python -m axiom_bench.report.charts INDEX COUNT; see saving.py.

The process that starts it sends what it has read of the run. Ends when its standard input does: however the process
that started it ends, nothing is left that draws.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading


def _end_with_the_input() -> None:
    os.read(0, 1)  # no byte ever comes; sys.stdin's lock would be in the way at the interpreter's own end
    os._exit(1)


if __name__ == "__main__":
    from axiom_bench.report.charts.saving import save_share  # imports what draws, which takes a second

    run = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    save_share(run, int(sys.argv[1]), int(sys.argv[2]))
