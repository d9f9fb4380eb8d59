"""Bugs that are put into a copy of the code, one at a time: who sees them, the gate or the tests?"""

from . import of_images, of_methods, of_metrics, of_passes, of_rows

MUTANTS = (*of_methods.MUTANTS, *of_metrics.MUTANTS, *of_passes.MUTANTS, *of_images.MUTANTS, *of_rows.MUTANTS)
