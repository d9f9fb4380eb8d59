"""Files of a results folder: one is complete, or it isn't there, whatever stands in its place; JSON
has a checksum.
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
from axiom_bench.notes import WARNINGS, DamagedFile, Notes


@cache
def host() -> str:
    """The name of this machine."""
    return platform.node() or "this machine"


@cache
def place() -> str:
    """Eight hexadecimal digits of this machine and its table of processes: a container has a table
    of its own.
    """
    table = ""
    with suppress(OSError):  # other systems than Linux have one table
        table = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{host()} {table}".encode()).hexdigest()[:8]


def is_alive(number: int) -> bool:
    """Whether a process of this machine has this number; True where the system can't be asked."""
    if os.name == "posix":  # elsewhere signal 0 isn't a question
        try:
            os.kill(number, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # somebody else's
            return True
    return True


def process() -> dict[str, object]:
    """What tells this process to others: number, machine and table of processes."""
    return {"process": os.getpid(), "host": host(), "place": place()}


CHECKSUM, ZEROS = "axiom_bench_sha256", "0" * 64  # the last entry of a JSON file
_OF_THE_MACHINE = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)  # reasons not to read that aren't the file's
MAX_NAME = 100  # characters of a name in a file's name; file systems allow 255 bytes in all
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_@+=.-]")
_DRAFT = re.compile(
    r"\..+\.([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}\.tmp"
)  # place and number of the process


def read(path: Path) -> bytes:
    """A file's bytes. Raises OSError: FileNotFoundError where there is none, another for what is no
    file, such as a pipe, on which reading would wait without end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is a folder, a pipe or a device")
    return path.read_bytes()


class Damaged(BenchError):
    """A file whose bytes aren't those that were written."""


