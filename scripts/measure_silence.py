"""How long a command is silent: it runs at a pseudo-terminal, and the longest gaps between two outputs are printed with
what stands before and after each.

    python scripts/measure_silence.py [--pipe] [--gaps 5] -- axiom-bench experiment=real data.size=4

A line that is drawn again as it was counts as silence. --pipe: the output goes into a pipe, as into a log.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x00-\x08\x0b-\x1f]")
WIDTH = 150  # characters of an output that are shown


@dataclass(frozen=True)
class Gap:
    """Seconds without anything new, the time at which they began, and the texts on both sides."""

    seconds: float
    start: float
    before: str
    after: str


def visible(chunk: str) -> str:
    """What a reader sees of it.

    >>> visible("\\x1b[2K\\r 3/64 \\x1b[0m\\n")
    '3/64'
    """
    return CONTROL.sub("", chunk).strip()


def gaps(outputs: Iterable[tuple[float, str]]) -> list[Gap]:
    """The gaps between outputs (seconds since the start, text), the longest first. A text that says what the one before
    it says is no output. The first gap begins at the start.
    """
    found, last, shown = [], 0.0, "start"
    for now, chunk in outputs:
        text = visible(chunk)
        if text and text != shown:
            found.append(Gap(now - last, last, shown[-WIDTH:], text[:WIDTH]))
            last, shown = now, text
    return sorted(found, key=lambda gap: -gap.seconds)


def outputs(command: Sequence[str], pipe: bool) -> Iterator[tuple[float, str]]:
    """What the command writes, with its time; at its end "end" and the exit code."""
    reader, writer = os.pipe() if pipe else os.openpty()
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    while True:
        select.select([reader], [], [])
        try:
            chunk = os.read(reader, 2**16)
        except OSError:  # how a terminal ends
            chunk = b""
        if not chunk:
            break
        yield time.monotonic() - start, chunk.decode(errors="replace")
    yield time.monotonic() - start, f"end: exit code {process.wait()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipe", action="store_true", help="as into a log, instead of a terminal")
    parser.add_argument("--gaps", type=int, default=5, help="how many are printed")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    found = gaps(outputs(options.command, options.pipe))
    for gap in found[: options.gaps]:
        print(f"{gap.seconds:.1f} s of silence, {gap.start:.1f} s after the start\n  before: {gap.before}")
        print(f"  after:  {gap.after}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
