"""Charts of the page and its files: the numbers behind each, computed from the run, and its
drawing.
"""
