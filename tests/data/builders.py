"""Writers of small data sets in every layout, and what the loader makes of a data set."""

import io
import json
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
    return load_dataset(
        {
            "kind": kind,
            "path" if kind in ("webdataset", "parquet") else "root": str(place),
            **settings,
        }
    )


def scenes(size=20, **settings):
    return load_dataset({"kind": "scenes", "size": size, "seed": 1, **settings})


def outcomes(dataset, workers=0, target="label"):
    """{image id: the message of a bad image, or None for a row}."""
    items = {}
    for item in batches(dataset, range(len(dataset)), PLAIN, target, 4, workers):
        items |= (
            {item.image_id: item.message}
            if isinstance(item, BadImage)
            else dict.fromkeys(item.image_ids)
        )
    return items


def messages(dataset):
    """{image id: message} of the bad images."""
    return {
        image_id: message
        for image_id, message in outcomes(dataset, target="predicted").items()
        if message
    }


def labels(dataset):
    return [dataset.labels(index) for index in range(len(dataset))]


def save(path, width=40, height=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ).save(path)
    return path


def xml(path, objects, width=40, height=30):
    """objects: (name, xmin, ymin, xmax, ymax) as the file numbers its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, *box in objects
    )
    path.write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height></size>{items}</annotation>"
    )
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


CATEGORIES = [
    {"id": 18, "name": "dog"},
    {"id": 1, "name": "person"},
    {"id": 90, "name": "toothbrush"},
]
SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]  # a polygon of x 10 to 20, y 5 to 15


def run_lengths(x0, y0, x1, y1, width=40, height=30):
    """A rectangle column by column, as an uncompressed crowd has it."""
    pixels = np.zeros((height, width), dtype=bool)
    pixels[y0:y1, x0:x1] = True
    values = pixels.flatten(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, len(values)]).tolist()
    return {"counts": counts if not values[0] else [0, *counts], "size": [height, width]}


def annotation(number, image, category, box, region, crowd=0):
    ids = {"id": number, "image_id": image, "category_id": category}
    return {**ids, "bbox": box, "segmentation": region, "iscrowd": crowd}


ANNOTATIONS = [
    annotation(1, 7, 18, [10, 5, 10, 10], SQUARE),
    annotation(2, 7, 1, [0, 0, 30, 20], [[0, 0, 30, 0, 30, 20, 0, 20]]),  # a larger one around it
    annotation(3, 7, 1, [32, 20, 8, 10], run_lengths(32, 20, 40, 30), crowd=1),
    annotation(4, 3, 90, [0, 0, 4, 4], run_lengths(0, 0, 4, 4), crowd=1),
]


def write_coco(root, content):
    path = root / "annotations/instances_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


SYNSETS = [f"n{number:02d}" for number in range(12)]


def write_s_mask(root, *values, shape=(30, 40)):
    """values: (rows, or rows and columns; number), red + 256 green; 0 elsewhere."""
    numbers = np.zeros(shape, dtype=int)
    for place, number in values:
        numbers[place] = number
    colours = np.stack([numbers % 256, numbers // 256, numbers * 0], 2).astype(np.uint8)
    path = root / "validation-segmentation/n07/a.png"
    Image.fromarray(colours).save(path)
    return path


BIRD_SIDE, BIRD_PARTS = 16, ("beak", "eye", "foot", "tail", "wing")
# the wing isn't seen
BIRD_PLACES = {
    "beak": (2, 2),
    "eye": (2, 8),
    "foot": (12, 4),
    "tail": (8, 12),
}
BIRD_COLOURS = {
    "beak": (255, 255, 0),
    "eye": (255, 255, 254),
    "foot": (255, 0, 1),
    "tail": (0, 0, 255),
}
BIRD = "1/000002"


def draw_bird(left, colours=None):
    """(16, 16, 4): squares of 3 x 3 pixels for these parts, in one grey for each or in these
    colours.
    """
    picture = np.full(
        (BIRD_SIDE, BIRD_SIDE, 4), (0, 0, 0, 255) if colours else (90, 90, 90, 255), dtype=np.uint8
    )
    for part, (row, column) in BIRD_PLACES.items():
        if part in left:
            shade = 110 + 20 * BIRD_PARTS.index(part)
            picture[row : row + 3, column : column + 3, :3] = colours[part] if colours else shade
    return Image.fromarray(picture)
