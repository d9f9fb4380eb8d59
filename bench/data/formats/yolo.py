"""YOLO's label files: a line "class x y width height" for each object.

The class is a number from 0. The four other numbers are shares of the image: the centre of the box
and its sides. A line of more numbers is a polygon, "class x y x y x y ...". With keypoints, the
first five numbers of a line are the class and the box.
"""

from __future__ import annotations

from axiom_bench.data.formats.shapes import Drawing, Problem, Shape, polygon_shape
from axiom_bench.environment import decode_text

FORM = "have a line that isn't 'class x y width height' or a polygon"
NOT_SHARES = "have numbers that are no shares of the image, from 0 to 1"
MAX_BEYOND = 0.1  # how far shares may go beyond 0 to 1: tools round, and boxes reach beyond edges
BOX_CELLS = 5
CONFIDENCE_CELLS = 6  # a box that a network detected
POLYGON_CELLS = 7  # a class and three points


def read_yolo(content: bytes, has_keypoints: bool = False) -> Drawing:
    """Return the objects of a label file, in shares of the image, named by their class's number.

    Args:
        content: The bytes of the file.
        has_keypoints: True if keypoints follow the boxes.
    """
    shapes: list[Shape] = []
    problems: list[Problem] = []
    try:
        lines = decode_text(content).splitlines()
    except UnicodeDecodeError:
        return Drawing(problems=(Problem("aren't text in UTF-8"),), fits=False)
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if len(cells) == 1:
            cells = line.split(",")
        if not cells:
            continue
        place = f"line {number}"
        try:
            label, *values = map(float, cells)
        except ValueError:
            problems.append(Problem(FORM, place))
            continue
        is_box = has_keypoints or len(cells) in (BOX_CELLS, CONFIDENCE_CELLS)
        is_polygon = len(cells) >= POLYGON_CELLS and len(cells) % 2 == 1
        if len(cells) < BOX_CELLS or not (is_box or is_polygon) or label % 1 or label < 0:
            problems.append(Problem(FORM, place))
            continue
        shares = values[:4] if is_box else values
        if not all(-MAX_BEYOND <= share <= 1 + MAX_BEYOND for share in shares):
            problems.append(Problem(NOT_SHARES, place))
            continue
        name = str(int(label))
        if is_box:
            x, y, width, height = shares
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            shapes.append(Shape(name, box, place=place))
        else:
            points = tuple(zip(shares[::2], shares[1::2], strict=True))
            shapes.append(polygon_shape(name, points, place))
    has_numbers = bool(shapes) or any(problem.kind == NOT_SHARES for problem in problems)
    return Drawing(tuple(shapes), tuple(problems), has_shares=True, fits=has_numbers)
