"""Lets idle threads of torch sleep soon: a spinning one takes a core from whoever would use it.

By default GNU's OpenMP spins for milliseconds, which made a run on two shared cores ten times slower; without any
spinning each small operation waits for a thread to wake. Ten thousand turns, some microseconds, avoid both. It is read
once, as torch is loaded: a setting of the user's own wins, and where torch is already loaded nothing changes.
"""

from __future__ import annotations

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