def sha256(content: bytes) -> str:
    """Hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def content_of(path: Path, digits: str | None = None) -> bytes:
    """A file's bytes. digits: the first of their SHA-256, or all. Raises `Damaged` where it is
    missing, or has others.
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
    """The error for a file that can't be read: `Damaged`, but for what another moment may mend."""
    kind = BenchError if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE else Damaged
    return kind(f"The file {path} can't be read ({error}); run the same command again.")


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Writes plain data (what else is in it by its `str`) with its checksum. Raises BenchError
    where it can't.
    """
    write(path, to_json(path.name, content, indent))


def to_json(name: str, content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """What `write_json` writes to a file of this name. Its last entry is the SHA-256 of the name
    and all of the bytes, taken while its digits are zeros.
    """
    entries = {**{key: value for key, value in content.items() if key != CHECKSUM}, CHECKSUM: ZEROS}
    text = (json.dumps(entries, indent=indent, default=str) + "\n").encode()
    digest = hashlib.sha256(name.encode(errors="replace") + text).hexdigest()
    return digest.encode().join(text.rsplit(ZEROS.encode(), 1))


def is_intact(name: str, content: bytes) -> bool:
    """Whether these bytes are those that `to_json` made for a file of this name."""
    before, mark, after = content.rpartition(f'"{CHECKSUM}": "'.encode())
    digest, rest = after[: len(ZEROS)], after[len(ZEROS) :]
    zeroed = before + mark + ZEROS.encode() + rest
    return hashlib.sha256(name.encode(errors="replace") + zeroed).hexdigest().encode() == digest


def read_json(path: Path) -> dict[str, Any]:
    """The content, without its checksum. Raises OSError where there is no such file, else
    ValueError where it holds something else than what was written.
    """
    content = read(path)
    if not is_intact(path.name, content):
        raise ValueError("its checksum doesn't match")
    return mapping(content)


def mapping(content: bytes) -> dict[str, Any]:
    """The mapping in a JSON file, intact or not, without its checksum. Raises ValueError for what
    holds none.
    """
    try:
        entries = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(entries, dict):
        raise ValueError("it holds no mapping")
    entries.pop(CHECKSUM, None)
    return entries


def read_json_or_none(path: Path, notes: Notes = WARNINGS) -> dict[str, Any] | None:
    """Return the content of a file, or None if there is no such file or it is damaged, which is
    added to the notes.
    """
    try:
        return read_json(path)
    except FileNotFoundError:
        if path.is_symlink():  # to nothing
            notes.add(DamagedFile(str(path)))
        return None
    except (OSError, ValueError):
        notes.add(DamagedFile(str(path)))
        return None


def write(path: Path, content: bytes) -> None:
    """As `replace`, synced. Raises BenchError, naming the folder."""
    try:
        replace(path, content)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def replace(path: Path, content: bytes, sync: bool = True) -> None:
    """Writes under a temporary name in the same folder, and renames, in the place of whatever was
    there. sync: whether it must survive a power cut. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{place()}-{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if path.is_dir() and not path.is_symlink():
            discard(path)
        os.replace(draft, path)
        if sync:
            _sync_folder(path.parent)
    finally:
        _remove(draft)


def check_output(*paths: Path | None) -> None:
    """Raises BenchError for a file that a user names for output where something else than a plain
    file is: a folder, a device, a pipe or a link, which would be replaced. Best called before
    anything is computed.
    """
    for path in paths:
        if path is None:
            continue
        try:
            kind = path.lstat().st_mode
        except (
            FileNotFoundError,
            NotADirectoryError,
        ):  # `write` makes the folders, or says why it can't
            continue
        except (OSError, ValueError) as error:
            raise BenchError(f"Can't write {str(path)[:200]!r}: {error}.") from error
        if not stat.S_ISREG(kind):
            what = "a link" if stat.S_ISLNK(kind) else "no regular file"
            raise BenchError(
                f"{path} is {what} and isn't replaced; give another name for the output."
            )


def discard(path: Path) -> None:
    """Makes way for a file: removes a file, a link or an empty folder, and renames a folder that
    holds something, since that is nothing of ours. Raises OSError.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        try:
            path.rmdir()
        except OSError:
            path.rename(path.with_name(f"{path.name}.set-aside-{uuid4().hex[:8]}"))


def sweep(folder: Path) -> None:
    """Removes the drafts of processes that were killed; only of this machine's, since elsewhere a
    number of a process says nothing.
    """
    for path in folder.rglob(".*.tmp"):
        match = _DRAFT.fullmatch(path.name)
        if match and match[1] == place() and not is_alive(int(match[2])):
            _remove(path)


def safe_name(name: str) -> str:
    """The name of a model, metric or layer as part of a file's name: itself where it consists of
    letters, digits and _ @ + = . -, doesn't begin with a dot and is short; else without its other
    characters and with eight digits of its hash, so that two names never share a file and none
    leads out of its folder.
    """
    kept = _NOT_IN_NAMES.sub("_", name).lstrip(".")[:MAX_NAME]
    return (
        name
        if kept == name and name
        else f"{kept}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    )


def local_path(text: str) -> Path:
    """Return a path, with the home folder in the place of ~. Raises BenchError for a URL or an
    unknown user's home.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise BenchError(
            f"{text[:200]} is a URL, and results are in a folder of this machine. Give a folder, "
            "and copy it from or to the bucket with the bucket's own tool, such as `aws s3 sync "
            "FOLDER s3://BUCKET/FOLDER`."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BenchError(
            f"{text} begins with the home folder of nobody; write the whole path."
        ) from error


def ensure_writable(folder: Path) -> None:
    """Makes the folder and tries a small file in it, so that a run fails before it computes. Raises
    BenchError.
    """
    probe = folder / f".probe.{uuid4().hex[:8]}.tmp"
    write(probe, b"-" * 4096)
    _remove(probe)


def _sync_folder(folder: Path) -> None:
    """The new name itself must survive a power cut. Windows can't open a folder, and needs no such
    call; some network file systems don't sync folders.
    """
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(NotADirectoryError):  # the folder itself is a file: nothing was written
        path.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> BenchError:
    """The error for a folder that can't be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = "the disk is full" if full else (error.strerror or str(error)).lower()
    mend = (
        "free some space, or write elsewhere" if full else "allow writing there, or write elsewhere"
    )
    return BenchError(
        f"Can't write results to {folder}: {why}; {mend} with results=FOLDER (explain: --output "
        "FILE). What was written is kept: the same command goes on from there."
    )
