"""The store of a run: keys, files, manifest, claims, reading. Imports errors only, and no torch."""
