"""Draw the charts of the page and its figures, from numbers that are computed from a run."""
