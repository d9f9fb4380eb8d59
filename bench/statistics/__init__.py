"""Statistics of records: summaries, intervals, paired tests and rankings. The report, the gate and
the commands read all numbers from here.
"""
