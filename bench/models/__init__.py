"""Networks to explain, with their weights, target layer and preprocessing. Imports errors, data,
embedded, cutting.
"""
