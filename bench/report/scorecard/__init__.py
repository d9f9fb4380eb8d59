"""The scorecard of metrics as tables and a section of the page."""
