"""Writers of small data sets in every layout, and what the loader makes of a data set."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from axiom_bench.data.base import BadImage
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STANDARD = Preprocessing(256, 224, MEAN, STD)
PLAIN = Preprocessing(24, 24, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
AS_STORED = Preprocessing(None, None, (0.0,) * 3, (1.0,) * 3)


def load(kind, place, **settings):
    """place: the root or path of the data set."""
    return load_dataset({"kind": kind, "path" if kind in ("webdataset", "parquet") else "root": str(place), **settings})


def scenes(size=20, **settings):
    return load_dataset({"kind": "scenes", "size": size, "seed": 1, **settings})


def outcomes(dataset, workers=0, target="label"):
    """{image id: the message of a bad image, or None for a row}."""
    items = {}
    for item in batches(dataset, range(len(dataset)), PLAIN, target, 4, workers):
        items |= {item.image_id: item.message} if isinstance(item, BadImage) else dict.fromkeys(item.image_ids)
    return items


def messages(dataset):
    """{image id: message} of the bad images."""
    return {image_id: message for image_id, message in outcomes(dataset, target="predicted").items() if message}


def labels(dataset):
    return [dataset.labels(index) for index in range(len(dataset))]


def save(path, width=40, height=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def xml(path, objects, width=40, height=30):
    """objects: (name, xmin, ymin, xmax, ymax) as the file numbers its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, *box in objects
    )
    path.write_text(f"<annotation><size><width>{width}</width><height>{height}</height></size>{items}</annotation>")
    return path


def cut(path, keep):
    """Keeps the first bytes of a file."""
    path.write_bytes(path.read_bytes()[:keep])


def write_tar(path, members, mode="w"):
    """members: (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path, images, labels):
    """images: mappings of bytes and path, two rows a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    of_images = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": of_images, "label": labels}), path, row_group_size=2)
    return path
