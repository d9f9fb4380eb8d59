"""A job: its model, data, methods and metrics, the images that it explains, and the keys of its values."""
