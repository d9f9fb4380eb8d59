"""The runner: configuration, jobs, shards, progress, run times, and values of the whole data
set.
"""
