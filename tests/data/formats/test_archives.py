"""The official tar files, built small: the same data set as their unpacked form, and errors for damaged ones."""

import io
import tarfile

import numpy as np
import pytest

from axiom_bench.data.base import UNREADABLE
from axiom_bench.data.formats.archive import Archive, read_compressed
from axiom_bench.errors import BenchError
from tests.data.builders import (
    BOXES,
    IMAGES,
    KIT,
    SECOND,
    cut,
    labels,
    messages,
    write_devkit,
    write_tar,
)
from tests.data.builders import load as load_kind


def load(root, **settings):
    return load_kind("imagenet", root, **settings)


def test_archives_equal_the_unpacked_data_set(archives, imagenet_root):
    packed, unpacked = load(archives), load(imagenet_root)
    assert packed.ids == tuple(f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3))
    assert packed.classes == unpacked.classes == ("n01", "n02", "n03")
    assert packed.class_names == ("n01 by name", "n02 by name", "n03 by name")
    place = {image_id.partition("/")[2]: index for index, image_id in enumerate(unpacked.ids)}
    for index, image_id in enumerate(packed.ids):
        actual, expected = packed.read(index), unpacked.read(place[image_id])
        assert np.array_equal(np.asarray(actual.image), np.asarray(expected.image))
        for field in ("label", "objects", "problems"):
            assert getattr(actual, field) == getattr(expected, field)
        assert packed.labels(index) == (expected.label,)
        assert packed.fingerprint(index) == unpacked.fingerprint(place[image_id])
    assert not (archives / "val").exists()  # nothing was unpacked
    with pytest.raises(BenchError, match=rf"49,997 of the 50,000 validation images .* in {archives / IMAGES}, as"):
        load(archives, first=50_000)


def test_class_list_label_file_and_missing_boxes(archives):
    dataset = load(archives, classes=["n03", "n07"])
    assert dataset.ids == ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000003.JPEG")
    assert [dataset.read(index).label for index in range(2)] == [0, 0]
    (archives / "val.txt").write_text("\n".join(f"ILSVRC2012_val_0000000{number}.JPEG 1" for number in (1, 2, 3)))
    (archives / BOXES).unlink()
    dataset = load(archives)
    assert (labels(dataset), dataset.read(0).objects) == ([(1,)] * 3, ())
    assert "there is no annotation ILSVRC2012_val_00000001.xml" in dataset.read(0).problems[0]


def test_names_that_climb_lead_nowhere(archives):
    change_second(archives, name=f"../../../{SECOND}")
    assert SECOND in load(archives).ids


def change_second(archives, **changes):
    """Writes the tar of images anew, with another header of the second one."""
    path = archives / IMAGES
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            if member.name == SECOND:
                for key, value in changes.items():
                    setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content[: member.size]))


def overwrite_header(root, block):
    """Of the second member: tarfile takes a damaged header, and a block of zeros, for the end."""
    path = root / IMAGES
    content, header = path.read_bytes(), Archive.of(path).members[SECOND][0] - 512
    path.write_bytes(content[:header] + block + content[header + 512 :])


TWICE = "ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000001.JPEG 2\n"
NO_HEADER = r"header of a member is damaged|end before the file does"
BROKEN = {
    "no devkit": (lambda root: (root / KIT).unlink(), r"ILSVRC2012_devkit_t12\.tar\.gz"),
    "devkit without meta": (lambda root: write_devkit(root, "meta.mat"), "holds no meta.mat"),
    "devkit without truth": (
        lambda root: write_devkit(root, "ILSVRC2012_validation_ground_truth.txt"),
        "holds no ILSVRC2012_validation_ground_truth",
    ),
    "one number twice": (lambda root: write_devkit(root, synsets=("n03", "n03", "n01")), "doesn't number its classes"),
    "truncated devkit": (lambda root: cut(root / KIT, 200), "download it again"),
    "images end in a member": (lambda root: cut(root / IMAGES, 2000), "download it again"),
    "images end in a header": (lambda root: cut(root / IMAGES, 1212), "download it again"),
    "no tar": (lambda root: (root / IMAGES).write_text("<html>404</html>"), "download it again"),
    "empty": (lambda root: cut(root / IMAGES, 0), "download it again"),
    "the tar of another part": (
        lambda root: write_tar(root / IMAGES, [("n01440764.tar", b"inside")]),
        r"holds no images but n01440764\.tar",
    ),
    "nothing": (lambda root: (root / IMAGES).unlink(), r"ILSVRC2012_img_val\.tar"),
    "two labels": (lambda root: (root / "val.txt").write_text(TWICE), r"val\.txt names two classes for 1 images"),
    "truncated boxes": (lambda root: cut(root / BOXES, 100), "download it again"),
    "damaged header": (lambda root: overwrite_header(root, bytes([7]) * 512), NO_HEADER),
    "header of zeros": (lambda root: overwrite_header(root, bytes(512)), NO_HEADER),
    "two files of a name": (
        lambda root: change_second(root, name="other/ILSVRC2012_val_00000001.JPEG"),
        r"holds two files 'ILSVRC2012_val_00000001\.JPEG'",
    ),
    "a number before the first": (  # 0 - 1 would be the last line of the ground truth
        lambda root: change_second(root, name="ILSVRC2012_val_00000000.JPEG"),
        "can't be read: 0",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_archive_error_messages(archives, kind):
    damage, message = BROKEN[kind]
    damage(archives)
    with pytest.raises(BenchError, match=message) as caught:
        load(archives).fingerprint(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_members", [1, 2])
def test_tar_truncated_between_members_is_refused(archives, num_members):
    ends = sorted(start + length for start, length in Archive.of(archives / IMAGES).members.values())
    cut(archives / IMAGES, -(-ends[num_members - 1] // 512) * 512)
    with pytest.raises(BenchError, match="its end is missing"):
        load(archives)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_the_tar_is_a_bad_image(archives, kind):
    change_second(archives, type=kind, size=0, linkname="/etc/passwd")
    dataset = load(archives)
    assert len(dataset.ids) == 3
    ((image_id, message),) = messages(dataset).items()
    assert (image_id, message.split(" in ")[0]) == (SECOND, "can't be read: it is no file")
    assert dataset.fingerprint(1).startswith(UNREADABLE)


def test_every_byte_of_the_boxes_is_checked(archives):
    """Behind the last member tarfile reads no further, and the checksum stands at the end."""
    path = archives / BOXES
    content = path.read_bytes()
    for place in range(content.index(b"val_v3") + 20, len(content), 7):  # behind the name that gzip keeps
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(BenchError, match="download it again"):
            read_compressed(path, ".xml")
