"""Parquet with image bytes: the forms of columns, what is damaged or too large, and how much of a file is read."""

import json
import os
import resource

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axiom_bench.data.base import BadImage
from axiom_bench.data.layouts import parquet_images
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

PLAIN = Preprocessing(24, 20, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))


@pytest.fixture
def pictures(tmp_path, build):
    return [build[0](tmp_path / f"{number}.jpg", seed=number).read_bytes() for number in range(4)]


def load(path, **settings):
    return load_dataset({"kind": "parquet", "path": str(path), **settings})


def write(path, table, **settings):
    pq.write_table(pa.table(table), path, **settings)
    return path


def messages(dataset):
    items = batches(dataset, range(len(dataset)), PLAIN, "predicted", 8)
    return {item.image_id: item.message for item in items if isinstance(item, BadImage)}


def structs(pictures):
    return pa.array([{"bytes": each, "path": None} for each in pictures])


IMAGES = {
    "struct": structs,
    "bytes": lambda pictures: pa.array(pictures, pa.binary()),
    "large bytes": lambda pictures: pa.array(pictures, pa.large_binary()),
    "struct of large bytes": lambda pictures: pa.array(
        [{"bytes": each} for each in pictures], pa.struct([("bytes", pa.large_binary())])
    ),
}


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.parametrize("packing", ["none", "zstd"])
def test_forms_of_images(tmp_path, pictures, form, packing):
    table = {"jpg": IMAGES[form](pictures), "label": [2, 0, -1, None]}
    dataset = load(write(tmp_path / "a.parquet", table, compression=packing, row_group_size=3), image="jpg")
    assert dataset.ids == tuple(f"a/00000000{row}" for row in range(4))
    assert [dataset.content(index) for index in range(4)] == pictures
    assert [dataset.labels(index) for index in range(4)] == [(2,), (0,), (), ()]
    assert dataset.classes == ("0", "1", "2")


def test_files_of_several_forms(tmp_path, pictures):
    for name, form in zip("abcd", IMAGES.values(), strict=True):
        write(tmp_path / f"{name}.parquet", {"image": form(pictures), "label": [0] * 4})
    dataset = load(tmp_path)
    assert [dataset.content(index) for index in range(16)] == pictures * 4


LABELS = {
    "numbers": pa.array([1, 0, 1, None], pa.uint8()),
    "names": pa.array(["dog", "cat", "dog", None]),
    "long names": pa.array(["dog", "cat", "dog", None], pa.large_string()),
    "categories": pa.array(["dog", "cat", "dog", None]).dictionary_encode(),
}


@pytest.mark.parametrize("form", LABELS)
def test_forms_of_labels(tmp_path, pictures, form):
    path = write(tmp_path / "a.parquet", {"image": structs(pictures), "y": LABELS[form]})
    dataset = load(path, label="y", classes=["cat", "dog"])
    assert [dataset.labels(index) for index in range(4)] == [(1,), (0,), (1,), ()]


def test_boxes_of_lists_and_of_structs(tmp_path, pictures):
    lists = pa.array([[[1, 2, 3, 50]], [], None, [[0, 0, 5]]], pa.list_(pa.list_(pa.float32())))
    of_box = pa.struct([("label", pa.int64()), ("box", pa.list_(pa.float64(), 4))])
    labelled = pa.array([[{"label": 0, "box": [1, 2, 3, 4]}]] * 4, pa.list_(of_box))
    table = {"image": structs(pictures), "label": [1, 1, 0, 1], "lists": lists, "labelled": labelled}
    path = write(tmp_path / "a.parquet", table)
    samples = [load(path, boxes="lists").read(row) for row in range(4)]
    assert [sample.objects for sample in samples] == [((1, (1, 2, 3, 30)),), (), (), ()]
    assert samples[3].problems == ("a/000000003 has a malformed box: [0.0, 0.0, 5.0]",)
    assert load(path, boxes="labelled").read(1).objects == ((0, (1, 2, 3, 4)),)
    assert load(path, boxes="labelled").labels(1) == (0, 1)
    assert load(path, label=None).labels(1) == ()
    assert len({load(path, boxes=boxes).fingerprint(0) for boxes in (None, "lists", "labelled")}) == 3


