"""Trees of ImageNet, VOC and COCO composed as people have them.

Each image has the label and boxes that were put in, or there is one sentence. A documented layout
without a fault is read.
"""

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.data.builders import annotation, load, save, write_coco, xml
from tests.made import lengths, run, value_or_sentence

SIZE = (8, 6)
SYNSETS = ["n01440764", "n01443537", "n01484850", "n01491361"]
NAMES = ["tench, Tinca tinca", "goldfish", "great white shark, white shark", "tiger shark"]
CLASS_NAMES = {  # the ways in which a folder or a list may call the four classes
    "synset": SYNSETS,
    "index": [*"0123"],
    "name": NAMES,
    "first": ["Tench", "GOLDFISH", *NAMES[2:]],
}
OBJECTS = ["traffic light", "dog", "Person", "kite"]
BOX = st.tuples(  # class, x, y, width, height
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)
IMAGES = st.lists(st.lists(BOX, min_size=1, max_size=3), min_size=1, max_size=4)
# The root, the settings, and {image: its objects}, which is empty if the tree can't be read.
Made = tuple[Path, dict[str, Any], dict[str, list[Any]]]

one_of = st.sampled_from
flag = st.booleans()
IMAGENET = {
    "images": IMAGES,
    "tree": one_of(("plain", "kaggle", "tiny")),
    "inside": flag,  # true: the root is the folder of the data
    "listed": flag,  # true: a list gives the labels, not the names of folders
    "boxes": flag,
    "fault": one_of((None, None, "no line", "two labels", "no class")),
    "called": one_of(sorted(CLASS_NAMES)),
    "own": flag,  # true: the list has a name of its own
    "separator": one_of(",;\t "),
    "heading": flag,
    "swapped": flag,  # true: labels come before images
    "order": one_of((1, -1)),
    "line_end": one_of(("\n", "\r\n", "\n\n")),
    "encoding": one_of(("utf-8", "utf-8-sig")),
    "full": flag,  # true: the list has the ending of each file
    "prefix": one_of(("", "val/", "/data/x/")),
    "stem": one_of(("ILSVRC2012_val_0000000", "my photo ", "img")),
    "ending": one_of(("JPEG", "jpg", "png")),
}
BROKEN = {
    "missing": "",
    "broken": "<annotation><obj",
    "of another size": "<a><size><width>9</width><height>9</height></size></a>",
}
VOC = {
    "images": IMAGES,
    "below": one_of(("", "VOCdevkit/VOC2012", "VOC2007")),
    "inside": flag,  # true: the root is the folder of the year
    "verdicts": flag,  # true: the list says 1 or -1 of each image
    "fault": one_of((None, None, *BROKEN)),
    "full": flag,  # true: the list has the ending of each file
    "difficult": flag,
    "num_difficult": st.integers(0, 2),  # the first objects of each image
    "ending": one_of(("jpg", "JPEG", "png")),
    "line_end": one_of(("\n", "\r\n")),
    "spell": one_of((str, str.lower, str.title)),
}
COCO = {
    "images": IMAGES,
    "ids": st.permutations((1, 2, 18, 90)),
    "below": one_of(("", "a/", "a b/c/")),
    "texts": flag,  # true: the images' ids are texts
    "crowds": flag,
    "classes": st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    "fault": one_of((None, None, "twice", "no image", "no field")),
}


def imagenet(
    top: Path,
    images: list[Any],
    tree: str,
    listed: bool,
    fault: str | None,
    **choices: Any,
) -> Made:
    is_tiny = tree == "tiny"
    data = top / "ILSVRC/Data/CLS-LOC" if tree == "kaggle" else top
    boxes = top / "ILSVRC" if tree == "kaggle" else top
    boxes = boxes / "Annotations/CLS-LOC/val"
    names = CLASS_NAMES[choices["called"]]

    mapping = "\n".join(f"{synset} {name}" for synset, name in zip(SYNSETS, NAMES, strict=True))
    (top / ("words.txt" if is_tiny else "LOC_synset_mapping.txt")).write_text(mapping)
    (top / "wnids.txt").write_text("\n".join(SYNSETS[::-1]))

    rows = []
    expected = {}
    for number, objects in enumerate(images):
        label = objects[0][0]
        stem = f"{choices['stem']}{number}"
        file = f"{stem}.{choices['ending']}"
        if is_tiny:
            image = f"images/{file}"
        elif listed:
            image = file
        else:
            image = f"{names[label]}/{file}"
        save(data / "val" / image, *SIZE)
        listed_name = file if choices["full"] else stem
        rows.append((choices["prefix"] + listed_name, names[label]))
        expected[image] = [(label,)]
        if choices["boxes"]:
            expected[image] = [(label, *box) for _, *box in objects]
            corners = [(SYNSETS[label], x, y, x + w - 1, y + h - 1) for _, x, y, w, h in objects]
            xml(boxes / f"{stem}.xml", corners, *SIZE)

    root = data if choices["inside"] else top
    if not (listed or is_tiny):
        return root, {}, expected
    other_name = names[(images[0][0][0] + 1) % 4]
    content = label_list(with_fault(rows, fault, other_name), **choices)
    usual_names = {
        "plain": "val.txt",
        "kaggle": "LOC_val_solution.csv",
        "tiny": "val/val_annotations.txt",
    }
    list_name = "mine.csv" if choices["own"] else usual_names[tree]
    (top / list_name).write_bytes(content)
    settings = {"labels": "mine.csv"} if choices["own"] else {}
    return root, settings, {} if fault else expected


