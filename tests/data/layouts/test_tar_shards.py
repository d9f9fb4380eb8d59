"""WebDataset's layout: members that belong together, labels and boxes of .cls and .json files.

The tests also cover damaged shards.
"""

import json

import pytest

from axiom_bench.data.base import BEYOND, NO_AREA
from axiom_bench.errors import BenchError
from tests.data.builders import cut, labels, messages, save, write_tar
from tests.data.builders import load as load_kind


@pytest.fixture
def picture(tmp_path):
    """The bytes of a JPEG file."""
    return save(tmp_path / "any.jpg").read_bytes()


@pytest.fixture
def load(tmp_path):
    """A function that loads a data set of one shard with the given members."""

    def load_members(members, **settings):
        return load_kind("webdataset", write_tar(tmp_path / "shard.tar", members), **settings)

    return load_members


def note(**values):
    return json.dumps(values).encode()


def test_members_of_one_key_belong_together(load, picture):
    members = {
        "a/1.jpg": picture,
        "README.md": b"text",
        "b/1.PNG": picture,
        "b/1.cls": b"4\n",
        "a/1.cls": b"2",
        "a/1.seg.png": picture,
        "2.extra.json": b"{}",
        "2.jpeg": picture,
        "2.json": note(label=3),
    }
    dataset = load(members.items())
    assert dataset.ids == ("shard/2.jpeg", "shard/a/1.jpg", "shard/b/1.PNG")
    assert labels(dataset) == [(3,), (2,), (4,)]
    assert len(dataset.classes) == 5


def test_labels_and_boxes_of_json(load, picture):
    boxes = [
        [1, 2, 3.5, 50],
        {"label": "b", "box": [0, 0, 9, 9]},
        {"label": 0, "box": [5, 5, 5, 9]},
    ]
    members = [("1.jpg", picture), ("1.json", note(label="c", boxes=boxes))]
    dataset = load(members, classes=["a", "b", "c"])
    sample = dataset.read(0)
    assert sample.label == 2
    assert dataset.labels(0) == (0, 1, 2)
    assert sample.objects == ((2, (1, 2, 3.5, 30)), (1, (0, 0, 9, 9)))
    cut_off, left_out = sample.problems
    assert cut_off.startswith("shard/1.jpg: the box [1.0, 2.0, 3.5, 50.0]")
    assert cut_off.endswith(BEYOND)
    assert left_out.startswith("shard/1.jpg: the box [5.0, 5.0, 5.0, 9.0]")
    assert left_out.endswith(NO_AREA)

    members = [("1.jpg", picture), ("1.json", note(y=1, where=[[0, 0, 2, 2]]))]
    other_keys = load(members, label="y", boxes="where")
    assert other_keys.read(0).objects == ((1, (0, 0, 2, 2)),)

    # A label of .cls comes first.
    members = [("1.jpg", picture), ("1.json", note(label=3))]
    assert load([*members, ("1.cls", b"1")]).labels(0) == (1,)
    assert load([*members, ("1.cls", b"-1")]).labels(0) == ()


ODD_NOTES = {
    "no json": (".json", b"{", "a .json that can't be read"),
    "no mapping": (".json", b"[1]", "a .json that can't be read"),
    "nested": (".json", b"[" * 100_000, "a .json that can't be read"),
    "no UTF-8": (".cls", b"\xff", "a .cls that can't be read"),
    "no class": (".cls", b"tench", "a label that is no class: 'tench'"),
    "below -1": (".cls", b"-7", "a label that is no class: '-7'"),
    "huge": (".json", b'{"label": ' + b"9" * 400 + b"}", "a label that is no class: 999"),
    "true": (".json", note(label=True), "a label that is no class: True"),
    "part of a number": (".json", note(label=1.5), "a label that is no class: 1.5"),
    "boxes of no list": (".json", note(label=1, boxes=7), "a malformed box: 7"),
    "a box of text": (".json", note(label=1, boxes=["abcd"]), "a malformed box: 'abcd'"),
    "a box of three": (".json", note(label=1, boxes=[[1, 2, 3]]), "a malformed box: [1, 2, 3]"),
    "infinity": (
        ".json",
        b'{"label": 1, "boxes": [[0, 0, 1, Infinity]]}',
        "a malformed box: [0, 0, 1, inf]",
    ),
    "NaN": (".json", b'{"label": 1, "boxes": [[0, 0, 1, NaN]]}', "a malformed box: [0, 0, 1, nan]"),
    "a box without a class": (".json", note(boxes=[[0, 0, 1, 1]]), "a malformed box: [0, 0, 1, 1]"),
}


