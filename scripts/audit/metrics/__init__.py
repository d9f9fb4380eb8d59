"""Metrics: which are compared, how the libraries are called, what is measured, and the page docs/metrics-audit.md."""
