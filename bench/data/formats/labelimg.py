"""The XML that labelImg and other tools write for one image, in VOC's form.

As in VOC, the first pixel is 1, and xmax and ymax are the last pixel inside the box.
"""

from __future__ import annotations

from axiom_bench.data.formats.annotation_file import MALFORMED, box_of_object, parse_xml
from axiom_bench.data.formats.files import reason_of
from axiom_bench.data.formats.shapes import Drawing, Problem, Shape

FIRST_PIXEL = 1
BAD_BOX = "have an object without a box in pixels"
NOT_VOC = "aren't XML in VOC's form"
SIDES = ("width", "height")


def read_labelimg(content: bytes) -> Drawing:
    """Return the objects of a file."""
    try:
        root = parse_xml(content)
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag!r}")
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in SIDES)
    except MALFORMED as error:
        return Drawing(problems=(Problem(NOT_VOC, reason_of(error)),), fits=False)
    shapes: list[Shape] = []
    problems: list[Problem] = []
    for number, element in enumerate(root.iter("object"), 1):
        name = (element.findtext("name") or "").strip()
        try:
            shapes.append(Shape(name, box_of_object(element, FIRST_PIXEL)))
        except ValueError:
            problems.append(Problem(BAD_BOX, f"object {number}"))
    size = (width, height) if width and height else None
    return Drawing(tuple(shapes), tuple(problems), size, image=root.findtext("filename") or "")
