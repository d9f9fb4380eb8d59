"""Parquet files with the bytes of images.

The tests cover the forms of columns, damaged or too large files, and how much of a file is read.
"""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axiom_bench.data.layouts import parquet_images
from axiom_bench.errors import BenchError
from tests.data.builders import labels, messages, save
from tests.data.builders import load as load_kind


@pytest.fixture
def pictures(tmp_path):
    """The bytes of four JPEG files."""
    return [save(tmp_path / f"{number}.jpg", seed=number).read_bytes() for number in range(4)]


def load(path, **settings):
    return load_kind("parquet", path, **settings)


def bytes_of(dataset, index):
    """Return the image's own bytes."""
    return dataset.row(index).contents()[0]


@pytest.fixture
def write(tmp_path, pictures):
    """A function that writes the four pictures with class 0, or other columns.

    A column that is None is left out.
    """

    def write(name="a", columns=(), metadata=None, **settings):
        columns = {"image": structs(pictures), "label": [0] * len(pictures), **dict(columns)}
        table = pa.table({key: value for key, value in columns.items() if value is not None})
        table = table.replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / f"{name}.parquet", **settings)
        return tmp_path / f"{name}.parquet"

    return write


def structs(pictures):
    return pa.array([{"bytes": picture, "path": None} for picture in pictures])


def structs_of_large_bytes(pictures):
    large = pa.struct([("bytes", pa.large_binary())])
    return pa.array([{"bytes": picture} for picture in pictures], large)


def binary(pictures):
    return pa.array(pictures, pa.binary())


def large_binary(pictures):
    return pa.array(pictures, pa.large_binary())


IMAGES = {
    "struct": structs,
    "bytes": binary,
    "large bytes": large_binary,
    "struct of large bytes": structs_of_large_bytes,
}


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.parametrize("packing", ["none", "zstd"])
def test_forms_of_images(write, pictures, form, packing):
    columns = {"image": None, "jpg": IMAGES[form](pictures), "label": [2, 0, -1, None]}
    dataset = load(write("a", columns, compression=packing, row_group_size=3), image="jpg")
    assert dataset.ids == tuple(f"a/00000000{row}" for row in range(4))
    assert [bytes_of(dataset, index) for index in range(4)] == pictures
    assert labels(dataset) == [(2,), (0,), (), ()]
    assert dataset.classes == ("0", "1", "2")


def test_files_of_several_forms(tmp_path, write, pictures):
    for name, form in zip("abcd", IMAGES.values(), strict=True):
        write(name, {"image": form(pictures)})
    dataset = load(tmp_path)
    assert [bytes_of(dataset, index) for index in range(16)] == pictures * 4


LABELS = {
    "numbers": pa.array([1, 0, 1, None], pa.uint8()),
    "names": pa.array(["dog", "cat", "dog", None]),
    "long names": pa.array(["dog", "cat", "dog", None], pa.large_string()),
    "categories": pa.array(["dog", "cat", "dog", None]).dictionary_encode(),
}


@pytest.mark.parametrize("form", LABELS)
def test_forms_of_labels(write, form):
    path = write("a", {"label": None, "y": LABELS[form]})
    dataset = load(path, label="y", classes=["cat", "dog"])
    assert labels(dataset) == [(1,), (0,), (1,), ()]


def test_boxes_of_lists_and_of_structs(write):
    list_of_boxes = pa.list_(pa.list_(pa.float32()))
    lists = pa.array([[[1, 2, 3, 50]], [], None, [[0, 0, 5]]], list_of_boxes)
    labelled_box = pa.struct([("label", pa.int64()), ("box", pa.list_(pa.float64(), 4))])
    labelled = pa.array([[{"label": 0, "box": [1, 2, 3, 4]}]] * 4, pa.list_(labelled_box))
    path = write("a", {"label": [1, 1, 0, 1], "lists": lists, "labelled": labelled})

    samples = [load(path, boxes="lists").read(row) for row in range(4)]
    assert [sample.objects for sample in samples] == [((1, (1, 2, 3, 30)),), (), (), ()]
    assert samples[3].problems == ("a/000000003 has a malformed box: [0.0, 0.0, 5.0]",)
    assert load(path, boxes="labelled").read(1).objects == ((0, (1, 2, 3, 4)),)
    assert load(path, boxes="labelled").labels(1) == (0, 1)
    assert load(path, label=None).labels(1) == ()

    prints = {load(path, boxes=boxes).fingerprint(0) for boxes in (None, "lists", "labelled")}
    assert len(prints) == 3


HUGGING_FACE = {
    "kind": {"names": ["a"]},
    "label": {"names": ["tench, fish", "goldfish"], "_type": "ClassLabel"},
}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (json.dumps({"info": {"features": HUGGING_FACE}}), ("tench, fish", "goldfish")),
        ("{", ("0", "1")),
        ("[]", ("0", "1")),
        ('{"info": {"features": {"label": 3}}}', ("0", "1")),
        ('{"info": {"features": {"a": {"_type": "ClassLabel"}}}}', ("0", "1")),
    ],
)
def test_hugging_face_s_classes_are_read(write, metadata, expected):
    dataset = load(write("a", {"label": [1, 0, 1, 0]}, {"huggingface": metadata}))
    assert dataset.classes == ("0", "1")
    assert dataset.class_names == expected


