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
