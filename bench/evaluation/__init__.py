"""From one trace to many values: plug-ins, preconditions, the loop over methods and metrics.

Imports explanation, cutting and data's Batch.
"""
