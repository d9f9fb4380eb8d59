"""Files of a results folder. A file is complete or absent, and replaces whatever has its name. JSON
files have a checksum.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from axiom_bench.errors import BenchError
from axiom_bench.kinds import home_expanded
from axiom_bench.notes import WARNINGS, DamagedFile, Notes


@cache
def host() -> str:
    """Return the name of this machine."""
    return platform.node() or "this machine"


@cache
def machine_digits() -> str:
    """Return eight hexadecimal digits of this machine and its table of processes; a container has
    its own table.
    """
    table = ""
    with suppress(OSError):  # other systems than Linux have one table
        table = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{host()} {table}".encode()).hexdigest()[:8]


def is_alive(number: int) -> bool:
    """Return whether a process of this machine has this number; True if the system can't tell."""
    if os.name == "posix":  # elsewhere signal 0 isn't a question
        try:
            os.kill(number, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # somebody else's
            return True
    return True


def process() -> dict[str, object]:
    """Return the facts that identify this process to others: number, machine and table of
    processes.
    """
    return {"process": os.getpid(), "host": host(), "place": machine_digits()}


CHECKSUM = "axiom_bench_sha256"  # the key of the last entry of a JSON file
ZEROS = "0" * 64  # its value while the checksum is computed
# Reading may fail for these reasons of the machine, although the file is intact.
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
MAX_NAME = 100  # characters of a name in a file's name; file systems allow 255 bytes in all
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_@+=.-]")
# A draft's name has the place and the number of the process that writes it.
_DRAFT = re.compile(r"\..+\.([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}\.tmp")


