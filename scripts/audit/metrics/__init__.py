"""Metrics: which are compared, how the libraries are called, what is measured, and docs/studies/metrics-audit.md."""
