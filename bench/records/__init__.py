"""The files of a run: keys, tables, manifest and claims, and functions that read them. This package
imports only errors, columns, kinds and notes, and never torch.
"""
