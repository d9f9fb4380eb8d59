"""Data sets, batches of them and their annotations. Imports errors, embedded and cutting's
outputs.
"""
