"""Explainers whose quality is known: the truth, and the truth spoiled by degrees from 0 to 1, to
judge metrics by.
"""
