"""Reading a finished run: the manifest, and the records, curves and run times that it lists. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as arrow
import pyarrow.parquet as pq

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.errors import BenchError
from axiom_bench.records import store

WHOLE_SET_COLUMNS = (
    "model", "layer", "data", "method", "metric", "value", "status", "images", "common_value", "common_images",
    "replicates", "common_replicates",
)  # fmt: skip


class CurvePart(NamedTuple):
    """The curves of one file: columns.CURVE_COLUMNS, all of one model, layer and data set."""

    model: str
    layer: str
    data: str
    table: pa.Table


def read_manifest(folder: Path) -> dict[str, Any]:
    """The parsed manifest.json. Raises BenchError where it is missing, can't be read, or isn't a run's manifest."""
    file = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BenchError(
            f"{folder} is no run folder: it has no manifest.json; give results/<experiment>/<run>."
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(f"{file} can't be read ({error}); run the same command again to write it anew.") from error
    if not isinstance(manifest, dict) or not {"experiment", "run"} <= manifest.keys():
        raise BenchError(f"{file} isn't a run's manifest; run the same command again to write it anew.")
    return manifest


def read_records(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that the manifest counts, job after job, in columns.RECORD_COLUMNS; names are categories.

    Raises BenchError, naming the file, for one that is missing or damaged.
    """
    return store.read(Path(folder), manifest.get("records", []))


def read_curves(
    folder: Path, manifest: Mapping[str, Any], curves: Collection[str] | None = None, method: str | None = None
) -> Iterator[CurvePart]:
    """The curves that the manifest counts, one file at a time: those of all files together may be gigabytes.

    curves: names of curves, None for all. method: of one method alone. Raises BenchError as `read_records`.
    """
    for file in manifest.get("curves") or ():
        table = store.read_table(Path(folder) / file, store.CURVES)
        for column, wanted in (("curve", curves), ("method", None if method is None else [method])):
            if wanted is not None:
                names = table[column].cast(pa.string())
                table = table.filter(arrow.is_in(names, pa.array(list(wanted), pa.string())))
        if len(table):
            yield CurvePart(*_place(Path(folder), file), table)


def read_runtime(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Run times in columns.RUNTIME_COLUMNS; the empty table where none were measured. Raises BenchError."""
    tables = [store.read_table(Path(folder) / file).to_pandas() for file in manifest.get("runtime") or ()]
    if not tables:
        return pd.DataFrame(columns=list(RUNTIME_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(RUNTIME_COLUMNS)]


def read_whole_set(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Values of whole data sets with their bootstrap replicates, in WHOLE_SET_COLUMNS. Raises BenchError."""
    tables = [store.read_table(Path(folder) / file).to_pandas() for file in manifest.get("whole_set") or ()]
    if not tables:
        return pd.DataFrame(columns=list(WHOLE_SET_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(WHOLE_SET_COLUMNS)]


def _place(folder: Path, file: str) -> tuple[str, str, str]:
    """Model, layer and data set of a file of curves: those of the records beside it."""
    records = folder / file.replace("curves/", "records/", 1)
    try:
        first = pq.read_table(records, columns=["model", "layer", "data"]).slice(0, 1).to_pylist()
    except (OSError, ValueError) as error:
        raise BenchError(f"The records {records} can't be read ({error}); delete them and run again.") from error
    return (str(first[0]["model"]), str(first[0]["layer"]), str(first[0]["data"])) if first else ("", "", "")
