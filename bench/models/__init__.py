"""Networks to explain, with their weights, target layer and preprocessing.

It imports errors, data, embedded and cutting.
"""
