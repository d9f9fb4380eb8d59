"""Writers of small data sets in every layout, and summaries of what the loader reads from them."""

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

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
STANDARD = Preprocessing(256, 224, MEAN, STD)
PLAIN = Preprocessing(24, 24, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
AS_STORED = Preprocessing(None, None, (0.0,) * 3, (1.0,) * 3)


def load(kind, location, **settings):
    """Load the data set of this kind whose root or path is `location`."""
    setting = "path" if kind in ("webdataset", "parquet") else "root"
    return load_dataset({"kind": kind, setting: str(location), **settings})


def scenes(size=20, **settings):
    return load_dataset({"kind": "scenes", "size": size, "seed": 1, **settings})


def outcomes(dataset, workers=0, target="label"):
    """Return {image id: the message of a bad image, or None for a row}."""
    outcome_by_id = {}
    for item in batches(dataset, range(len(dataset)), PLAIN, target, 4, workers):
        if isinstance(item, BadImage):
            outcome_by_id[item.image_id] = item.message
        else:
            outcome_by_id |= dict.fromkeys(item.image_ids)
    return outcome_by_id


def messages(dataset):
    """Return {image id: message} of the bad images."""
    outcome_by_id = outcomes(dataset, target="predicted")
    return {image_id: message for image_id, message in outcome_by_id.items() if message}


def labels(dataset):
    return [dataset.labels(index) for index in range(len(dataset))]


def save(path, width=40, height=30, seed=0):
    """Save an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def xml(path, objects, width=40, height=30):
    """Write an annotation in VOC's form.

    Args:
        objects: Tuples (name, xmin, ymin, xmax, ymax). The corners are numbered as in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    items = []
    for name, xmin, ymin, xmax, ymax in objects:
        corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        items.append(f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>")
    path.write_text(f"<annotation>{size}{''.join(items)}</annotation>")
    return path


def cut(path, keep):
    """Cut a file to its first `keep` bytes."""
    path.write_bytes(path.read_bytes()[:keep])


def write_tar(path, members, mode="w"):
    """Write an archive with these members, each a tuple (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path, images, labels):
    """Write a file with two rows per row group.

    Args:
        images: Dictionaries with the keys `bytes` and `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image_column = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": image_column, "label": labels})
    pq.write_table(table, path, row_group_size=2)
    return path


CATEGORIES = [
    {"id": 18, "name": "dog"},
    {"id": 1, "name": "person"},
    {"id": 90, "name": "toothbrush"},
]
SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]  # a polygon of x 10 to 20, y 5 to 15


def run_lengths(x0, y0, x1, y1, width=40, height=30):
    """Return the uncompressed run lengths of a rectangle, column by column as COCO's crowds."""
    pixels = np.zeros((height, width), dtype=bool)
    pixels[y0:y1, x0:x1] = True
    values = pixels.flatten(order="F")

    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, len(values)]).tolist()
    if values[0]:
        counts = [0, *counts]  # the first run is always of pixels outside the region
    return {"counts": counts, "size": [height, width]}


def annotation(number, image, category, box, region, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "segmentation": region,
        "iscrowd": crowd,
    }


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
    """Write a mask of ImageNet-S, in which a category's number is red + 256 green.

    Args:
        values: Tuples (an index of pixels, their number). All other pixels are 0.
    """
    numbers = np.zeros(shape, dtype=int)
    for pixels, number in values:
        numbers[pixels] = number
    red = numbers % 256
    green = numbers // 256
    colours = np.stack([red, green, np.zeros_like(red)], 2).astype(np.uint8)
    path = root / "validation-segmentation/n07/a.png"
    Image.fromarray(colours).save(path)
    return path


BIRD_SIDE = 16
BIRD_PARTS = ("beak", "eye", "foot", "tail", "wing")
BIRD_PLACES = {  # (row, column); the wing isn't seen
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


def draw_bird(parts, colours=None):
    """Draw each part as a square of 3 x 3 pixels, in a grey of its own or in these colours.

    Returns:
        A picture of (16, 16, 4) values.
    """
    ground = (0, 0, 0, 255) if colours else (90, 90, 90, 255)
    picture = np.full((BIRD_SIDE, BIRD_SIDE, 4), ground, dtype=np.uint8)
    for part, (row, column) in BIRD_PLACES.items():
        if part in parts:
            grey = 110 + 20 * BIRD_PARTS.index(part)
            square = picture[row : row + 3, column : column + 3, :3]
            square[:] = colours[part] if colours else grey
    return Image.fromarray(picture)
