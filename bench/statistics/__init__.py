"""Statistics of records: summaries, errors by image, paired tests, mean curves. All are plain
functions of tables.
"""
