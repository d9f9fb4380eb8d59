"""The report's tables: pure functions of the run, each with its counts and the statuses that aren't
ok.

A new table is a function of a run, and an entry of `writing.all_tables`.
"""
