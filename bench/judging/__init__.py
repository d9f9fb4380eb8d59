"""Judging metrics by their records: do images agree, how many are needed, where controls stand,
what is recovered.
"""