COLUMNS = {  # the settings, and the message
    "image": (
        {"image": "img"},
        r"has no column 'img' for data\.image; its columns are image, label, text, lists\.",
    ),
    "label": (
        {"label": "labels"},
        r"has no column 'labels' for data\.label; its columns are image, label",
    ),
    "image of numbers": (
        {"image": "label"},
        r"The column 'label' of .*a\.parquet holds int64; data\.image must name one that holds "
        r"bytes, or a struct",
    ),
    "label of bytes": (
        {"label": "image"},
        r"data\.label must name one that holds class indices or names",
    ),
    "boxes of numbers": (
        {"boxes": "label"},
        r"data\.boxes must name one that holds lists of \[x0, y0, x1, y1\]",
    ),
    "boxes of text": ({"boxes": "lists"}, r"data\.boxes must name one that holds lists"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_wrong_column_is_a_sentence(write, kind):
    settings, message = COLUMNS[kind]
    with pytest.raises(BenchError, match=message):
        load(write("a", {"text": ["a"] * 4, "lists": [["a"]] * 4}), **settings)


def test_a_column_that_is_there_twice_is_a_sentence(tmp_path, pictures):
    columns = [pa.array(pictures, pa.binary()), pa.array([0, 1, 2, 3]), pa.array([3, 2, 1, 0])]
    table = pa.Table.from_arrays(columns, names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BenchError, match=r"has several columns 'label' for data\.label; its col"):
        load(tmp_path, label="label")


def test_a_row_without_an_image_is_a_bad_image(write, pictures):
    images = [pictures[0], None, b"", pictures[3]]
    path = write("a", {"image": structs(images), "bytes": pa.array(images, pa.binary())})
    for column in ("image", "bytes"):
        bad = messages(load(path, image=column))
        assert list(bad) == ["a/000000001", "a/000000002"]
        assert bad["a/000000001"] == "can't be read: the row holds no image"


def test_a_damaged_page_is_the_bad_image_of_its_rows(write, pictures):
    path = write(row_group_size=2, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(pictures[2]) + 700] ^= 1
    path.write_bytes(content)
    dataset = load(path)
    assert list(messages(dataset)) == ["a/000000002", "a/000000003"]
    assert bytes_of(dataset, 0) == pictures[0]


def test_a_column_of_labels_that_can_t_be_read_is_the_bad_image_of_its_file(tmp_path, write):
    write("b")
    path = write(
        "a",
        {"label": [3, 1, 2, 3]},
        compression="none",
        write_page_checksum=True,
        use_dictionary=False,
    )
    start = pq.read_metadata(path).row_group(0).column(2).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 4 : start + 34] = b"\xff" * 30
    path.write_bytes(content)

    dataset = load(tmp_path)
    assert dataset.ids[0] == "a"
    assert len(dataset) == 5
    assert messages(dataset)["a"].startswith("can't be read: the file is damaged: ")


@pytest.fixture
def bomb(write):
    """50 rows of one image of 4 MB, which is in the file once, as a dictionary."""
    indices = pa.array([0] * 50, pa.int32())
    images = pa.DictionaryArray.from_arrays(indices, pa.array([bytes(4_000_000)]))
    path = write(
        "bomb",
        {"image": images, "label": [0] * 50},
        compression="zstd",
        store_schema=False,
        dictionary_pagesize_limit=2**30,
    )
    assert path.stat().st_size < 10_000
    return path


def peak_memory():
    """Return the most memory that the process has had so far, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_rows_that_share_one_value_take_the_memory_of_one(bomb):
    dataset = load(bomb)
    before = peak_memory()
    assert all(len(bytes_of(dataset, index)) == 4_000_000 for index in range(50))
    assert peak_memory() - before < 100_000  # all rows would take 200,000


def test_an_image_that_is_too_large_is_a_bad_image(write, pictures, monkeypatch):
    most = len(pictures[0]) - 1
    monkeypatch.setattr(parquet_images, "MAX_IMAGE", most)
    path = write("a", {"image": structs(pictures[:1]), "label": [0]})
    assert messages(load(path)) == {
        "a/000000000": f"can't be read: it has {most + 1:,} bytes, more than {most:,}"
    }


def test_no_image_is_read_for_the_index_and_only_its_own_row_group_for_one(write):
    """Count the bytes that are read; each row group has a megabyte of images."""
    random = np.random.default_rng(0)
    images = pa.array([random.bytes(2**18) for _ in range(32)])
    path = write("a", {"image": images, "label": [0] * 32}, row_group_size=4, compression="none")
    assert os.path.getsize(path) > 8 * 2**20

    def read_so_far():
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read_so_far()
    dataset = load(path)
    assert read_so_far() - before < 2**18
    bytes_of(dataset, 17)
    assert read_so_far() - before < 3 * 2**20


def test_a_pipe_is_not_waited_for(tmp_path, write):
    os.mkfifo(tmp_path / "a.parquet")
    write("b")
    assert messages(load(tmp_path))["a"].endswith("isn't Parquet: it is no regular file")
