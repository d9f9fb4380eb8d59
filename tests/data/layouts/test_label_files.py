"""Lists of ImageNet's labels in forms that tests/data/test_made_trees.py doesn't compose.

A list gives the right classes, or a sentence with the next step.
"""

import pytest

from axiom_bench.errors import BenchError
from tests.data.builders import labels, load, save, xml

SYNSETS = ["n01440764", "n01443537", "n01484850", "n01491361"]  # 0, 1, 2 and 3
NAMES = [
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "great white shark, white shark",
    "tiger shark",
]
STEMS = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3, 4)]
ORDER = [2, 0, 3, 1]  # the right labels
IDS = [SYNSETS[label] for label in ORDER]


def lines(form, *columns, head=""):
    """Format one line per image from its stem and its values in the columns."""
    rows = zip(STEMS, *columns, strict=True)
    return head + "".join(f"{form.format(*row)}\n" for row in rows)


ONE_HOT_COLUMNS = [[float(label == index) for label in ORDER] for index in range(4)]


LISTS = {
    "LOC_val_solution.csv": lines(
        "{},{} 1 2 9 9 n01440764 3 4 5 6 ", IDS, head="ImageId,PredictionString\n"
    ),
    "several.csv": lines("7,{},{},{},x", ORDER, IDS, head="row,image,label,synset,comment\n"),
    "imagenet_2012_validation_synset_labels.txt": "\n".join(IDS),
    "one_hot.csv": lines(
        "{},x,{},{},{},{}", *ONE_HOT_COLUMNS, head=f"image,comment,{','.join(SYNSETS)}\n"
    ),
    "val_annotations.txt": lines("{}.JPEG\t{}\t0\t1\t44\t62", IDS),
}


@pytest.fixture
def root(tmp_path):
    """A folder of four images without labels, and the list of classes."""
    for number, stem in enumerate(STEMS):
        save(tmp_path / "val" / f"{stem}.JPEG", seed=number)
    classes = zip(SYNSETS, NAMES, strict=True)
    mapping = "".join(f"{synset} {name}\n" for synset, name in classes)
    (tmp_path / "LOC_synset_mapping.txt").write_text(mapping)
    return tmp_path


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_read_by_their_columns(root, name):
    (root / name).write_text(LISTS[name])
    assert labels(load("imagenet", root, labels=name)) == [(label,) for label in ORDER]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            lines("{},{}", [1, 2, 3, 4], head="image,label\n"),
            "names class 4, but there are 4 .* count from 1",
        ),
        (
            lines("{},{},{}", IDS, [0, 1, 2, 3], head="image,synset,label\n"),
            "two classes for 4 images, such as .*remove",
        ),
        (
            lines("{},{}", ORDER) + f"{STEMS[0]},3\n",
            "two classes for 1 image, such as ILSVRC2012_val_00000001",
        ),
        (
            lines("{},{}", ["tench", "gold fish", "tiger shark", "tench"]),
            "'gold fish' of the network, as .* names it; did you mean 'goldfish'",
        ),
        ("3\n1\n4\n2\n", "numbers from 1, like the devkit"),
        (
            "other.JPEG,1\nmore.JPEG,2\n",
            "lists no image of the folder, but 'more.JPEG,2'; set data.labels",
        ),
        ("\n".join(IDS[:3]), "has only 3 labels for 4 images"),
        (
            lines("{},1,1,0", head="image,a,b,c\n"),
            "has 3 columns of 0 and 1, and 4 of 4 lines .* several, as a, b",
        ),
    ],
)
def test_lists_that_say_something_else_are_refused(root, text, message):
    (root / "mine.csv").write_text(text)
    with pytest.raises(BenchError, match=message):
        load("imagenet", root, labels="mine.csv")


@pytest.mark.parametrize("beginning", [b"PK\x03\x04 as .xlsx", b"\xd0\xcf\x11\xe0 as .xls"])
def test_a_spreadsheet_is_refused_with_the_format_to_save(root, beginning):
    (root / "labels.csv").write_bytes(beginning)
    with pytest.raises(BenchError, match=r"labels.csv is a spreadsheet; save it as CSV in UTF-8"):
        load("imagenet", root, labels="labels.csv")


def test_what_a_list_says_beside_its_labels_is_told(root):
    (root / "labels.csv").write_text(lines("{},{}", [1, 1, 1, 1]) + "absent.JPEG,2\n")
    absent, alike = load("imagenet", root).notes
    assert "1 of 5 images of" in absent
    assert "absent" in absent
    assert "all 4 labels of" in alike


def test_labels_that_the_boxes_contradict_are_refused(root):
    (root / "val.csv").write_text(lines("{}.JPEG,{}", [1, 1, 1, 1], head="filename,label\n"))
    for stem, synset in zip(STEMS, IDS, strict=True):
        xml(root / f"Annotations/CLS-LOC/val/{stem}.xml", [(synset, 2, 3, 11, 12)])
    message = r"3 of 4 labels name no class of the image's boxes, as .*data\.labels"
    with pytest.raises(BenchError, match=message):
        load("imagenet", root)


def test_kaggles_tree_by_the_path_of_its_split(root):
    """Check Kaggle's tree, which has its labels at the top and its boxes in between."""
    (root / "ILSVRC/Data/CLS-LOC").mkdir(parents=True)
    (root / "val").rename(root / "ILSVRC/Data/CLS-LOC/val")
    (root / "LOC_val_solution.csv").write_text(LISTS["LOC_val_solution.csv"])
    for stem, synset in zip(STEMS, IDS, strict=True):
        xml(root / f"ILSVRC/Annotations/CLS-LOC/val/{stem}.xml", [(synset, 2, 3, 11, 12)])

    data = load("imagenet", root, split="ILSVRC/Data/CLS-LOC/val")
    for index, label in enumerate(ORDER):
        assert data.read(index).objects == ((label, (2, 3, 12, 13)),)
