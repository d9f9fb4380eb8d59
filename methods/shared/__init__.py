"""Parts that several methods share; they import only `explanation` and `cutting`."""
