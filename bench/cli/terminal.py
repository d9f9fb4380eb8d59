"""Helpers that all commands share: print text that may hold control characters, and find run
folders.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path

from axiom_bench.records import artefacts
from axiom_bench.records.files import local_path

# Control characters except the line's end, characters that change the direction of text, Unicode's
# line ends, and lone surrogates, which can't be encoded.
_UNPRINTED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return the text with a question mark for each character that a terminal would obey.

    >>> printable("\x1b[2Jname")
    '?[2Jname'
    """
    return _UNPRINTED.sub("?", text)


def escape_missing_characters() -> None:
    r"""Let standard output and error write characters that their encodings lack as escapes, such as
    \u2191.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # streams of notebooks and tests take all characters
            stream.reconfigure(errors="backslashreplace")


_BEST = re.compile(r"(?<= )\*\S+")  # report.tables marks the best values with *


def say(lines: Iterable[str]) -> None:
    """Print lines on standard output. On a terminal, values marked as best are bold."""
    text = printable("\n".join(lines))
    if sys.stdout.isatty():
        text = _BEST.sub("\x1b[1m\\g<0>\x1b[0m", text)
    print(text)


def complain(line: str) -> None:
    """Print a line on standard error, after the program's name."""
    print(f"axiom-bench: {printable(line)}", file=sys.stderr)


def existing_run(text: str) -> Path:
    """Return the path of a run folder, or raise BenchError if there is no such folder.

    Commands use it instead of `local_path` if importing what reads the run takes long.
    """
    folder = local_path(text)
    if not folder.is_dir():
        raise artefacts.no_run_error(folder)
    return folder
