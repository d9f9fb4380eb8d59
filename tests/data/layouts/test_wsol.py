"""CUB-200-2011 and OpenImages30k in wsolevaluation's layout, against its own arithmetic by hand."""

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.base import BACKGROUND, NO_VERDICT
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.metrics.shared.protocol import inclusive_boxes
from tests.data.builders import load, save

SQUASHED = Preprocessing((224, 224), None, (0.0,) * 3, (1.0,) * 3)


def test_boxes_are_those_that_the_evaluator_compares(wsol_root):
    """Its `resize_bbox` is int(x * 224 / width) of the listed corners, which are inside the box."""
    data = load("wsol", wsol_root)
    annotation = SQUASHED.annotation(data.read(0))
    boxes = inclusive_boxes(annotation.boxes.double().numpy(), annotation.stored_pixel)
    listed = [(3, 4, 12, 13), (20, 0, 39, 29)]
    expected = [
        [int(corner * 224 / side) for corner, side in zip(box, (40, 30, 40, 30), strict=True)]
        for box in listed
    ]
    assert boxes.tolist() == expected


def test_lists_that_do_not_fit(wsol_root):
    folder = wsol_root / "metadata/CUB/test"
    sizes = (folder / "image_sizes.txt").read_text()
    (folder / "image_sizes.txt").write_text(sizes.replace("40,30", "80,60", 1))
    (folder / "localization.txt").write_text("001.Black_Albatross/a_1.jpg,3,4,12,13\r\n")
    data = load("wsol", wsol_root)
    sample = data.read(0)
    assert sample.label == 0
    assert sample.objects == ()
    assert sample.problems == (
        "the lists are for (80, 60) pixels (width, height), the image has (40, 30)",
    )
    assert data.notes == (
        "1 of 2 images has no localization, such as 002.Laysan_Albatross/b_2.jpg",
    )

    (folder / "localization.txt").write_text("001.Black_Albatross/a_1.jpg,3,4\n")
    (folder / "class_labels.txt").write_text("001.Black_Albatross/a_1.jpg,first\n")
    with pytest.raises(BenchError, match=r"'first'; get it from wsolevaluation"):
        load("wsol", wsol_root)
    with pytest.raises(BenchError, match="expected the layout of wsolevaluation"):
        load("wsol", wsol_root, split="val")


def published_cub(root):
    """Write CUB-200-2011 as it is published, with the ends of lines of Windows."""
    images = (
        "001.Black_Albatross/a_1.jpg",
        "001.Black_Albatross/c.jpg",
        "002.Laysan_Albatross/b.jpg",
    )
    for seed, name in enumerate(images):
        save(root / "images" / name, seed=seed)
    lists = {
        "images": [f"{number} {name}" for number, name in enumerate(images, 1)],
        "image_class_labels": ["1 1", "2 1", "3 2"],
        "train_test_split": ["1 0", "2 1", "3 0"],
        "bounding_boxes": ["1 3.0 4.0 9.0 9.0", "2 1.0 1.0 5.0 5.0", "3 5.0 6.0 2.0 60.0"],
        "classes": ["1 001.Black_Albatross", "2 002.Laysan_Albatross"],
    }
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\ufeff" + "\r\n".join(lines) + "\r\n")


@pytest.mark.parametrize("above", [False, True])
def test_the_published_tree_of_cub_has_the_boxes_of_wsolevaluations_lists(
    tmp_path, wsol_root, above
):
    root = tmp_path / "birds/CUB_200_2011"
    published_cub(root)
    data = load("wsol", root.parent if above else root)
    assert data.ids == ("001.Black_Albatross/a_1.jpg", "002.Laysan_Albatross/b.jpg")
    assert data.class_names == ("Black Albatross", "Laysan Albatross")
    first, second = (data.read(index) for index in range(2))
    assert first.label == 0
    assert second.label == 1
    assert first.objects[0] == load("wsol", wsol_root, collection="CUB").read(0).objects[0]
    assert "cut off" in second.problems[0]
    assert load("wsol", root, split="train").ids == ("001.Black_Albatross/c.jpg",)


def test_a_published_tree_of_cub_that_is_not_whole_is_refused(tmp_path):
    published_cub(tmp_path)
    with pytest.raises(BenchError, match="no split of CUB_200_2011 'val'"):
        load("wsol", tmp_path, split="val")
    (tmp_path / "bounding_boxes.txt").write_text("1 3.0 4.0 9.0\n")
    with pytest.raises(BenchError, match=r"no value for image 1: .*unpack CUB_200_2011.tgz again"):
        load("wsol", tmp_path)
    (tmp_path / "bounding_boxes.txt").unlink()
    with pytest.raises(BenchError, match=r"bounding_boxes.txt"):
        load("wsol", tmp_path)


@pytest.fixture
def open_images(tmp_path):
    """An image with two masks, one of another size, and a region to ignore that overlaps one."""
    image = "test/01226z/a.jpg"
    save(tmp_path / "dataset/OpenImages" / image)
    folder = tmp_path / "metadata/OpenImages/test"
    folder.mkdir(parents=True)
    (folder / "class_labels.txt").write_text(f"{image},0\n")
    lines = [
        f"{image},test/01226z/a_m1.png,test/01226z/a_ignore.png",
        f"{image},test/01226z/a_m2.png,",
    ]
    (folder / "localization.txt").write_text("\n".join(lines))
    first = np.zeros((30, 40), dtype=np.uint8)
    second = np.zeros((15, 20), dtype=np.uint8)  # half of the image's size
    ignored = np.zeros((30, 40), dtype=np.uint8)
    first[2:6, 3:9] = 255
    second[5:10, 10:15] = 1
    ignored[4:8, 3:9] = 255
    for name, picture in (("m1", first), ("m2", second), ("ignore", ignored)):
        path = tmp_path / f"dataset/OpenImages/test/01226z/a_{name}.png"
        Image.fromarray(picture).save(path)
    return tmp_path


def test_a_mask_may_have_no_region_to_ignore(open_images):
    path = open_images / "metadata/OpenImages/test/localization.txt"
    path.write_text("test/01226z/a.jpg,test/01226z/a_m1.png\n")
    mask = load("wsol", open_images, collection="OpenImages").read(0).mask
    assert np.unique(mask).tolist() == [BACKGROUND, 0]
    path.write_text("test/01226z/a.jpg,1,2,3\n")
    with pytest.raises(BenchError, match=r"'test/01226z/a\.jpg,1,2,3' has 4 cells"):
        load("wsol", open_images, collection="OpenImages")


def test_masks_are_united_and_ignored_outside(open_images):
    """Its `get_mask` is the union, plus 255 in the region to ignore outside the union."""
    data = load("wsol", open_images, collection="OpenImages")
    expected = np.full((30, 40), BACKGROUND)
    expected[4:8, 3:9] = NO_VERDICT
    expected[2:6, 3:9] = 0
    expected[10:20, 20:30] = 0
    sample = data.read(0)
    assert np.array_equal(sample.mask, expected)
    assert sample.label == 0
    assert sample.objects == ()
    assert len(data.files(0)) == 4

    (open_images / "dataset/OpenImages/test/01226z/a_m2.png").unlink()
    sample = data.read(0)
    assert sample.mask is None
    assert "a_m2.png" in sample.problems[0]