def test_hugging_face_s_classes_are_read(tmp_path, pictures):
    features = {"kind": {"names": ["a"]}, "label": {"names": ["tench, fish", "goldfish"], "_type": "ClassLabel"}}
    table = pa.table({"image": structs(pictures), "label": [1, 0, 1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    dataset = load(write(tmp_path / "a.parquet", table))
    assert (dataset.classes, dataset.class_names) == (("0", "1"), ("tench, fish", "goldfish"))
    for damaged in (
        "{",
        "[]",
        '{"info": {"features": {"label": 3}}}',
        '{"info": {"features": {"a": {"_type": "ClassLabel"}}}}',
    ):
        table = table.replace_schema_metadata({"huggingface": damaged})
        assert load(write(tmp_path / "a.parquet", table)).class_names == ("0", "1")


COLUMNS = {
    "image": ({"image": "img"}, r"has no column 'img' for data\.image; its columns are image, label, text, lists\."),
    "label": ({"label": "labels"}, r"has no column 'labels' for data\.label; its columns are image, label"),
    "image of numbers": (
        {"image": "label"},
        r"The column 'label' of .*a\.parquet holds int64; data\.image must name one",
    ),
    "label of bytes": ({"label": "image"}, r"data\.label must name one that holds class indices or names"),
    "boxes of numbers": ({"boxes": "label"}, r"data\.boxes must name one that holds lists of \[x0, y0, x1, y1\]"),
    "boxes of text": ({"boxes": "lists"}, r"data\.boxes must name one that holds lists"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_wrong_column_is_a_sentence(tmp_path, pictures, kind):
    settings, message = COLUMNS[kind]
    table = {"image": structs(pictures), "label": [0] * 4, "text": ["a"] * 4, "lists": [["a"]] * 4}
    with pytest.raises(BenchError, match=message):
        load(write(tmp_path / "a.parquet", table), **settings)


def test_a_row_without_an_image_is_a_bad_image(tmp_path, pictures):
    images = [pictures[0], None, b"", pictures[3]]
    table = {"image": structs(images), "label": [0] * 4, "bytes": pa.array(images, pa.binary())}
    path = write(tmp_path / "a.parquet", table)
    for column in ("image", "bytes"):
        bad = messages(load(path, image=column))
        assert list(bad) == ["a/000000001", "a/000000002"]
        assert bad["a/000000001"] == "can't be read: the row holds no image"


def test_a_damaged_page_is_the_bad_image_of_its_rows(tmp_path, pictures):
    table = {"image": structs(pictures), "label": [0, 1, 2, 3]}
    path = write(tmp_path / "a.parquet", table, row_group_size=2, compression="none", write_page_checksum=True)
    content = path.read_bytes()
    place = content.index(pictures[2]) + 700
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    dataset = load(path)
    assert list(messages(dataset)) == ["a/000000002", "a/000000003"]
    assert dataset.content(0) == pictures[0]


def test_a_column_of_labels_that_can_t_be_read_is_the_bad_image_of_its_file(tmp_path, pictures):
    write(tmp_path / "b.parquet", {"image": structs(pictures), "label": [0] * 4})
    table = {"image": structs(pictures), "label": [3, 1, 2, 3]}
    path = write(tmp_path / "a.parquet", table, compression="none", write_page_checksum=True, use_dictionary=False)
    start = pq.read_metadata(path).row_group(0).column(2).data_page_offset
    content = path.read_bytes()
    path.write_bytes(content[: start + 4] + b"\xff" * 30 + content[start + 34 :])
    dataset = load(tmp_path)
    assert dataset.ids[0] == "a"
    assert len(dataset) == 5
    assert messages(dataset)["a"].startswith("can't be read: the file is damaged: ")


@pytest.fixture
def bomb(tmp_path):
    """50 rows of one image of 4 MB, which is in the file once, as a dictionary."""
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 50, pa.int32()), pa.array([bytes(4_000_000)]))
    settings = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 2**30}
    path = write(tmp_path / "bomb.parquet", {"image": images, "label": [0] * 50}, **settings)
    assert path.stat().st_size < 10_000
    return path


def test_rows_that_share_one_value_take_the_memory_of_one(bomb):
    dataset, before = load(bomb), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert all(len(dataset.content(index)) == 4_000_000 for index in range(50))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; all rows would have 200,000


def test_a_part_of_a_column_that_would_unpack_to_far_more_is_refused(bomb, monkeypatch):
    monkeypatch.setattr(parquet_images, "MAX_UNPACKED", 2**20)
    with pytest.raises(OSError, match=r"^its column 'image' would unpack from \d+ to 4,000,\d+ bytes$"):
        load(bomb).content(3)


def test_an_image_of_too_many_bytes_is_a_bad_image(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(parquet_images, "MAX_IMAGE", len(pictures[0]) - 1)
    dataset = load(write(tmp_path / "a.parquet", {"image": structs(pictures[:1]), "label": [0]}))
    assert messages(dataset) == {"a/000000000": f"can't be read: it has {len(pictures[0]):,} bytes, more than "
                                                f"{len(pictures[0]) - 1:,}"}  # fmt: skip


def test_boxes_of_too_many_values_are_refused(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(parquet_images, "MAX_VALUES", 1000)
    boxes = pa.array([[[0.0] * 4] * 500, [], [], []])
    path = write(tmp_path / "a.parquet", {"image": structs(pictures), "label": [0] * 4, "boxes": boxes})
    with pytest.raises(BenchError, match=r"damaged: its column 'boxes' has 2,003 values, more than 1,000"):
        load(path, boxes="boxes")


def test_no_image_is_read_for_the_index_and_only_its_own_row_group_for_one(tmp_path):
    """Each row group has a megabyte of images."""
    random = np.random.default_rng(0)
    images = pa.array([random.bytes(2**18) for _ in range(32)])
    path = write(tmp_path / "a.parquet", {"image": images, "label": [0] * 32}, row_group_size=4, compression="none")
    assert os.path.getsize(path) > 8 * 2**20

    def read_so_far():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = read_so_far()
    dataset = load(path)
    assert read_so_far() - before < 2**18
    dataset.content(17)
    assert read_so_far() - before < 3 * 2**20


def test_a_pipe_is_not_waited_for(tmp_path, pictures):
    os.mkfifo(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", {"image": structs(pictures), "label": [0] * 4})
    assert messages(load(tmp_path))["a"].endswith("no Parquet: it is no regular file")