def read(path: Path) -> bytes:
    """Return the bytes of a file.

    Raise FileNotFoundError if it doesn't exist. Raise another OSError if it isn't a file but, for
    example, a pipe, on which reading would wait without end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is a folder, a pipe or a device")
    return path.read_bytes()


class Damaged(BenchError):
    """The error for a file whose bytes aren't those that were written."""


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def content_of(path: Path, digits: str | None = None) -> bytes:
    """Return the bytes of a file.

    `digits` are the first digits of their SHA-256, or all of them. Raise `Damaged` if the file is
    missing or has another hash.
    """
    try:
        content = read(path)
    except FileNotFoundError as error:
        raise Damaged(
            f"The file {path} can't be read: it is missing; run the same command again."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if digits and not sha256(content).startswith(digits):
        what = "is damaged (its checksum doesn't match) and can't be read"
        raise Damaged(f"The file {path} {what}; run the same command again.")
    return content


def unreadable(path: Path, error: Exception) -> BenchError:
    """Return the error for a file that can't be read: `Damaged`, except for reasons that may be
    gone a moment later.
    """
    kind = BenchError if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE else Damaged
    return kind(f"The file {path} can't be read ({error}); run the same command again.")


def write_json(path: Path, content: Mapping[str, object], indent: int | None = None) -> None:
    """Write plain data with its checksum; other objects are written as their `str`. Raise
    BenchError if the file can't be written.
    """
    write(path, to_json(path.name, content, indent))


def to_json(name: str, content: Mapping[str, object], indent: int | None = None) -> bytes:
    """Return the bytes that `write_json` writes to a file of this name.

    The last entry is the SHA-256 of the name and all of the bytes, computed while its digits are
    zeros. Without `indent`, the text has no space except after a colon.
    """
    separators = None if indent else (",", ": ")
    entries = {key: value for key, value in content.items() if key != CHECKSUM}
    entries[CHECKSUM] = ZEROS
    text = (json.dumps(entries, indent=indent, separators=separators, default=str) + "\n").encode()
    digest = hashlib.sha256(name.encode(errors="replace") + text).hexdigest()
    return digest.encode().join(text.rsplit(ZEROS.encode(), 1))


def is_intact(name: str, content: bytes) -> bool:
    """Return whether `to_json` made these bytes for a file of this name."""
    before, mark, after = content.rpartition(f'"{CHECKSUM}": "'.encode())
    digest = after[: len(ZEROS)]
    rest = after[len(ZEROS) :]
    zeroed = before + mark + ZEROS.encode() + rest
    return hashlib.sha256(name.encode(errors="replace") + zeroed).hexdigest().encode() == digest


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, without its checksum.

    Raise OSError if the file can't be read, and ValueError if its content isn't what was written.
    """
    content = read(path)
    if not is_intact(path.name, content):
        raise ValueError("its checksum doesn't match")
    return parse_mapping(content)


def parse_mapping(content: bytes) -> dict[str, Any]:
    """Return the mapping in a JSON file, intact or not, without its checksum. Raise ValueError if
    the file holds no mapping.
    """
    try:
        entries = json.loads(content)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(entries, dict):
        raise ValueError("it holds no mapping")
    entries.pop(CHECKSUM, None)
    return entries


def read_json_or_none(path: Path, notes: Notes = WARNINGS) -> dict[str, Any] | None:
    """Return the content of a JSON file. If the file doesn't exist, or is damaged, return None. A
    damaged file is added to the notes.
    """
    try:
        return read_json(path)
    except FileNotFoundError:
        if path.is_symlink():  # a link to a file that doesn't exist
            notes.add(DamagedFile(str(path)))
        return None
    except (OSError, ValueError):
        notes.add(DamagedFile(str(path)))
        return None


def write(path: Path, content: bytes) -> None:
    """Write a file like `replace`, and sync it. Raise BenchError, which names the folder, if the
    file can't be written.
    """
    try:
        replace(path, content)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def replace(path: Path, content: bytes, sync: bool = True) -> None:
    """Write a file under a temporary name in the same folder and rename it, in place of whatever
    had its name.

    With `sync`, the file survives a power cut. Raise OSError if the file can't be written.
    """
    draft = path.with_name(f".{path.name}.{machine_digits()}-{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if path.is_dir() and not path.is_symlink():
            make_way(path)
        os.replace(draft, path)
        if sync:
            _sync_folder(path.parent)
    finally:
        _remove(draft)


def check_output(*paths: Path | None) -> None:
    """Raise BenchError if a file that a user names for output would replace something other than a
    plain file: a folder, a device, a pipe or a link.

    Call this function before anything is computed.
    """
    for path in paths:
        if path is None:
            continue
        try:
            kind = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue  # `write` makes the folders, or reports why it can't
        except (OSError, ValueError) as error:
            raise BenchError(f"Can't write {str(path)[:200]!r}: {error}.") from error
        if not stat.S_ISREG(kind):
            file_type = "a link" if stat.S_ISLNK(kind) else "no regular file"
            raise BenchError(
                f"{path} is {file_type} and isn't replaced; give another name for the output."
            )


def make_way(path: Path) -> None:
    """Remove a file, a link or an empty folder to make way for a file, and rename a folder with
    content, which isn't ours to remove.

    Raise OSError if that fails.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        try:
            path.rmdir()
        except OSError:
            path.rename(path.with_name(f"{path.name}.set-aside-{uuid4().hex[:8]}"))


def sweep(folder: Path) -> None:
    """Remove the drafts of killed processes of this machine. Other machines' drafts stay, because
    the number of a process says nothing about another machine.
    """
    for path in folder.rglob(".*.tmp"):
        match = _DRAFT.fullmatch(path.name)
        if match and match[1] == machine_digits() and not is_alive(int(match[2])):
            _remove(path)


def safe_name(name: str) -> str:
    """Return the name of a model, metric or layer as part of a file's name.

    A short name of letters, digits and _ @ + = . - that doesn't begin with a dot stays as it is.
    Any other name loses its other characters and gets eight digits of its hash. So two names never
    share a file, and none leads out of its folder.
    """
    kept = _NOT_IN_NAMES.sub("_", name).lstrip(".")[:MAX_NAME]
    if name and kept == name:
        return name
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    return f"{kept}-{digest[:8]}"


def local_path(text: str) -> Path:
    """Return a path, with the home folder in place of ~. Raise BenchError for a URL or an unknown
    user's home.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise BenchError(
            f"{text[:200]} is a URL, and results are in a folder of this machine. Give a folder, "
            "and copy it from or to the bucket with the bucket's own tool, such as `aws s3 sync "
            "FOLDER s3://BUCKET/FOLDER`."
        )
    return home_expanded(text)


def ensure_writable(folder: Path) -> None:
    """Make the folder and write a small file to it, so that a run fails before it computes. Raise
    BenchError if the folder can't be written.
    """
    probe = folder / f".probe.{uuid4().hex[:8]}.tmp"
    write(probe, b"-" * 4096)
    _remove(probe)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    if os.name == "posix":  # Windows can't open a folder, and needs no such call
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # some network file systems don't sync folders
            os.fsync(descriptor)
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(NotADirectoryError):  # the folder itself is a file: nothing was written
        path.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> BenchError:
    """Return the error for a folder that can't be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full"
        fix = "free some space, or write elsewhere"
    else:
        reason = (error.strerror or str(error)).lower()
        fix = "allow writing there, or write elsewhere"
    return BenchError(
        f"Can't write results to {folder}: {reason}; {fix} with results=FOLDER (explain: --output "
        "FILE). What was written is kept: the same command continues from there."
    )
