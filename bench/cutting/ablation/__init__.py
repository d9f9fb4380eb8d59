"""Exact ablation: the K drops S - S_k of a batch, for about the work of the head's first layer.
Imports cutting.
"""
