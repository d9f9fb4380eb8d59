"""Statistics of records: summaries, errors by image, paired tests, mean curves. Plain functions of
tables.
"""
