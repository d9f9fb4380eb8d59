"""What one method says of a batch: Explanation, heatmap, Map. Imports cutting."""
