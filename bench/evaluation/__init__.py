"""Computes many values from one trace of a batch.

`batch` goes through batches and methods, `measurement` through metrics, and `answers` asks the
model for the answers that metrics request. The package imports explanation, cutting and data's
Batch.
"""
