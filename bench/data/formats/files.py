"""Files that a user names, read so that none hangs and none takes more memory than allowed.

Only regular files are read.
"""

from __future__ import annotations

import csv
import glob
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, product
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from axiom_bench.data.formats.urls import fetch_copies, is_url
from axiom_bench.environment import decode_text
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File

Paths = File | Sequence[File]
MAX_SHOWN = 100  # characters of a value in a message
MAX_REASON = 200  # characters of an error's text: some repeat the file's content
MAX_TEXT = 2**30  # bytes of a list of images, classes or labels; ImageNet's longest has 3 MB
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # the beginnings of .xlsx and .ods, and of .xls
# What exists depends on the system.
NONBLOCKING = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
MAX_FILES = 100_000  # in a pattern
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|\\(?=x[0-9a-f]{2})")


def as_text(name: str | Path) -> str:
    r"""Return a file's name, as Python has it, as text that can be stored and shown.

    A record, a page or a JSON file can only hold text that UTF-8 can encode.

    >>> as_text("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """

    def escaped(match: re.Match[str]) -> str:
        try:
            content = os.fsencode(match[0])
        except UnicodeEncodeError:
            # Half a surrogate pair, which no file's name has: escape it as UTF-8 would write it.
            content = match[0].encode("utf-8", "surrogatepass")
        return "".join(f"\\x{byte:02x}" for byte in content)

    return _UNWRITABLE.sub(escaped, str(name))


def as_name(text: str) -> str:
    r"""Return the name of a text from `as_text`.

    >>> as_name("caf\\xe9.jpg")
    'caf\udce9.jpg'
    """
    return _ESCAPED.sub(lambda match: os.fsdecode(bytes.fromhex(match[0].replace("\\x", ""))), text)


def nfc(text: str) -> str:
    """Return a text in the Unicode form NFC.

    macOS writes names in another form, which looks the same.

    >>> one_form("u\u0308") == "\u00fc"
    True
    """
    return unicodedata.normalize("NFC", text)


def comparable_name(name: str) -> str:
    r"""Return a file's name in the form in which lists and folders are compared.

    Lists from Windows have backslashes.

    >>> comparable(" photos\\000.png")
    'photos/000.png'
    """
    return nfc(name.strip()).replace("\\", "/")


def listed_file(folder: Path, name: str) -> Path:
    """Return the path of a file that a list names, which may be missing.

    If no file has this name, return a file whose name is `comparable_name` to it.
    """
    path = folder / name
    if (name.isascii() and "\\" not in name) or os.path.lexists(path):
        return path
    forms = [folder / unicodedata.normalize(form, comparable_name(name)) for form in ("NFC", "NFD")]
    return next(filter(os.path.lexists, forms), path)


def ids_of(names: Iterable[object], source: str) -> tuple[str, ...]:
    """Return the image ids of names that a file lists, in its order: relative paths of files.

    Args:
        names: The names.
        source: The file, for errors.

    Raises:
        BenchError: For a name that is no path of a file below the data set's folder, and for a
            name that is listed twice, since one of the two images would be lost.
    """
    # A dict keeps the order and finds repeats. Two spellings of a name may be one id.
    ids: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or not _is_inside(name):
            raise BenchError(
                f"{source} names the image {short_repr(name)}, which is no path of a file below "
                "the data set's folder; correct or remove it."
            )
        image_id = as_text(name)
        if image_id in ids:
            raise BenchError(
                f"{source} names the image {short_repr(name)} twice; give each image a name of "
                "its own."
            )
        ids[image_id] = None
    return tuple(ids)


def _is_inside(name: str) -> bool:
    """Return whether a name is the path of a file below a folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    is_below = not path.is_absolute() and ".." not in path.parts and path.name and "\0" not in name
    # No file's name has half a surrogate pair, which `as_name` doesn't restore.
    return bool(is_below) and as_name(as_text(name)) == name


def short_repr(value: object) -> str:
    """Return a value for a message: as Python writes it, but no more than a line.

    A broken file may hold millions of characters in one cell.
    """
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class NotRegular(OSError):
    """A folder, a named pipe, a socket or a device in the place of a file.

    To open one may wait for ever.
    """


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: If it is missing or can't be read.
        NotRegular: If it is no regular file.
    """
    _check(os.stat(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | NONBLOCKING), "rb")
    try:
        _check(os.fstat(file.fileno()))  # it may have been replaced since
    except NotRegular:
        file.close()
        raise
    return file


