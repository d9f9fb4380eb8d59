"""The pictures of a run: the arrays of the report's picture figures, in .npz files, and the rows of its gallery, in
Parquet files, both with a checksum: see `sealed`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pyarrow as pa

from axiom_bench.records import sealed, store

MAX_UNPACKED = 2**30  # bytes; the pictures of 64 images have a tenth of it
EMPTY_SEAL = f"{sealed.NAME}: {sealed.ZEROS}".encode()  # the comment of an archive that `sealed.write` is given
GALLERY = pa.schema(
    [
        ("model", pa.string()),
        ("layer", pa.string()),
        ("data", pa.string()),
        ("image_id", pa.string()),
        ("target_class", pa.int32()),  # the explained class
        ("target_name", pa.string()),
        ("target_probability", pa.float64()),  # null where the output has no probability
        ("predicted_class", pa.int32()),
        ("predicted_name", pa.string()),
        ("predicted_probability", pa.float64()),
        ("width", pa.int32()),  # of the preprocessed image, in pixels
        ("height", pa.int32()),
        ("boxes", pa.list_(pa.list_(pa.float32()))),  # of the explained class: x0 y0 x1 y1, in these pixels
        ("picture", pa.binary()),  # WebP
        ("outline", pa.binary()),  # PNG, transparent but for the edge of the explained class's mask; null: no mask
        ("methods", pa.list_(pa.string())),  # those that apply
        ("maps", pa.list_(pa.binary())),  # of each method: WebP, grey, 255 for a heatmap's 1; null: not finite
        ("disagreement", pa.float64()),  # mean of 1 - correlation over the pairs of maps; NaN: fewer than two
    ]
)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays of picture figures, completely or not at all. Raises BenchError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with ZipFile(buffer, "a") as archive:
        archive.comment = EMPTY_SEAL
    sealed.write(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file. Raises `Damaged` for one that is missing or damaged."""
    content = sealed.content_of(path)
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with np.load(io.BytesIO(content)) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, NotImplementedError, MemoryError) as error:
        raise sealed.Damaged(f"The pictures {path} can't be read ({error}); run the same command again.") from error


def read_gallery(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One image and explained class after the other, a dictionary of GALLERY's columns; nothing where the run stored
    none. Raises BenchError, naming the file, for one that is missing or damaged."""
    for file in dict.fromkeys(manifest.get("gallery") or ()):
        yield from store.read_table(Path(folder) / file, GALLERY).to_pylist()
