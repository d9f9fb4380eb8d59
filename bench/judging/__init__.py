"""Judge metrics by a run's records.

Do images agree on the order of methods, with its controls, and how many images are needed? Does a
metric recover an order that is known?
"""
