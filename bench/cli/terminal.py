"""What a command line names and prints: run folders, and text that a terminal must not obey."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path

from axiom_bench.records import artefacts
from axiom_bench.records.files import local_path

# Control characters but the line's end, characters that turn the direction of text, ends of lines
# of Unicode, and half characters, which can't be encoded.
_UNPRINTED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with a question mark for each character that a terminal would obey.

    >>> printable("\\x1b[2Jname")
    '?[2Jname'
    """
    return _UNPRINTED.sub("?", text)


def escape_missing_characters() -> None:
    """Let standard output and error write characters that their encodings lack as escapes, such as
    \\u2191.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a notebook's and a test's own streams take all characters
            stream.reconfigure(errors="backslashreplace")


_BEST = re.compile(r"(?<= )\*\S+")  # as report.tables marks values


def say(lines: Iterable[str]) -> None:
    """Prints lines on standard output; on a terminal what is marked as best in bold."""
    text = printable("\n".join(lines))
    print(_BEST.sub("\x1b[1m\\g<0>\x1b[0m", text) if sys.stdout.isatty() else text)


def complain(line: str) -> None:
    """Prints a line on standard error, after the program's name."""
    print(f"axiom-bench: {printable(line)}", file=sys.stderr)


def existing_run(text: str) -> Path:
    """As `local_path`, for a command that takes long to import what reads it. Raises BenchError for
    no folder.
    """
    folder = local_path(text)
    if not folder.is_dir():
        raise artefacts.no_run(folder)
    return folder
