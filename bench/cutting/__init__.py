"""A model cut at a layer, and the tensors of a pass through it: trace, exact ablation. Imports
errors only.
"""
