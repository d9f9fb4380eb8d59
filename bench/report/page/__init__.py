"""report.html: one self-contained file with the run, its tables and its figures."""
