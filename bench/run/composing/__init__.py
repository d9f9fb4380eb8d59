"""Compose a command line with Hydra, check its settings, and choose its device."""
