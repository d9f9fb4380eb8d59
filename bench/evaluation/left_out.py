"""Warnings about methods that can't explain a model; a run collects them by their category."""

from __future__ import annotations


class MethodLeftOut(UserWarning):
    """A method doesn't apply to the model and has no values."""


class MethodNotTimed(UserWarning):
    """A method doesn't apply to the model and has no run time."""
