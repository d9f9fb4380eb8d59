"""Shared by the tests of the commands."""

from tests.made_runs import undrawn  # noqa: F401
from tests.made_suites import tiny_suite  # noqa: F401
