"""The kinds of damaged input, by name; one file each."""

from __future__ import annotations

from ..case import Kind
from . import (
    annotation_files,
    archives,
    baselines,
    images,
    manifests,
    parquet_images,
    records,
    run_folders,
    settings,
    tar_shards,
    weights,
)

KINDS: dict[str, Kind] = {
    "annotations": annotation_files.KIND,
    "archives": archives.KIND,
    "baselines": baselines.KIND,
    "images": images.KIND,
    "manifests": manifests.KIND,
    "parquet": parquet_images.KIND,
    "records": records.KIND,
    "run_folders": run_folders.KIND,
    "settings": settings.KIND,
    "shards": tar_shards.KIND,
    "weights": weights.KIND,
}
