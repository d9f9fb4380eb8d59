"""The result of a method on a batch: Explanation, heatmap, Map. Imports cutting and errors."""
