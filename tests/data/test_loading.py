"""Batches: rows by target rule, their order, any number of workers, and bad images."""

from dataclasses import replace

import pytest
import torch

from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.notes import ImageProblem
from axiom_bench.testing.other_device import OTHER, OtherDevice
from tests.data.builders import AS_STORED, PLAIN, load, save, scenes, xml


def rows(items):
    """Return the outcomes in the order of the items.

    They are (image id, target or None) of every row, and (image id, status) of every bad image.
    """
    outcomes = []
    for item in items:
        if isinstance(item, BadImage):
            outcomes.append((item.image_id, item.status))
        else:
            targets = item.targets.tolist() if item.targets is not None else [None] * len(item)
            outcomes += zip(item.image_ids, targets, strict=True)
    return outcomes


def test_what_annotations_say_of_the_explained_classes_row_by_row():
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    other_box = torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    two_boxes = torch.cat([box, other_box])
    two_objects = Annotation(torch.tensor([1, 2]), two_boxes, stored_pixel=(2.0, 0.5))
    one_object = Annotation(torch.tensor([1]), box)
    images = torch.zeros(2, 3, 4, 4)
    targets = torch.tensor([1, 0])
    batch = Batch(images, ("a", "b"), targets, (two_objects, one_object))

    fields = batch.annotations_of(batch.targets, classes=3)

    assert fields["stored_pixels"] == ((2.0, 0.5), (1.0, 1.0))
    assert [boxes.tolist() for boxes in fields["boxes"]] == [box.tolist(), []]
    assert fields["wrong_class"].tolist() == [False, True]
    assert [note.labels.tolist() for note in fields["others"]] == [[2], [1]]
    without = replace(batch, annotations=()).annotations_of(batch.targets, classes=3)
    assert set(without.values()) == {None}


def test_rows_by_target_rule_in_full_batches_and_in_the_order_of_indices():
    dataset = scenes()
    by_label = [(image_id, dataset.draw(index).label) for index, image_id in enumerate(dataset.ids)]
    assert rows(batches(dataset, range(20), PLAIN, "label", 8)) == by_label

    by_each_label = []
    for index in range(20):
        by_each_label += [(dataset.ids[index], label) for label in dataset.labels(index)]
    loaded = list(batches(dataset, range(20), PLAIN, "each_label", 7))
    assert rows(loaded) == by_each_label
    num_rows = len(by_each_label)
    assert [len(batch) for batch in loaded] == [
        min(7, num_rows - start) for start in range(0, num_rows, 7)
    ]

    (batch,) = batches(dataset, range(4), PLAIN, "predicted", 8)
    assert batch.targets is None
    num_objects = [len(dataset.draw(index).objects) for index in range(4)]
    assert [len(note.labels) for note in batch.annotations] == num_objects

    (batch,) = batches(dataset, [7, 3, 12], PLAIN, "label", 8)
    for row, index in enumerate([7, 3, 12]):
        image, annotation = PLAIN(dataset.read(index))
        assert torch.equal(batch.images[row], image)
        assert torch.equal(batch.annotations[row].boxes, annotation.boxes)
        assert torch.equal(batch.annotations[row].mask, annotation.mask)


def test_images_are_normalised_on_the_device():
    (plain,) = batches(scenes(3), range(3), PLAIN, "label", 3)
    with OtherDevice() as other:
        (moved,) = batches(scenes(3), range(3), PLAIN, "label", 3, device=OTHER)
        assert other.holds(moved.images)
        assert other.holds(moved.targets)
        assert torch.equal(moved.images.cpu(), plain.images)


def test_bad_images_are_yielded(folder_root):
    (folder_root / "cow/2.png").write_bytes(b"no image")
    (folder_root / "cow/3.jpg").symlink_to(folder_root / "gone.jpg")
    items = list(batches(load("folder", folder_root), range(4), PLAIN, "label", 2))
    bad = [("cow/2.png", "bad_image"), ("cow/3.jpg", "bad_image")]
    assert sorted(rows(items)) == [("cat/1.jpg", 0), *bad, ("dog/1.jpg", 2)]
    # The good rows still fill their batch: bad ones take no place.
    assert [len(item) for item in items if isinstance(item, Batch)] == [2]


def test_an_image_without_a_class_is_yielded_and_a_class_outside_the_crop_isn_t(voc_root):
    dataset = load("voc", voc_root)
    for rule in ("label", "each_label"):
        assert rows(batches(dataset, range(3), PLAIN, rule, 8))[0] == ("2007_3", "no_annotation")
        (bad,) = batches(dataset, [2], PLAIN, rule)
        message = f"has no class to explain with target={rule}; there is no annotation"
        assert bad.message.startswith(message)
    assert len(rows(batches(dataset, range(3), PLAIN, "predicted", 8))) == 3

    path = voc_root / "VOCdevkit/VOC2012/Annotations/2007_2.xml"
    xml(path, [("cat", 1, 1, 2, 30), ("cow", 15, 1, 26, 30)])
    # The crop keeps columns 15 to 24 of 40 x 30 pixels: the cow.
    cropped = Preprocessing(30, 10, (0, 0, 0), (1, 1, 1))
    assert rows(batches(load("voc", voc_root), [1], cropped, "each_label", 8)) == [("2007_2", 9)]


def test_malformed_annotations_are_noted(imagenet_root):
    (imagenet_root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml").unlink()
    dataset = load("imagenet", imagenet_root)
    message = r"^n01/ILSVRC2012_val_00000002.JPEG: there is no annotation .*2.xml"
    with pytest.warns(ImageProblem, match=message):
        (batch,) = batches(dataset, range(3), PLAIN, "label", 8, workers=1)
    assert [len(boxes) for boxes in batch.boxes(batch.targets)] == [0, 2, 1]


def test_images_of_different_sizes_are_in_different_batches(folder_root):
    save(folder_root / "cow/2.png", width=20, height=10)
    items = batches(load("folder", folder_root), range(3), AS_STORED, "label", 8)
    sizes = [(batch.image_ids, batch.images.shape[2:]) for batch in items]
    assert sizes == [
        (("cat/1.jpg",), (30, 40)),
        (("cow/2.png",), (10, 20)),
        (("dog/1.jpg",), (30, 40)),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_rule": "labels"}, "label"),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -1}, "workers"),
    ],
)
def test_invalid_settings_are_refused_before_reading(settings, message):
    with pytest.raises(BenchError, match=message):
        batches(scenes(), range(20), PLAIN, **settings)  # not even iterated
