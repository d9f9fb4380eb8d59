"""The official tar files, built small: the same data set as their unpacked form, and errors for damaged ones."""

import io
import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from scipy.io import savemat

from axiom_bench.data.base import UNREADABLE, BadImage, subset
from axiom_bench.data.formats.archive import Archive, read_compressed
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

SYNSETS = ("n03", "n02", "n01")  # by the devkit's numbers, from 1: not the standard order
TRUTH = {1: "n03", 2: "n01", 3: "n03"}
PLAIN = Preprocessing(32, 32, (0, 0, 0), (1, 1, 1))


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_devkit(path, truth=True, meta=True):
    entries = [(number, synset, f"{synset} by name") for number, synset in enumerate(SYNSETS, start=1)]
    entries.append((1001, "n00", "an inner node"))
    table = io.BytesIO()
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    savemat(table, {"synsets": np.array(entries, dtype=kinds)[:, None]})
    numbers = "".join(f"{SYNSETS.index(synset) + 1}\n" for synset in TRUTH.values())
    with tarfile.open(path, "w:gz") as tar:
        if meta:
            add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", table.getvalue())
        if truth:
            add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", numbers.encode())


def pack(unpacked, root, boxes=True):
    """The images and boxes of an unpacked root as the official files."""
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for path in sorted(unpacked.glob("val/*/*.JPEG"), key=lambda path: path.name):
            add(tar, path.name, path.read_bytes())
    if boxes:
        with tarfile.open(root / "ILSVRC2012_bbox_val_v3.tgz", "w:gz") as tar:
            for path in (unpacked / "Annotations/CLS-LOC/val").glob("*.xml"):
                add(tar, f"val/{path.name}", path.read_bytes())
    write_devkit(root / "ILSVRC2012_devkit_t12.tar.gz")
    return root


@pytest.fixture
def archives(imagenet_root, tmp_path_factory):
    return pack(imagenet_root, tmp_path_factory.mktemp("archives"))


def load(root, **settings):
    return load_dataset({"kind": "imagenet", "root": str(root), **settings})


def test_archives_equal_the_unpacked_data_set(archives, imagenet_root):
    packed, unpacked = load(archives), load(imagenet_root)
    assert packed.ids == tuple(f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3))
    assert packed.classes == unpacked.classes == ("n01", "n02", "n03")
    assert packed.class_names == ("n01 by name", "n02 by name", "n03 by name")
    place = {image_id.partition("/")[2]: index for index, image_id in enumerate(unpacked.ids)}
    for index, image_id in enumerate(packed.ids):
        packed_sample, sample = packed.read(index), unpacked.read(place[image_id])
        assert np.array_equal(np.asarray(packed_sample.image), np.asarray(sample.image))
        assert (packed_sample.label, packed_sample.objects, packed_sample.problems) == (
            sample.label,
            sample.objects,
            sample.problems,
        )
        assert packed.labels(index) == (sample.label,)
        assert packed.fingerprint(index) == unpacked.fingerprint(place[image_id])
    assert [path.name for path in archives.iterdir()].count("val") == 0  # nothing was unpacked


def test_class_list_and_label_file(archives):
    dataset = load(archives, classes=["n03", "n07"])
    assert dataset.ids == ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000003.JPEG")
    assert [dataset.read(index).label for index in range(2)] == [0, 0]
    (archives / "val.txt").write_text("\n".join(f"ILSVRC2012_val_0000000{number}.JPEG 1" for number in (1, 2, 3)))
    assert [load(archives).labels(index) for index in range(3)] == [(1,)] * 3


