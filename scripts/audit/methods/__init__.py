"""Methods: which are compared, how the libraries are called, what is measured, and the page docs/studies/audit.md."""
