"""The two widths of a paper's figures and tables, in inches."""

from __future__ import annotations

COLUMN = 3.3  # of a column of a page of two
PAGE = 7.0
HEIGHT = 9.0  # the most that a page holds
