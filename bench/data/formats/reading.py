"""Files that a user names, read so that none hangs and none takes more memory than it may: regular files alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from axiom_bench.data.formats.file_names import as_text
from axiom_bench.errors import BenchError

MAX_REASON = 200  # characters of an error's text: some repeat the file's content
MAX_TEXT = 2**30  # bytes of a list of images, classes or labels; ImageNet's longest has 3 MB
NONBLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegular(OSError):
    """A folder, a named pipe, a socket or a device in the place of a file. To open one may wait for ever."""


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading. Raises OSError where it is missing or can't be read, NotRegular where it is none."""
    _check(os.stat(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | NONBLOCKING), "rb")
    try:
        _check(os.fstat(file.fileno()))  # it may have been replaced since
    except NotRegular:
        file.close()
        raise
    return file


def content_of(path: Path, at_most: int) -> bytes:
    """The bytes of a file. Raises OSError as `open_regular`, and for a file of more bytes than `at_most`."""
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(f"it has more than {at_most:,} bytes")
    return content


def why(error: Exception) -> str:
    """What an error says in a line, without the path that it repeats: "Permission denied"."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


def is_there(path: Path) -> bool:
    """Whether there is anything by this name, also a link to nothing. A name that can't be looked up isn't there."""
    return os.path.lexists(path)


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a text file in UTF-8, with or without its mark, that aren't blank.

    what: the file, for errors. Raises BenchError where it can't be read, and where it isn't UTF-8.
    """
    try:
        text = content_of(path, MAX_TEXT).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{what} {as_text(path)} can't be read ({why(error)}); it must be text in UTF-8.") from error
    return [line for line in text.splitlines() if line.strip()]


def files_below(folder: Path) -> Iterator[str]:
    """Everything below a folder by its path relative to it, with slashes, in no order: files, folders, and whatever
    else has a name. Links to folders are followed, but not into a folder that they lie in.

    Raises BenchError where a folder can't be listed: its images would be missing without a word.
    """
    pending = [("", frozenset({os.path.realpath(folder)}))]
    while pending:
        relative, above = pending.pop()
        for name, is_folder in listed(folder / relative):
            path = f"{relative}{name}"
            yield path
            if is_folder:
                real = os.path.realpath(folder / path)
                if real not in above:
                    pending.append((f"{path}/", above | {real}))


def listed(folder: Path) -> list[tuple[str, bool]]:
    """(name, whether it is a folder or a link to one) of what a folder holds, by ascending name.

    Raises BenchError where it can't be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        raise BenchError(f"The folder {as_text(folder)} can't be listed: {why(error)}; allow reading it.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _check(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise NotRegular("it is no regular file")
