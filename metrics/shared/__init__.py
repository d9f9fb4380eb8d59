"""The building blocks that several metrics share."""
