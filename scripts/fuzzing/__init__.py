"""Damaged and hostile input given to the package in process: `kinds/` makes it, `running.py` counts what comes."""
