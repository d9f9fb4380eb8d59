"""CSV for people, who open it in a spreadsheet: there, a cell that begins a formula would be computed.

Such a text has an apostrophe before it, which spreadsheets take for "text". A text that has one already gets another,
so that `unquoted` gives every text back. The page's scripts write theirs by the same rule.
"""

from __future__ import annotations

import csv
import re

import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")
QUOTED = re.compile(r"'+[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-", re.ASCII)  # and the method of a layer's values


def to_csv(frame: pd.DataFrame) -> str:
    """The table without its index, texts and headings quoted; numbers are as they are."""
    texts = {str(name): _quoted(frame[name]) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])}
    quoted_frame = frame.assign(**texts).rename(columns=quoted)
    text = str(quoted_frame.to_csv(index=False, lineterminator="\n"))
    if "\r" not in text:
        return text
    # Without quotes a lone \r would end the row for a spreadsheet, and what follows be a cell of its own.
    return str(quoted_frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def quoted(text: str) -> str:
    """
    >>> quoted("=1+1"), quoted("-0.5"), quoted("a=1")
    ("'=1+1", '-0.5', 'a=1')
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def unquoted(text: str) -> str:
    """The text that `quoted` was given."""
    return text[1:] if QUOTED.match(text) else text


def _quoted(column: pd.Series) -> pd.Series:
    entries = column.astype(object)
    return entries.map(lambda entry: quoted(entry) if isinstance(entry, str) else entry)