def with_fault(rows: list[Any], fault: str | None, other_name: str) -> list[Any]:
    """Return the rows (image, class name) of a list with a fault in the first one."""
    first_image, _ = rows[0]
    if fault == "no line":
        return rows[1:] or [("gone", other_name)]
    if fault == "two labels":
        return [*rows, (first_image, other_name)]
    if fault == "no class":
        return [(first_image, "n99999999"), *rows[1:]]
    return rows


def label_list(
    rows: list[Any],
    separator: str,
    heading: bool,
    swapped: bool,
    order: int,
    line_end: str,
    encoding: str,
    **_: Any,
) -> bytes:
    """Return the content of a list of labels."""
    has_spaces = any(" " in "".join(row) for row in rows)
    if separator == " " and has_spaces:
        separator = ","
    table = rows[::order]
    if heading:
        table = [("filename", "label"), *table]

    text = ""
    for row in table:
        cells = [f'"{cell}"' if "," in cell and separator == "," else cell for cell in row]
        if swapped:
            cells.reverse()
        text += separator.join(cells) + line_end
    return text.encode(encoding)


def voc(top: Path, images: list[Any], fault: str | None, **choices: Any) -> Made:
    folder = top / choices["below"]
    num_difficult = choices["num_difficult"]
    expected = {}
    lines = []
    for number, objects in enumerate(images):
        stem = f"2007_{number}"
        save(folder / f"JPEGImages/{stem}.{choices['ending']}", *SIZE)

        corners = []
        for label, x, y, w, h in objects:
            name = choices["spell"](OBJECTS[label])
            corners.append((name, x + 1, y + 1, x + w, y + h))
        file = xml(folder / f"Annotations/{stem}.xml", corners, *SIZE)
        is_broken = fault is not None and number == 0
        if is_broken:
            file.write_text(BROKEN[fault])
        else:
            difficult = "<object><part><name>head</name></part><difficult>1</difficult>"
            text = file.read_text().replace("<object>", difficult, num_difficult)
            file.write_text(text)

        verdict = ""
        if choices["verdicts"] and len(images) > 1:
            verdict = ("-1", " 1")[number % 2]
        lines.append(f"{stem}{'.jpg' if choices['full'] else ''} {verdict}")
        if verdict != "-1":
            counted = objects if choices["difficult"] else objects[num_difficult:]
            expected[stem] = [] if is_broken else counted

    if fault == "missing":
        (folder / "Annotations/2007_0.xml").unlink()
    (folder / "ImageSets/Main").mkdir(parents=True)
    image_list = "".join(line + choices["line_end"] for line in lines)
    (folder / "ImageSets/Main/mine.txt").write_bytes(image_list.encode())
    settings = {"split": "mine", "classes": OBJECTS, "difficult": choices["difficult"]}
    return folder if choices["inside"] else top, settings, expected


def coco(
    top: Path,
    images: list[Any],
    ids: list[int],
    classes: list[int] | None,
    fault: str | None,
    **choices: Any,
) -> Made:
    by_id = sorted(range(4), key=ids.__getitem__)
    class_index = {label: index for index, label in enumerate(classes or by_id)}
    entries = []
    annotations: list[Any] = []
    expected = {}
    for number, objects in enumerate(images):
        name = f"{choices['below']}{number:012d}.jpg"
        image_id = str(50 - number) if choices["texts"] else 50 - number
        save(top / "val2017" / name, *SIZE)
        width, height = SIZE
        entries.append(
            {"id": image_id, "file_name": name, "width": width, "height": height, "license": 1}
        )
        expected[name] = []
        for index, (label, *box) in enumerate(objects):
            is_crowd = choices["crowds"] and index == 1
            corner_and_size = [float(value) for value in box]
            annotations.append(
                annotation(
                    len(annotations),
                    image_id,
                    ids[label],
                    corner_and_size,
                    None,
                    int(is_crowd),
                )
            )
            if not is_crowd and label in class_index:
                expected[name].append((class_index[label], *box))

    if fault == "twice":
        entries.append(entries[0])
    elif fault == "no image":
        entries = []
    else:
        entries.reverse()
    categories = [{"id": number, "name": name} for number, name in zip(ids, OBJECTS, strict=True)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    write_coco(top, {} if fault == "no field" else content)
    settings = {} if classes is None else {"classes": [OBJECTS[label] for label in classes]}
    return top, settings, {} if fault else expected


def area(labelled_box: tuple[int, ...]) -> int:
    """Return width times height, or 1 for a label without a box."""
    return prod(labelled_box[3:])


def check(layout: Any, choices: dict[str, Any]) -> None:
    """Check that a composed tree is read as it was written, or refused if it has a fault."""
    with TemporaryDirectory() as folder:
        root, settings, expected = layout(Path(folder), **choices)
        data = value_or_sentence(lambda: load(layout.__name__, root, **settings))
        is_refused = isinstance(data, str)
        assert is_refused == (not expected), data
        if is_refused:
            return

        assert {*data.ids} == {*expected}
        for index, image in enumerate(data.ids):
            sample = data.read(index)
            objects = expected[image]
            boxes = [labelled_box for labelled_box in objects if len(labelled_box) > 1]
            corners = tuple((label, (x, y, x + w, y + h)) for label, x, y, w, h in boxes)
            assert sample.objects == corners
            largest = max(objects, key=area) if objects else (None,)
            assert sample.label == largest[0]
            assert data.labels(index) == tuple(sorted({label for label, *_ in objects}))


# With this number every two features of ImageNet's and VOC's trees meet; COCO's are few.
@pytest.mark.slow
@lengths(50, times=12)
@pytest.mark.parametrize(("layout", "kinds"), [(imagenet, IMAGENET), (voc, VOC), (coco, COCO)])
def test_what_was_put_in_or_one_sentence(layout, kinds, examples):
    run(lambda choices: check(layout, choices), kinds, examples)
