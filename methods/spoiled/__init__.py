"""Explainers whose quality is known, to judge metrics by: the truth, and the truth spoiled.

The degree of spoiling is from 0, the truth, to 1.
"""
