"""Files of images, annotations, archives and tables.

They are read so that none hangs, fills the memory or is lost without a report.
"""
