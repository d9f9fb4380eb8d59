"""Shared by the tests of the commands."""

import pytest

from axiom_bench import report
from tests.made_runs import undrawn  # noqa: F401
from tests.made_suites import tiny_suite  # noqa: F401


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """Another one that draws takes more seconds to start than it saves."""
    monkeypatch.setattr(report, "MAX_PROCESSES", 1)