@pytest.mark.parametrize("kind", ODD_NOTES)
def test_odd_notes_are_problems_and_the_image_is_kept(load, picture, kind):
    ending, content, problem = ODD_NOTES[kind]
    members = [("1.jpg", picture), (f"1{ending}", content), ("2.jpg", picture), ("2.cls", b"1")]
    sample = load(members).read(0)
    assert sample.objects == ()
    assert len(sample.problems) == 1
    assert sample.problems[0].startswith(f"shard/1.jpg has {problem}")
    assert len(sample.problems[0]) < 400


def test_a_key_without_one_image_is_a_bad_image(load, picture):
    names = ("2.jpg", "2.jpeg", "3.jpg", "4.png", "4.PNG")
    members = [("1.cls", b"0")]
    members += [(name, picture) for name in names]
    assert messages(load(members)) == {
        "shard/1": "can't be read: there are no images among 1.cls",
        "shard/2": "can't be read: there are 2 images among 2.jpg, 2.jpeg",
        "shard/4": "can't be read: there are 2 images among 4.png, 4.PNG",
    }


def test_a_member_that_claims_too_much_is_a_bad_image(load, picture, monkeypatch):
    """Check the limit: a file with holes may claim any number of bytes, and none is allocated."""
    monkeypatch.setattr("axiom_bench.data.formats.archive.Archive.read.__defaults__", (500,))
    expected = f"can't be read: it has {len(picture):,} bytes, more than 500"
    assert messages(load([("1.jpg", picture)])) == {"shard/1.jpg": expected}


CUTS = {"in a member": 1700, "in a header": 300, "behind a member": 512 + 2048, "nothing": 0}


@pytest.mark.parametrize("kind", CUTS)
def test_a_cut_shard_keeps_what_is_before_and_says_so(tmp_path, picture, kind):
    picture = picture.ljust(2000, b"\0")
    write_tar(tmp_path / "shards/0.tar", [("1.jpg", picture)])
    members = [(f"{number}.jpg", picture) for number in range(3)]
    path = write_tar(tmp_path / "shards/1.tar", members)
    cut(path, CUTS[kind])

    dataset = load_kind("webdataset", path.parent)

    if CUTS[kind] > 512:  # the first member is whole
        assert dataset.ids == ("0/1.jpg", "1", "1/0.jpg")
    else:
        assert dataset.ids == ("0/1.jpg", "1")
    message = messages(dataset)["1"]
    assert message.startswith("can't be read: the shard is damaged or cut short (")
    assert message.endswith("); make or download it again")


def test_two_members_of_one_name_are_damage(load, picture):
    dataset = load([("1.jpg", picture), ("2.jpg", picture), ("1.jpg", picture)])
    assert dataset.ids == ("shard", "shard/1.jpg", "shard/2.jpg")
    assert "it holds two files '1.jpg'" in messages(dataset)["shard"]


def test_compressed_and_empty_shards_are_refused(tmp_path, load, picture):
    nothing = r"no images in data\.path: no member is an image\. Expected WebDataset's layout"
    with pytest.raises(BenchError, match=nothing):
        load([("1.txt", b"")])
    packed = write_tar(tmp_path / "packed.tar", [("1.jpg", picture)], "w:gz")
    damaged = r"no images in data\.path: the shard is damaged or cut short"
    with pytest.raises(BenchError, match=damaged):
        load_kind("webdataset", packed)
