"""Small data sets in every layout, built in a temporary folder."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import (
    ANNOTATIONS,
    BIRD,
    BIRD_COLOURS,
    BIRD_PARTS,
    CATEGORIES,
    SYNSETS,
    draw_bird,
    save,
    write_coco,
    write_s_mask,
    xml,
)


@pytest.fixture
def imagenet_root(tmp_path):
    """Two images of class n03 and one of n01; the first has two boxes.

    No image has class n02, which is listed and therefore has index 1.
    """
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01 tench, Tinca tinca\nn02 goldfish\nn03 great white shark\n"
    )
    for seed, (synset, number) in enumerate((("n03", 1), ("n01", 2), ("n03", 3))):
        stem = f"ILSVRC2012_val_0000000{number}"
        save(tmp_path / "val" / synset / f"{stem}.JPEG", seed=seed)
        boxes = [(synset, 10, 10, 19, 14)]
        if number == 1:
            boxes = [(synset, 0, 0, 39, 29), (synset, 4, 5, 6, 7)]
        xml(tmp_path / "Annotations/CLS-LOC/val" / f"{stem}.xml", boxes)
    return tmp_path


@pytest.fixture
def voc_root(tmp_path):
    """Three images: a dog and a larger person, a cat, and an image without boxes.

    Only the first image has a mask.
    """
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for seed, name in enumerate(("2007_1", "2007_2", "2007_3")):
        save(root / "JPEGImages" / f"{name}.jpg", seed=seed)
    xml(root / "Annotations/2007_1.xml", [("dog", 1, 1, 10, 20), ("person", 11, 1, 40, 30)])
    xml(root / "Annotations/2007_2.xml", [("cat", 5, 6, 7, 8)])

    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[0:20, 0:10] = 12  # dog
    mask[0:30, 10:40] = 15  # person
    mask[29, :] = 255
    picture = Image.fromarray(mask)
    # The palette makes the grey picture what VOC stores: numbers that only look coloured.
    palette = []
    for number in range(256):
        palette += [number, 255 - number, 7]
    picture.putpalette(palette)
    (root / "SegmentationClass").mkdir()
    picture.save(root / "SegmentationClass/2007_1.png")

    names_by_image_set = {"Main": ["2007_3", "2007_1", "2007_2"], "Segmentation": ["2007_1"]}
    for image_set, names in names_by_image_set.items():
        (root / "ImageSets" / image_set).mkdir(parents=True)
        (root / "ImageSets" / image_set / "val.txt").write_text("\n".join(names) + "\n")
    return tmp_path


@pytest.fixture
def folder_root(tmp_path):
    """The same file name in two classes, and a class that sorts between them."""
    for seed, name in enumerate(("cat/1.jpg", "dog/1.jpg", "cow/2.png")):
        save(tmp_path / name, seed=seed)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def coco_root(tmp_path):
    """Three images: only crowds on 3, nothing on 5, a dog, a person and a crowd on 7."""
    images = []
    for number, name in ((7, "000007.jpg"), (3, "000003.jpg"), (5, "000005.jpg")):
        save(tmp_path / "val2017" / name, seed=number)
        images.append({"id": number, "file_name": name, "width": 40, "height": 30})
    write_coco(tmp_path, {"images": images, "annotations": ANNOTATIONS, "categories": CATEGORIES})
    return tmp_path


@pytest.fixture
def imagenet_s_root(tmp_path):
    """Two categories, n03 and n07, numbered 1 and 2 in the masks; the second image has no mask."""
    mapping = "".join(f"{name} name of {name}\n" for name in SYNSETS)
    (tmp_path / "LOC_synset_mapping.txt").write_text(mapping)
    for seed, name in enumerate(("n07/a", "n03/b")):
        save(tmp_path / "validation" / f"{name}.JPEG", seed=seed)
    (tmp_path / "validation-segmentation/n07").mkdir(parents=True)
    write_s_mask(tmp_path, (np.s_[:10], 2), (np.s_[10:15], 1), (np.s_[15:20], 1000))
    return tmp_path


@pytest.fixture
def funnybirds_root(tmp_path):
    """Three images of two classes; the third, of class 1, has a part map and versions."""
    classes = [{"class_idx": number, "parts": {}} for number in range(2)]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    images = [{"class_idx": label} for label in (1, 0, 1)]
    (tmp_path / "dataset_test.json").write_text(json.dumps(images))

    parts_by_name = {
        "test/1/000000": BIRD_PARTS,
        "test/0/000001": BIRD_PARTS,
        f"test/{BIRD}": BIRD_PARTS,
        f"test_interventions/{BIRD}/body_": (),
    }
    for removed in BIRD_PARTS:
        remaining = sorted({*BIRD_PARTS} - {removed})
        parts_by_name[f"test_interventions/{BIRD}/body_{'_'.join(remaining)}"] = remaining
    for name, parts in parts_by_name.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        draw_bird(parts).save(tmp_path / f"{name}.png")

    (tmp_path / "test_part_map/1").mkdir(parents=True)
    draw_bird(BIRD_PARTS, BIRD_COLOURS).save(tmp_path / f"test_part_map/{BIRD}.png")
    return tmp_path


@pytest.fixture
def wsol_root(tmp_path):
    """Two images of CUB, the first one with two boxes, in the layout of wsolevaluation."""
    images = ("001.Black_Albatross/a_1.jpg", "002.Laysan_Albatross/b_2.jpg")
    folder = tmp_path / "metadata/CUB/test"
    folder.mkdir(parents=True)
    for seed, name in enumerate(images):
        save(tmp_path / "dataset/CUB" / name, seed=seed)
    first, second = images
    (folder / "class_labels.txt").write_text(f"{first},0\n{second},1\n")
    (folder / "image_ids.txt").write_text(f"{first}\n{second}\n")
    (folder / "image_sizes.txt").write_text(f"{first},40,30\n{second},40,30\n")
    lines = f"{first},3,4,12,13\n{first},20,0,39,29\n{second},5,6,7,8\n"
    (folder / "localization.txt").write_text(lines)
    return tmp_path
