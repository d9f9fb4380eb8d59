"""Data sets that are drawn or put together when they are read: scenes, planted and hard images, mosaics."""
