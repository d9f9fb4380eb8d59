"""What the command line prints: text that may come from a stranger's run folder, and that a terminal must not obey."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

# Control characters but the line's end, characters that turn the direction of text, ends of lines of Unicode, and half
# characters, which can't be encoded.
_UNPRINTED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with a question mark for each character that a terminal would obey.

    >>> printable("\\x1b[2Jname")
    '?[2Jname'
    """
    return _UNPRINTED.sub("?", text)


def say(lines: Iterable[str]) -> None:
    """Prints lines on standard output."""
    print(printable("\n".join(lines)))


def say_line(line: str) -> None:
    """Prints one line at once."""
    print(printable(line), flush=True)


def complain(line: str) -> None:
    """Prints a line on standard error, after the program's name."""
    print(f"axiom-bench: {printable(line)}", file=sys.stderr)
