"""Comparison of a run with a baseline. Imports report's summaries and records."""
