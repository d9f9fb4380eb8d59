"""The pictures of a run for the report's gallery: what a file of them holds, and reading them. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from axiom_bench.records import store
from axiom_bench.records.manifest import format_of

SCHEMA = pa.schema(
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


def read(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One image and explained class after the other, a dictionary of SCHEMA's columns; nothing where the run stored
    none. Raises BenchError, naming the file, for one that is missing or damaged."""
    for file in dict.fromkeys(manifest.get("gallery") or ()):
        yield from store.read_table(Path(folder) / file, SCHEMA, sealed=format_of(manifest) >= 2).to_pylist()
