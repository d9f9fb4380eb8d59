"""A missing or malformed box file or mask leaves the image as it is, and says why."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.base import BEYOND, NO_AREA, OUTSIDE, SHARES, clip_to_image
from axiom_bench.data.formats.annotation_file import read_objects
from tests.data.builders import cut, load, xml

INDEX = {"n01": 0, "n03": 2}
BOX = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def an_object(name, x0):
    return f"<annotation><object><name>{name}</name>{BOX.format(x0)}</object></annotation>"


def replace_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def write_all_bytes(path):
    path.write_bytes(bytes(range(256)))


ONE_OBJECT = an_object("n01", "1")

SIZE_OF_9 = "<size><width>9</width><height>9</height></size>"


MALFORMED = {  # the text of the file, or a function that changes it
    "missing": Path.unlink,
    "empty": "",
    "cut short": "<annotation><object><name>n01</name>",
    "not XML": "xmin 1 ymin 2",
    "word for a number": an_object("n01", "one"),
    "infinite": an_object("n01", "inf"),
    "no box": "<annotation><object><name>n01</name></object></annotation>",
    "no object": "<annotation></annotation>",
    "inside out": an_object("n01", "20"),
    "unknown class": an_object("n77", "1"),
    "other image": ONE_OBJECT.replace("<object>", f"{SIZE_OF_9}<object>"),
    "infinite size": "<annotation><size><width>inf</width><height>30</height></size></annotation>",
    "size beyond floats": "<annotation><size><width>1e999</width></size></annotation>",
    "unknown encoding": "<?xml version='1.0' encoding='no-such'?><annotation></annotation>",
    "encoding of several bytes": "<?xml version='1.0' encoding='utf-7'?><annotation></annotation>",
    "entities that grow": f"<!DOCTYPE a [<!ENTITY b 'n01'>]>{an_object('&b;', '1')}",
    "file of the machine": "<!DOCTYPE a SYSTEM '/etc/hostname'><annotation></annotation>",
    "named pipe": replace_by_a_pipe,
    "link to itself": replace_by_a_link_to_itself,
    "swapped corners": (
        an_object("n01", "9").replace("<xmax>9", "<xmax>1").replace("<ymin>1", "<ymin>9")
    ),
    "parts of the image": an_object("n01", "0.1").replace(">9<", ">0.9<"),
    "a long text": an_object("x" * 9999, "1"),
    "bytes": write_all_bytes,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_annotation_is_a_sentence_not_a_crash(imagenet_root, kind):
    path = imagenet_root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml"
    change = MALFORMED[kind]
    if isinstance(change, str):
        path.write_text(change)
    else:
        change(path)

    sample = load("imagenet", imagenet_root).read(0)
    assert sample.label == 0
    assert sample.objects == ()
    assert len(sample.problems) == 1
    assert "ILSVRC2012_val_00000002" in sample.problems[0]
    assert len(sample.problems[0]) < 400


def test_boxes_are_clipped_and_a_good_one_survives_a_bad_one(tmp_path):
    path = xml(tmp_path / "a.xml", [("n03", -5, 3, 60, 12)])
    objects, (problem,) = read_objects(path, INDEX, first_pixel=0, size=(40, 30))
    assert objects == ((2, (0, 3, 40, 13)),)
    assert problem.endswith(BEYOND)

    path = xml(tmp_path / "a.xml", [("n03", 1, 2, 3, 4), ("n77", 1, 2, 3, 4)])
    objects, problems = read_objects(path, INDEX, first_pixel=1)
    assert objects == ((2, (0, 1, 3, 4)),)
    assert "n77" in problems[0]


@pytest.mark.parametrize(
    ("box", "part", "sentence"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), ""),
        ((-0.5, 0, 41, 30), (0, 0, 40, 30), ""),  # rounded, or counted from 1
        ((-2, 0, 10, 10), (0, 0, 10, 10), BEYOND),
        ((5, 5, 80, 60), (5, 5, 40, 30), BEYOND),  # the pixels of a larger image
        ((50, 5, 80, 20), None, OUTSIDE),
        ((5, -9, 8, 0), None, OUTSIDE),
        ((5, 5, 5, 9), None, NO_AREA),
        ((30, 20, 10, 10), None, NO_AREA),  # ends before starts, or width and height
        ((0.1, 0.2, 0.5, 0.9), None, SHARES),
        ((3, 30), (3, 20), BEYOND),  # a signal
        ((0, 0, 0, 5, 5, 9), (0, 0, 0, 5, 5, 6), BEYOND),  # a volume
    ],
)
def test_a_box_is_cut_to_its_image_or_left_out_with_the_reason(box, part, sentence):
    size_by_num_sides = {2: (20,), 4: (40, 30), 6: (8, 7, 6)}
    assert clip_to_image(box, size_by_num_sides[len(box)]) == (part, sentence)


@pytest.mark.parametrize(
    "kind", ["other size", "colours", "unknown value", "truncated", "named pipe"]
)
def test_malformed_mask_is_a_sentence_not_a_crash(voc_root, kind):
    path = voc_root / "VOCdevkit/VOC2012/SegmentationClass/2007_1.png"
    shapes = {"other size": (20, 40), "colours": (30, 40, 3)}
    shape = shapes.get(kind, (30, 40))
    value = 99 if kind == "unknown value" else 3
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)
    if kind == "truncated":
        cut(path, 50)
    if kind == "named pipe":
        replace_by_a_pipe(path)

    sample = load("voc", voc_root).read(0)
    assert sample.mask is None
    assert "2007_1.png" in sample.problems[0]
