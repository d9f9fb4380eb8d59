"""`axiom-bench submit`: a method's values of a suite as a folder to hand in; and what `verify` does
with it.
"""
