"""Trees of ImageNet, VOC and COCO composed as people have them: each image has the label and boxes
that were put in, or there is one sentence; a documented layout without a fault is read.
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
CALLED = {
    "synset": SYNSETS,
    "index": [*"0123"],
    "name": NAMES,
    "first": ["Tench", "GOLDFISH", *NAMES[2:]],
}
OBJECTS = ["traffic light", "dog", "Person", "kite"]
# class, x, y, w, h
BOX = st.tuples(*(st.integers(0, most) for most in (3, 5, 4)), st.integers(1, 3), st.integers(1, 2))
IMAGES = st.lists(st.lists(BOX, min_size=1, max_size=3), min_size=1, max_size=4)
some, flag = st.sampled_from, st.booleans()
# root, settings, {image: its objects}; {} where none is read
Made = tuple[Path, dict[str, Any], dict[str, list[Any]]]
IMAGENET = {
    "images": IMAGES, "tree": some(("plain", "kaggle", "tiny")), "inside": flag, "listed": flag, "boxes": flag,
    "fault": some((None, None, "no line", "two labels", "no class")), "called": some(sorted(CALLED)), "own": flag,
    "separator": some(",;\t "), "heading": flag, "swapped": flag, "order": some((1, -1)),
    "end": some(("\n", "\r\n", "\n\n")), "mark": some(("utf-8", "utf-8-sig")), "full": flag,
    "before": some(("", "val/", "/data/x/")),
    "stem": some(("ILSVRC2012_val_0000000", "my photo ", "img")), "ending": some(("JPEG", "jpg", "png")),
}  # fmt: skip
BROKEN = {
    "missing": "",
    "broken": "<annotation><obj",
    "of another size": "<a><size><width>9</width><height>9</height></size></a>",
}
VOC = {
    "images": IMAGES, "below": some(("", "VOCdevkit/VOC2012", "VOC2007")), "inside": flag, "verdicts": flag,
    "fault": some((None, None, *BROKEN)), "full": flag, "difficult": flag, "hard": st.integers(0, 2),
    "ending": some(("jpg", "JPEG", "png")), "end": some(("\n", "\r\n")), "called": some((str, str.lower, str.title)),
}  # fmt: skip
COCO = {
    "images": IMAGES, "ids": st.permutations((1, 2, 18, 90)), "below": some(("", "a/", "a b/c/")), "texts": flag,
    "crowds": flag, "classes": st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    "fault": some((None, None, "twice", "no image", "no field")),
}  # fmt: skip


def imagenet(
    top: Path, images: list[Any], tree: str, listed: bool, fault: str | None, **kind: Any
) -> Made:
    is_kaggle, is_tiny = tree == "kaggle", tree == "tiny"
    data, rows, expected, names = (
        top / ("ILSVRC/Data/CLS-LOC" if is_kaggle else ""),
        [],
        {},
        CALLED[kind["called"]],
    )
    lines = "\n".join(f"{synset} {name}" for synset, name in zip(SYNSETS, NAMES, strict=True))
    (top / ("words.txt" if is_tiny else "LOC_synset_mapping.txt")).write_text(lines)
    (top / "wnids.txt").write_text("\n".join(SYNSETS[::-1]))
    for number, objects in enumerate(images):
        label, stem = objects[0][0], f"{kind['stem']}{number}"
        file = f"{stem}.{kind['ending']}"
        image = f"images/{file}" if is_tiny else file if listed else f"{names[label]}/{file}"
        save(data / "val" / image, *SIZE)
        rows.append((kind["before"] + (file if kind["full"] else stem), names[label]))
        expected[image] = [(label, *box) for _, *box in objects] if kind["boxes"] else [(label,)]
        if kind["boxes"]:
            corners = [(SYNSETS[label], x, y, x + w - 1, y + h - 1) for _, x, y, w, h in objects]
            xml(
                top / ("ILSVRC" if is_kaggle else "") / f"Annotations/CLS-LOC/val/{stem}.xml",
                corners,
                *SIZE,
            )
    if not (listed or is_tiny):
        return data if kind["inside"] else top, {}, expected
    other = names[(images[0][0][0] + 1) % 4]
    rows = {
        "no line": rows[1:] or [("gone", other)],
        "two labels": [*rows, (rows[0][0], other)],
    }.get(str(fault), rows)
    rows = [(rows[0][0], "n99999999"), *rows[1:]] if fault == "no class" else rows
    separator = (
        ","
        if kind["separator"] == " " and " " in "".join(map("".join, rows))
        else kind["separator"]
    )
    table = [("filename", "label")] * kind["heading"] + rows[:: kind["order"]]
    quoted = [
        [f'"{cell}"' if "," in cell and separator == "," else cell for cell in row] for row in table
    ]
    text = "".join(
        separator.join(row[:: -1 if kind["swapped"] else 1]) + kind["end"] for row in quoted
    )
    usual = {
        "plain": "val.txt",
        "kaggle": "LOC_val_solution.csv",
        "tiny": "val/val_annotations.txt",
    }[tree]
    (top / ("mine.csv" if kind["own"] else usual)).write_bytes(text.encode(kind["mark"]))
    settings = {"labels": "mine.csv"} if kind["own"] else {}
    return data if kind["inside"] else top, settings, {} if fault else expected


def voc(top: Path, images: list[Any], fault: str | None, **kind: Any) -> Made:
    folder, expected, lines = top / kind["below"], {}, []
    for number, objects in enumerate(images):
        stem, file = f"2007_{number}", folder / f"Annotations/2007_{number}.xml"
        save(folder / f"JPEGImages/{stem}.{kind['ending']}", *SIZE)
        corners = [
            (kind["called"](OBJECTS[label]), x + 1, y + 1, x + w, y + h)
            for label, x, y, w, h in objects
        ]
        text, hard = (
            xml(file, corners, *SIZE).read_text(),
            "<object><part><name>head</name></part><difficult>1</difficult>",
        )
        file.write_text(
            BROKEN[fault] if fault and not number else text.replace("<object>", hard, kind["hard"])
        )
        verdict = ("-1", " 1")[number % 2] if kind["verdicts"] and len(images) > 1 else ""
        lines.append(f"{stem}{'.jpg' * kind['full']} {verdict}")
        if verdict != "-1":
            expected[stem] = (
                objects[0 if kind["difficult"] else kind["hard"] :] if number or not fault else []
            )
    if fault == "missing":
        (folder / "Annotations/2007_0.xml").unlink()
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/mine.txt").write_bytes(
        (kind["end"].join(lines) + kind["end"]).encode()
    )
    settings = {"split": "mine", "classes": OBJECTS, "difficult": kind["difficult"]}
    return folder if kind["inside"] else top, settings, expected


def coco(
    top: Path,
    images: list[Any],
    ids: list[int],
    classes: list[int] | None,
    fault: str | None,
    **kind: Any,
) -> Made:
    place = {
        label: index for index, label in enumerate(classes or sorted(range(4), key=ids.__getitem__))
    }
    entries, annotations, expected = [], list[Any](), {}
    for number, objects in enumerate(images):
        name, image_id = (
            f"{kind['below']}{number:012d}.jpg",
            str(50 - number) if kind["texts"] else 50 - number,
        )
        save(top / "val2017" / name, *SIZE)
        entries.append(
            {"id": image_id, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 1}
        )
        crowds = [int(kind["crowds"] and index == 1) for index in range(len(objects))]
        for (label, *box), crowd in zip(objects, crowds, strict=True):
            annotations.append(
                annotation(len(annotations), image_id, ids[label], [*map(float, box)], None, crowd)
            )
        counted = [
            each
            for each, crowd in zip(objects, crowds, strict=True)
            if not crowd and each[0] in place
        ]
        expected[name] = [(place[label], *box) for label, *box in counted]
    entries = {"twice": [*entries, entries[0]], "no image": []}.get(str(fault), entries[::-1])
    categories = [{"id": number, "name": name} for number, name in zip(ids, OBJECTS, strict=True)]
    write_coco(
        top,
        {"images": entries, "annotations": annotations, "categories": categories}
        if fault != "no field"
        else {},
    )
    return (
        top,
        {} if classes is None else {"classes": [OBJECTS[each] for each in classes]},
        {} if fault else expected,
    )


def check(layout: Any, kind: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        root, settings, expected = layout(Path(folder), **kind)
        data = value_or_sentence(lambda: load(layout.__name__, root, **settings))
        assert isinstance(data, str) == (not expected), data
        if not expected:
            return
        assert {*data.ids} == {*expected}
        for index, image in enumerate(data.ids):
            sample, objects = data.read(index), expected[image]
            with_box = [each for each in objects if len(each) > 1]
            assert sample.objects == tuple(
                (label, (x, y, x + w, y + h)) for label, x, y, w, h in with_box
            )
            assert sample.label == (
                max(objects, key=lambda each: prod(each[3:]))[0] if objects else None
            )
            assert data.labels(index) == tuple(sorted({label for label, *_ in objects}))


@lengths(
    100, times=6
)  # then every two features of ImageNet's and VOC's trees have met; COCO's are few
@pytest.mark.parametrize(("layout", "kinds"), [(imagenet, IMAGENET), (voc, VOC), (coco, COCO)])
def test_what_was_put_in_or_one_sentence(layout, kinds, examples):
    run(lambda kind: check(layout, kind), kinds, examples)
