"""A run, from a command line to the files of its run folder. `spine.py` has the steps in order.

Python's functions, such as `axiom_bench.evaluate`, compute the same values without a run folder.
"""
