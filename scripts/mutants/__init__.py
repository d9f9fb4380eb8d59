"""Bugs that are put into a copy of the code, one at a time: who sees them, the gate or the tests?"""

from . import engine, plugins

MUTANTS = (*plugins.MUTANTS, *engine.MUTANTS)