def test_missing_box_archive_is_a_problem_of_each_image(imagenet_root, tmp_path_factory):
    sample = load(pack(imagenet_root, tmp_path_factory.mktemp("bare"), boxes=False)).read(0)
    assert sample.objects == ()
    assert "there is no annotation ILSVRC2012_val_00000001.xml" in sample.problems[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_image_in_the_tar_is_a_bad_image(imagenet_root, tmp_path_factory, workers):
    path = next(imagenet_root.glob("val/*/ILSVRC2012_val_00000002.JPEG"))
    path.write_bytes(path.read_bytes()[:300])
    dataset = load(pack(imagenet_root, tmp_path_factory.mktemp("truncated")))
    items = list(batches(dataset, range(3), PLAIN, "label", 8, workers))
    bad = [part for part in items if isinstance(part, BadImage)]
    assert [(part.image_id, part.status) for part in bad] == [("ILSVRC2012_val_00000002.JPEG", "bad_image")]
    assert torch.cat([part.targets for part in items if not isinstance(part, BadImage)]).tolist() == [2, 2]


def test_archive_can_be_pickled(archives):
    archive = Archive.of(archives / "ILSVRC2012_img_val.tar")
    restored = pickle.loads(pickle.dumps(archive))
    name = "ILSVRC2012_val_00000003.JPEG"
    assert restored.read(name) == archive.read(name) != b""
    with pytest.raises(OSError, match="is no file in"):
        restored.read("ILSVRC2012_val_00000009.JPEG")


def truncate(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def train_tar(root):
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        add(tar, "n01440764.tar", b"inside")


BROKEN = {
    "no devkit": (lambda root: (root / "ILSVRC2012_devkit_t12.tar.gz").unlink(), r"ILSVRC2012_devkit_t12\.tar\.gz"),
    "devkit without meta": (
        lambda root: write_devkit(root / "ILSVRC2012_devkit_t12.tar.gz", meta=False),
        "holds no meta.mat",
    ),
    "devkit without truth": (
        lambda root: write_devkit(root / "ILSVRC2012_devkit_t12.tar.gz", truth=False),
        "holds no ILSVRC2012_validation_ground_truth",
    ),
    "truncated devkit": (lambda root: truncate(root / "ILSVRC2012_devkit_t12.tar.gz", 200), "download it again"),
    "images end in a member": (
        lambda root: truncate(root / "ILSVRC2012_img_val.tar", 2000),
        "download it again",
    ),
    "images end in a header": (
        lambda root: truncate(root / "ILSVRC2012_img_val.tar", 1212),
        "download it again",
    ),
    "no tar": (lambda root: (root / "ILSVRC2012_img_val.tar").write_text("<html>404</html>"), "download it again"),
    "empty": (lambda root: truncate(root / "ILSVRC2012_img_val.tar", 0), "download it again"),
    "the tar of another part": (train_tar, r"holds no images but n01440764\.tar"),
    "nothing": (lambda root: (root / "ILSVRC2012_img_val.tar").unlink(), r"ILSVRC2012_img_val\.tar"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_archive_error_messages(archives, kind):
    damage, message = BROKEN[kind]
    damage(archives)
    with pytest.raises(BenchError, match=message) as caught:
        load(archives)
    assert str(caught.value).count("\n") == 0


def test_truncated_box_archive_is_refused(archives):
    truncate(archives / "ILSVRC2012_bbox_val_v3.tgz", 100)
    with pytest.raises(BenchError, match="download it again"):
        load(archives).fingerprint(0)


@pytest.mark.parametrize("num_members", [1, 2])
def test_tar_truncated_between_members_is_refused(archives, num_members):
    path = archives / "ILSVRC2012_img_val.tar"
    ends = sorted(start + length for start, length in Archive.of(path).members.values())
    truncate(path, -(-ends[num_members - 1] // 512) * 512)
    with pytest.raises(BenchError, match="its end is missing"):
        load(archives)


def image_tar(archives, change):
    """The tar of images written anew, each member after `change(member, content)`."""
    path = archives / "ILSVRC2012_img_val.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            change(tar, member, content)


def rename(name):
    def change(tar, member, content):
        member.name = name if member.name.endswith("2.JPEG") else member.name
        tar.addfile(member, io.BytesIO(content))

    return change


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_the_tar_is_a_bad_image(archives, kind):
    def change(tar, member, content):
        if member.name.endswith("2.JPEG"):
            member.type, member.size, member.linkname = kind, 0, "/etc/passwd"
        tar.addfile(member, io.BytesIO(content[: member.size]))

    image_tar(archives, change)
    dataset = load(archives)
    assert len(dataset.ids) == 3
    bad = [part for part in batches(dataset, range(3), PLAIN) if isinstance(part, BadImage)]
    assert [(part.image_id, part.message.split(" in ")[0]) for part in bad] == [
        ("ILSVRC2012_val_00000002.JPEG", "can't be read: it is no file")
    ]
    assert dataset.fingerprint(1).startswith(UNREADABLE)


def test_names_that_climb_lead_nowhere(archives):
    image_tar(archives, rename("../../../ILSVRC2012_val_00000002.JPEG"))
    assert "ILSVRC2012_val_00000002.JPEG" in load(archives).ids


def test_two_images_of_one_name_are_refused(archives):
    image_tar(archives, rename("other/ILSVRC2012_val_00000001.JPEG"))
    with pytest.raises(BenchError, match=r"holds two files 'ILSVRC2012_val_00000001\.JPEG'"):
        load(archives)


def test_an_image_whose_number_is_none_of_the_kit_is_refused(archives):
    """0 - 1 would be the last line of the ground truth."""
    image_tar(archives, rename("ILSVRC2012_val_00000000.JPEG"))
    with pytest.raises(BenchError, match="can't be read: 0"):
        load(archives)


@pytest.mark.parametrize("what", ["header", "zeros"])
def test_members_behind_damage_are_not_lost(archives, what):
    """tarfile takes a damaged header, and a block of zeros, for the end."""
    path = archives / "ILSVRC2012_img_val.tar"
    content = bytearray(path.read_bytes())
    header = Archive.of(path).members["ILSVRC2012_val_00000002.JPEG"][0] - 512
    content[header : header + 512] = bytes(512) if what == "zeros" else bytes([7]) * 512
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"header of a member is damaged|end before the file does"):
        load(archives)


def test_every_byte_of_the_boxes_is_checked(archives):
    """Behind the last member tarfile reads no further, and the checksum stands at the end."""
    path = archives / "ILSVRC2012_bbox_val_v3.tgz"
    content = path.read_bytes()
    for place in range(content.index(b"val_v3") + 20, len(content), 7):  # behind the name that gzip keeps
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(BenchError, match="download it again"):
            read_compressed(path, ".xml")


def test_a_bomb_is_refused(archives, monkeypatch):
    monkeypatch.setattr("axiom_bench.data.formats.archive.MAX_UNPACKED", 2000)
    with pytest.raises(BenchError, match="unpacks to more than 2,000 bytes"):
        load(archives).fingerprint(0)


def test_a_kit_with_one_number_twice_is_refused(archives, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SYNSETS", ("n03", "n03", "n01"))
    write_devkit(archives / "ILSVRC2012_devkit_t12.tar.gz")
    with pytest.raises(BenchError, match="doesn't number its classes"):
        load(archives)


def test_an_image_with_two_labels_is_refused(archives):
    (archives / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000001.JPEG 2\n")
    with pytest.raises(BenchError, match=r"val\.txt can't be read.*two labels"):
        load(archives)


@pytest.mark.real
def test_real_photographs_from_a_tar_equal_the_folder(real_root, tmp_path):
    unpacked = load(real_root / "data/imagenet")
    chosen = subset(unpacked, 12, 0)
    with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as tar:
        for index in chosen:
            tar.add(unpacked.path(index), unpacked.path(index).name)
    lines = [f"{unpacked.path(index).name} {unpacked.labels(index)[0]}" for index in chosen]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    packed = load(tmp_path, classes=str(real_root / "data/imagenet/LOC_synset_mapping.txt"))
    place = {unpacked.path(index).name: index for index in chosen}
    assert set(packed.ids) == set(place)
    for index, image_id in enumerate(packed.ids):
        packed_sample, sample = packed.read(index), unpacked.read(place[image_id])
        assert np.array_equal(np.asarray(packed_sample.image), np.asarray(sample.image))
        assert packed_sample.label == sample.label
