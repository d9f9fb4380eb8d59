"""The result of a method on a batch: Explanation, heatmap and Map.

The package imports cutting and errors.
"""
