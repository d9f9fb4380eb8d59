"""A model split at a layer into trunk and head."""
