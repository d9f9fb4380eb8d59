"""A box file that is missing or malformed leaves the image as it is, without boxes, and says why."""

import os

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.formats.annotation_file import read_objects
from axiom_bench.data.layouts.voc import read_mask
from axiom_bench.data.registry import load_dataset

INDEX = {"n01": 0, "n03": 2}


def broken(text):
    return lambda path: path.write_text(text)


BOX = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
MALFORMED = {
    "missing": lambda path: path.unlink(),
    "empty": broken(""),
    "cut short": broken("<annotation><object><name>n01</name>"),
    "not XML": broken("xmin 1 ymin 2"),
    "word for a number": broken(f"<annotation><object><name>n01</name>{BOX.format('one')}</object></annotation>"),
    "infinite": broken(f"<annotation><object><name>n01</name>{BOX.format('inf')}</object></annotation>"),
    "no box": broken("<annotation><object><name>n01</name></object></annotation>"),
    "no object": broken("<annotation></annotation>"),
    "inside out": broken(f"<annotation><object><name>n01</name>{BOX.format('20')}</object></annotation>"),
    "unknown class": broken(f"<annotation><object><name>n77</name>{BOX.format('1')}</object></annotation>"),
    "other image": broken("<annotation><size><width>9</width><height>9</height></size>"
                          f"<object><name>n01</name>{BOX.format('1')}</object></annotation>"),
    "infinite size": broken("<annotation><size><width>inf</width><height>30</height></size></annotation>"),
    "size beyond floats": broken("<annotation><size><width>1e999</width></size></annotation>"),
    "unknown encoding": broken("<?xml version='1.0' encoding='no-such'?><annotation></annotation>"),
    "encoding of several bytes": broken("<?xml version='1.0' encoding='utf-7'?><annotation></annotation>"),
    "entities that grow": broken("<!DOCTYPE a [<!ENTITY b 'n01'>]><annotation><object><name>&b;</name>"
                                 f"{BOX.format('1')}</object></annotation>"),
    "file of the machine": broken("<!DOCTYPE a SYSTEM '/etc/hostname'><annotation></annotation>"),
    "named pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "swapped corners": broken("<annotation><object><name>n01</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>1</xmax>"
                              "<ymax>1</ymax></bndbox></object></annotation>"),
    "a long text": broken(f"<annotation><object><name>{'x' * 9999}</name>{BOX.format('1')}</object></annotation>"),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_annotation_is_a_sentence_not_a_crash(imagenet_root, kind):
    MALFORMED[kind](imagenet_root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml")
    sample = load_dataset({"kind": "imagenet", "root": str(imagenet_root)}).read(0)
    assert (sample.label, sample.objects) == (0, ())
    assert len(sample.problems) == 1
    assert "ILSVRC2012_val_00000002" in sample.problems[0]
    assert len(sample.problems[0]) < 400


def test_boxes_are_clipped_to_the_image(tmp_path, build):
    path = build[1](tmp_path / "a.xml", [("n03", -5, 3, 60, 12)])
    assert read_objects(path, INDEX, first_pixel=0, size=(40, 30)) == (((2, (0, 3, 40, 13)),), ())


def test_one_good_box_survives_a_bad_one(tmp_path, build):
    path = build[1](tmp_path / "a.xml", [("n03", 1, 2, 3, 4), ("n77", 1, 2, 3, 4)])
    objects, problems = read_objects(path, INDEX, first_pixel=1)
    assert objects == ((2, (0, 1, 3, 4)),)
    assert "n77" in problems[0]


@pytest.mark.parametrize("kind", ["other size", "colours", "unknown value", "truncated", "named pipe"])
def test_malformed_mask_is_a_sentence_not_a_crash(tmp_path, kind):
    path = tmp_path / "mask.png"
    shapes = {"other size": (20, 40), "colours": (30, 40, 3)}
    values = np.full(shapes.get(kind, (30, 40)), 99 if kind == "unknown value" else 3, dtype=np.uint8)
    Image.fromarray(values).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:50])
    if kind == "named pipe":
        path.unlink()
        os.mkfifo(path)
    mask, problems = read_mask(path, (40, 30))
    assert mask is None
    assert "mask.png" in problems[0]
