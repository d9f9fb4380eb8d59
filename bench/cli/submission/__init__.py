"""`axiom-bench submit` writes a method's values of a suite as a folder to hand in, and `verify`
checks such a folder.
"""
