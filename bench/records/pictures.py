"""The arrays of the report's picture figures: a .npz file with a checksum over every byte, as `store` has one."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from axiom_bench.records import files, store

MAX_UNPACKED = 2**30  # bytes; the pictures of 64 images have a tenth of it


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays, completely or not at all; the checksum is the archive's comment. Raises BenchError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with ZipFile(buffer, "a") as archive:
        archive.comment = store.SEAL + b": " + b"0" * 64
    files.write(path, store.seal(path.name, buffer.getvalue()))


def read(path: Path, sealed: bool) -> dict[str, np.ndarray]:
    """The arrays of a file. Raises `Damaged` for one that is missing or damaged.

    sealed: it must have a checksum; else one without, as an earlier version wrote it, is let through.
    """
    content = store.content_of(path, sealed)
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with np.load(io.BytesIO(content)) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, NotImplementedError, MemoryError) as error:
        raise store.Damaged(f"The pictures {path} can't be read ({error}); run the same command again.") from error


def is_usable(path: Path) -> bool:
    """Whether a file is there, and its bytes are those that were written; see `store.is_usable`."""
    return store.is_usable(path, ())
