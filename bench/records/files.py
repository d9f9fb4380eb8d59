"""Writing to a results folder: a file is there whole, or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from axiom_bench.errors import BenchError


def write(path: Path, content: bytes) -> None:
    """Writes under a temporary name in the same folder, then renames. Raises BenchError, naming the folder."""
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    finally:
        _remove(draft)


def ensure_writable(folder: Path) -> None:
    """Makes the folder and tries a small file in it, so that a run fails before it computes. Raises BenchError."""
    probe = folder / f".probe.{uuid4().hex[:8]}.tmp"
    write(probe, b"-" * 4096)
    _remove(probe)


def _remove(path: Path) -> None:
    with suppress(NotADirectoryError):  # the folder itself isn't one: nothing was written
        path.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> BenchError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = "the disk is full" if full else (error.strerror or str(error)).lower()
    mend = "free some space, or write elsewhere" if full else "allow writing there, or write elsewhere"
    return BenchError(
        f"Can't write results to {folder}: {why}; {mend} with results=FOLDER. What was written is kept: "
        "the same command goes on from there."
    )