def content_of(path: Path, at_most: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: As `open_regular`, and for a file of more bytes than `at_most`.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(f"it has more than {at_most:,} bytes")
    return content


def reason_of(error: Exception) -> str:
    """Return an error's text in a line, without the path that it repeats: "Permission denied"."""
    reason = error.strerror if isinstance(error, OSError) else None
    text = reason or str(error) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


def lines_of(path: Path, what: str) -> list[str]:
    """Return the lines of a text file that aren't blank.

    The file is UTF-8, or UTF-16 with its mark.

    Args:
        path: The file.
        what: Words for the file, for errors.

    Raises:
        BenchError: If it can't be read, or is no such text.
    """
    try:
        content = content_of(path, MAX_TEXT)
        if content.startswith(SPREADSHEETS):
            raise BenchError(f"{what} {as_text(path)} is a spreadsheet; save it as CSV in UTF-8.")
        text = decode_text(content)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(
            f"{what} {as_text(path)} can't be read ({reason_of(error)}); it must be text in UTF-8."
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def tables_of(lines: Sequence[str]) -> dict[str, list[list[str]]]:
    """Return {separator: rows of a table} for each separator of columns in its first line.

    Separators are the tab, the semicolon and the comma.
    """
    separators = [separator for separator in "\t;," if lines and separator in lines[0]]
    return {separator: list(csv.reader(lines, delimiter=separator)) for separator in separators}


def table_of(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    """Return the first separator that gives all lines the same number of cells, and the rows.

    If none does, return the last separator.
    """
    tables = tables_of(lines) or {",": list(csv.reader(lines))}
    regular = [separator for separator, rows in tables.items() if len({*map(len, rows)}) == 1]
    separator = (regular or [*tables][-1:])[0]
    return separator, tables[separator]


def files_below(folder: Path) -> Iterator[str]:
    """Yield everything below a folder by its path relative to it, with slashes, in no order.

    These are files, folders, and whatever else has a name. Links to folders are followed, but not
    into a folder that they lie in.

    Raises:
        BenchError: If a folder can't be listed: its images would be missing without a message.
    """
    pending = [("", frozenset({os.path.realpath(folder)}))]
    while pending:
        relative, above = pending.pop()
        for name, is_folder in folder_entries(folder / relative):
            path = f"{relative}{name}"
            yield path
            if is_folder:
                real = os.path.realpath(folder / path)
                if real not in above:
                    pending.append((f"{path}/", above | {real}))


def folder_entries(folder: Path) -> list[tuple[str, bool]]:
    """Return (name, whether it is a folder or a link to one) of a folder's content, by name.

    Hidden files and folders, such as a notebook's .ipynb_checkpoints, are left out, and so is
    __MACOSX, which a Mac's archives have.

    Raises:
        BenchError: If the folder can't be listed.
    """
    try:
        with os.scandir(folder) as entries:
            visible = (
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name != "__MACOSX"
            )
            return sorted((entry.name, _is_folder(entry)) for entry in visible)
    except OSError as error:
        raise BenchError(
            f"The folder {as_text(folder)} can't be listed: {reason_of(error)}; allow reading it."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a folder that nobody may read
        return False


def _check(state: os.stat_result) -> None:
    """Raise NotRegular for anything that isn't a regular file."""
    if not stat.S_ISREG(state.st_mode):
        raise NotRegular("it is no regular file")


def files_named(paths: Paths, suffix: str) -> dict[str, Path]:
    """Return {name: file}, ascending.

    The file of a URL is a copy on this machine. In a folder, the name is the path below it;
    otherwise it is the file's own name. The suffix is left out.

    Args:
        paths: Files, folders, patterns or URLs.
        suffix: The end of the names of a folder's files.

    Raises:
        BenchError: If there is no such file, two have one name, or a pattern has too many.
    """
    path_list = [paths] if isinstance(paths, str) else list(paths)
    files: dict[str, Path] = {}
    for name, file in chain.from_iterable(_found(path, suffix) for path in path_list):
        name = as_text(name.removesuffix(suffix))
        if files.setdefault(name, file) != file:
            raise BenchError(
                f"data.path names two files {short_repr(name)}, {as_text(files[name])} and "
                f"{as_text(file)}; rename one, or give the folder that holds both."
            )
    return dict(sorted(files.items()))


def _found(path: str, suffix: str) -> list[tuple[str, Path]]:
    """Return (name, file) of each file that a path, a URL or a pattern names."""
    if is_url(path):
        return fetch_copies(list(expand_braces(path)), suffix)
    if os.path.isdir(path):
        names_and_files = [
            (name, Path(path, name)) for name in files_below(Path(path)) if name.endswith(suffix)
        ]
        if not names_and_files:
            raise BenchError(
                f"data.path: there is no file whose name ends in {suffix} below {as_text(path)}."
            )
        return names_and_files
    # A file whose name has the signs of a pattern counts as that file.
    if os.path.lexists(path):
        return [(Path(path).name, Path(path))]
    files: list[Path] = []
    for text in expand_braces(path):
        matching: list[str] = []
        if glob.has_magic(text):
            matching = sorted(glob.glob(text))
        elif os.path.lexists(text):
            matching = [text]
        if not matching:
            raise BenchError(
                f"data.path: there is no file {as_text(text)}; give a file, a folder, a list or a "
                "pattern."
            )
        files += map(Path, matching)
    return [(file.name, file) for file in files]


def expand_braces(pattern: str) -> Iterator[str]:
    """Return each text of a pattern: {a,b} is a, then b; {08..11} is 08, 09, 10, 11.

    Raises:
        BenchError: For too many texts.
    """
    pieces = _BRACES.split(pattern)  # every second piece is the content of braces
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    number = math.prod(map(len, choices))
    if number > MAX_FILES:
        raise BenchError(
            f"data.path={short_repr(pattern)} names {number:,} files, more than {MAX_FILES:,}; "
            "give a folder."
        )
    return map("".join, product(*choices))


def _choices(inside: str) -> Sequence[str]:
    """Return the choices of the content of braces."""
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",")
    first = int(ends[1][:9])
    last = int(ends[2][:9])
    if not 0 <= last - first < MAX_FILES:
        raise BenchError(
            f"data.path: {{{short_repr(inside)[1:-1]}}} is no range of at most {MAX_FILES:,} "
            "numbers."
        )
    return [str(number).zfill(len(ends[1])) for number in range(first, last + 1)]


def plain_name(name: str) -> str:
    """Return a class's name in lower case and one Unicode form, with spaces for _ and -.

    People write names in many ways.

    >>> plain("Great_white-shark")
    'great white shark'
    """
    return " ".join(nfc(name).replace("_", " ").replace("-", " ").casefold().split())
