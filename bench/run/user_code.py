"""A user's own modules: the current folder is last on sys.path, so it hides no installed package."""

from __future__ import annotations

import os
import sys


def add_current_folder() -> None:
    """Append the current folder to sys.path: `+method.mine._target_=my_module.my_cam` imports from it."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
