"""The store of a run: keys, files, manifest, claims, reading. Imports errors and columns only, and
no torch.
"""
