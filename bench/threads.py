"""Lets idle threads of torch sleep: a spinning one, OpenMP's default, takes a core from whoever would use it.

On two shared cores a run was ten times slower for it. OpenMP reads this once, as torch is loaded; a setting of the
user's own wins, and where torch is already loaded nothing changes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
