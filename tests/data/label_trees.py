"""The same three labelled images in the layout of each labelling tool.

Image a shows a dog and a larger person, image b a cat, and image c nothing.
"""

import json

import numpy as np
from PIL import Image

from tests.data.builders import save, xml

CLASSES = ("person", "cat", "dog")
BOXES = {  # x0, y0, x1, y1 in pixels from 0, the ends exclusive
    "a": [("dog", (0, 0, 10, 20)), ("person", (10, 0, 40, 30))],
    "b": [("cat", (4, 5, 7, 8))],
    "c": [],
}
WIDTH, HEIGHT = 40, 30


def images(folder, ending=".jpg"):
    for seed, name in enumerate(BOXES):
        save(folder / f"{name}{ending}", seed=seed)


def corners(box):
    x0, y0, x1, y1 = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def mask_of(name, numbers=CLASSES):
    """Return a mask of each class's number from 1."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for label, (x0, y0, x1, y1) in BOXES[name]:
        mask[y0:y1, x0:x1] = numbers.index(label) + 1
    return mask


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(root):
    """Write VOC's own layout, with masks of the images that have objects."""
    images(root / "JPEGImages")
    for name, objects in BOXES.items():
        entries = [(label, x0 + 1, y0 + 1, x1, y1) for label, (x0, y0, x1, y1) in objects]
        xml(root / f"Annotations/{name}.xml", entries)
        if objects:
            path = root / f"SegmentationClass/{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask_of(name)).save(path)
    write(root / "ImageSets/Main/val.txt", "a\nb\nc\n")


def yolo_line(label, box, has_polygon=False):
    x0, y0, x1, y1 = box
    number = CLASSES.index(label)
    if has_polygon:
        shares = [share for x, y in corners(box) for share in (x / WIDTH, y / HEIGHT)]
    else:
        shares = [
            (x0 + x1) / 2 / WIDTH,
            (y0 + y1) / 2 / HEIGHT,
            (x1 - x0) / WIDTH,
            (y1 - y0) / HEIGHT,
        ]
    return f"{number} {' '.join(map(repr, shares))}\n"


def yolo(root, has_polygon=False):
    """Write images/ and labels/ with data.yaml; image c has an empty file."""
    images(root / "images")
    write(root / "data.yaml", f"train: images\nnames: {json.dumps(dict(enumerate(CLASSES)))}\n")
    for name, objects in BOXES.items():
        lines = [yolo_line(label, box, has_polygon) for label, box in objects]
        write(root / f"labels/{name}.txt", "".join(lines))


def yolo_polygons(root):
    yolo(root, has_polygon=True)


def roboflow(root):
    """Write YOLO's files as Roboflow does, with a folder of images in each split."""
    yolo(root / "valid")
    (root / "valid/data.yaml").rename(root / "data.yaml")


def darknet(root):
    """Write images and files of YOLO in one folder, as labelImg does."""
    yolo(root / "all")
    for path in (root / "all").glob("*/*"):
        path.rename(root / path.name)
    (root / "all/data.yaml").unlink()
    write(root / "classes.txt", "person\r\ncat\r\ndog\r\n")


def labelimg(root):
    """Write XML files next to the images, with paths of another machine."""
    images(root)
    for name, objects in BOXES.items():
        if objects:
            entries = [(label, x0 + 1, y0 + 1, x1, y1) for label, (x0, y0, x1, y1) in objects]
            xml(root / f"{name}.xml", entries)


def annotations_folder(root):
    """Write XML files in a folder next to that of the images."""
    labelimg(root / "images")
    (root / "Annotations").mkdir()
    for path in (root / "images").glob("*.xml"):
        path.rename(root / "Annotations" / path.name)


def labelme_shape(label, points, kind):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def labelme(root, kind="polygon"):
    """Write LabelMe's JSON files in a folder of their own, made on Windows."""
    images(root / "photos")
    for name, objects in BOXES.items():
        shapes = []
        for label, box in objects:
            # A rectangle may be drawn from its lower right corner.
            points = [box[2:], box[:2]] if kind == "rectangle" else corners(box)
            shapes.append(labelme_shape(label, points, kind))
        content = {
            "version": "5.4.1",
            "shapes": shapes,
            "imagePath": f"..\\photos\\{name}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        write(root / f"json/label_{name}.json", json.dumps(content))


def labelme_rectangles(root):
    labelme(root, "rectangle")


def cvat_shape(label, box, has_polygon):
    if has_polygon:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box))
        return f'<polygon label="{label}" points="{points}" occluded="0" z_order="0"></polygon>'
    x0, y0, x1, y1 = box
    place = f'xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}"'
    return f'<box label="{label}" {place} occluded="0" z_order="0"></box>'


def cvat(root, has_polygon=False):
    """Write annotations.xml next to a folder of images."""
    images(root / "images/photos")
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    entries = []
    for number, (name, objects) in enumerate(BOXES.items()):
        shapes = "".join(cvat_shape(label, box, has_polygon) for label, box in objects)
        head = f'id="{number}" name="photos/{name}.jpg" width="{WIDTH}" height="{HEIGHT}"'
        entries.append(f"<image {head}>{shapes}</image>")
    content = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    write(root / "annotations.xml", f"<annotations>{content}{''.join(entries)}</annotations>")


def cvat_polygons(root):
    cvat(root, has_polygon=True)


def masks(root):
    """Write masks next to the images, without a file for image c."""
    images(root / "images")
    write(root / "classes.txt", "\n".join(CLASSES))
    (root / "masks").mkdir()
    for name in "ab":
        Image.fromarray(mask_of(name)).save(root / f"masks/{name}.png")


def run_lengths(mask):
    """Return COCO's run lengths of a mask, column by column, beginning with pixels outside."""
    flat = mask.T.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=0))
    return np.diff([0, *starts, len(flat)]).tolist()


def coco(root, file="_annotations.coco.json", folder=""):
    """Write COCO's JSON for the images, as Roboflow exports it."""
    images(root / folder)
    entries = []
    annotations = []
    for number, (name, objects) in enumerate(BOXES.items()):
        size = {"width": WIDTH, "height": HEIGHT}
        entries.append({"id": number, "file_name": f"{name}.jpg", **size})
        for label, (x0, y0, x1, y1) in objects:
            mask = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
            mask[y0:y1, x0:x1] = 1
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": CLASSES.index(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)},
                    "iscrowd": 0,
                }
            )
    # Roboflow's first category stands for the project and has no objects.
    categories = [{"id": 0, "name": "animals"}]
    categories += [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    content = {"info": {}, "images": entries, "categories": categories, "annotations": annotations}
    write(root / file, json.dumps(content))


def coco_of_a_split(root):
    """Write COCO's JSON in a folder of annotations, and its images in that of the split."""
    coco(root, "annotations/instances_val.json", "val")


WITH_BOXES = (yolo, roboflow, darknet, labelimg, annotations_folder, labelme_rectangles, cvat)
WITH_POLYGONS = (yolo_polygons, labelme, cvat_polygons, coco, coco_of_a_split)
