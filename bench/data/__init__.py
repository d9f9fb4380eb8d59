"""Data sets, batches of them and their annotations.

This package imports errors, embedded and cutting's outputs.
"""
