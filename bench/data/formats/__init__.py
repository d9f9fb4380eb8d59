"""Files of images, annotations, archives and tables, read so that none hangs, fills the memory or
is lost unseen.
"""
