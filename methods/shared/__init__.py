"""Parts that several methods share; they import explanation and cutting."""
