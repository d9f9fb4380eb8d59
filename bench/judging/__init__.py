"""Judge metrics by a run's records.

Do images agree on the order of methods, and how many images are needed? Where are the controls in
this order? Does a metric recover an order that is known?
"""
