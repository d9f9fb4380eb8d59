"""Planted networks: built by hand, so that the true contribution of every channel and position is known."""
