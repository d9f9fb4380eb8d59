"""What stands in a folder of images beside good images: each has a row or a status, and none ends or hangs a run."""

import errno
import io
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axiom_bench.data.base import UNREADABLE, BadImage, FileHashes
from axiom_bench.data.formats import files
from axiom_bench.data.formats.files import as_name, as_text
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

PLAIN = Preprocessing(24, 24, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def folder(root):
    return load_dataset({"kind": "folder", "root": str(root)})


def outcomes(dataset, workers=0):
    """{image id: its message, or None for a row}."""
    items = {}
    for item in batches(dataset, range(len(dataset)), PLAIN, "label", 4, workers):
        items |= {item.image_id: item.message} if isinstance(item, BadImage) else dict.fromkeys(item.image_ids)
    return items


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)
        listening.bind(path.name)


ODD = {
    "named pipe": (os.mkfifo, "no regular file"),
    "socket": (make_socket, "no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "folder": (lambda path: path.mkdir(), "no regular file"),
    "link to nothing": (lambda path: path.symlink_to("gone.jpg"), "there is no file"),
    "link to its folder": (lambda path: path.symlink_to("../cat"), "no regular file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "Too many levels"),
    "no bytes": (lambda path: path.touch(), "is no image"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_a_bad_image(folder_root, kind, monkeypatch):
    monkeypatch.chdir(folder_root)
    make, reason = ODD[kind]
    make(folder_root / "cat" / "x.jpg")
    dataset = folder(folder_root)
    messages = outcomes(dataset)
    assert list(dataset.ids) == sorted(messages) == ["cat/1.jpg", "cat/x.jpg", "cow/2.png", "dog/1.jpg"]
    assert [image_id for image_id, message in messages.items() if message] == ["cat/x.jpg"]
    assert reason in messages["cat/x.jpg"]
    assert dataset.fingerprint(1) == dataset.fingerprint(1)


NAMES = {
    b"caf\xe9.jpg": r"caf\xe9.jpg",
    b"two\nlines.png": r"two\x0alines.png",
    b"\\xe9.png": r"\x5cxe9.png",
    b"back\\slash.png": "back\\slash.png",
    b"\x1b[31m.png": r"\x1b[31m.png",
    "é.png".encode(): "é.png",
    b"$%<b>{{x}}.png": "$%<b>{{x}}.png",
    b"-r.png": "-r.png",
    b"=1+1.png": "=1+1.png",
    b"\xff\xfe.png": r"\xff\xfe.png",
    b"\\x5cxe9.png": r"\x5cx5cxe9.png",
    b"a" * 251 + b".png": "a" * 251 + ".png",
    b"\x7f\x80.png": r"\x7f\x80.png",
    "\u202egnp.png".encode(): "\u202egnp.png",
    b"*'\".b.png": "*'\".b.png",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_become_text_and_are_found_again(folder_root, name):
    (folder_root / "cat" / "1.jpg").rename(os.fsdecode(os.fsencode(folder_root / "cat") + b"/" + name))
    dataset = folder(folder_root)
    image_id = f"cat/{NAMES[name]}"
    assert image_id in dataset.ids
    assert image_id.encode().decode() == image_id
    assert outcomes(dataset)[image_id] is None
    assert os.fsencode(dataset.path(dataset.ids.index(image_id)).name) == name


def test_a_class_folder_whose_name_is_not_utf8(folder_root):
    (folder_root / "dog").rename(os.fsdecode(os.fsencode(folder_root) + b"/do\xe9"))
    dataset = folder(folder_root)
    assert dataset.classes == ("cat", "cow", r"do\xe9")
    assert outcomes(dataset) == {"cat/1.jpg": None, "cow/2.png": None, r"do\xe9/1.jpg": None}


@given(st.lists(st.sampled_from([b"\\", b"x", b"5", b"c", b"e9", b"\xe9", b"\xc3\xa9", b"\n", b"\x85", b"a"])))
def test_no_two_names_become_the_same_text(parts):
    name = os.fsdecode(b"".join(parts))
    assert as_name(as_text(name)) == name
    assert as_text(name).isprintable()


class Failing(io.BytesIO):
    """A file on a disk that fails."""

    def __init__(self, path):
        super().__init__()
        self.number = os.open(path, os.O_RDONLY)

    def fileno(self):
        return self.number

    def read(self, *_):
        raise OSError(errno.EIO, "Input/output error")

    def close(self):
        if not self.closed:
            os.close(self.number)
        super().close()


def fail(monkeypatch, module, name, error):
    """Every file called `name` can't be opened, or read."""
    before = files.open_regular

    def opened(path):
        if path.name != name:
            return before(path)
        if error == errno.EACCES:
            raise PermissionError(errno.EACCES, "Permission denied")
        return Failing(path)

    for place in (module, "axiom_bench.data.formats.files"):
        monkeypatch.setattr(f"{place}.open_regular", opened)


@pytest.mark.parametrize(("error", "reason"), [(errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")])
def test_a_disk_that_fails_under_an_image(folder_root, monkeypatch, error, reason):
    whole = folder(folder_root).fingerprint(0)
    hashes = FileHashes()
    with monkeypatch.context() as patch:
        fail(patch, "axiom_bench.data.formats.decoding", "2.png", error)
        dataset = folder(folder_root)
        messages = outcomes(dataset)
        failed = dataset.fingerprint(1, hashes)
        assert dataset.fingerprint(0) == whole
    assert [image_id for image_id, message in messages.items() if message] == ["cow/2.png"]
    assert reason in messages["cow/2.png"]
    assert failed.startswith(UNREADABLE)
    assert not hashes.current, "once the disk is well, the image must be read again"
    assert not dataset.fingerprint(1, hashes).startswith(UNREADABLE)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_a_disk_that_fails_under_an_annotation(voc_root, monkeypatch, error):
    fail(monkeypatch, "axiom_bench.data.formats.decoding", "2007_1.xml", error)
    dataset = load_dataset({"kind": "voc", "root": str(voc_root)})
    first, second = dataset.read(0), dataset.read(1)
    assert (first.objects, len(first.problems)) == ((), 1)
    assert "2007_1.xml can't be read" in first.problems[0]
    assert second.objects
    assert dataset.labels(0) == ()
    assert dataset.fingerprint(0).startswith(UNREADABLE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(folder_root):
    (folder_root / "cow/2.png").chmod(0)
    assert "Permission denied" in outcomes(folder(folder_root))["cow/2.png"]


def test_a_hash_from_before_is_not_used_for_a_file_that_may_not_be_read(folder_root, monkeypatch):
    """Its rows would be stored as bad images under the content's own key, and stay."""
    hashes = FileHashes()
    path = folder_root / "cow/2.png"
    os.utime(path, (0, 0))
    whole = hashes.of([path], lambda: "content")
    monkeypatch.setattr(os, "access", lambda *_: False)
    denied = FileHashes(hashes.current).of([path], lambda: f"{UNREADABLE}content")
    assert (whole, denied) == ("content", f"{UNREADABLE}content")


def test_a_folder_that_cannot_be_listed_is_a_sentence(folder_root, monkeypatch):
    """Its images would be missing without a word."""
    before = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("cow"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return before(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BenchError, match=r"cow.* can't be listed: Permission denied"):
        folder(folder_root)


def test_links_to_folders_are_followed_but_not_around(folder_root):
    (folder_root / "cat" / "back").symlink_to("..")
    (folder_root / "wolf").symlink_to("dog")
    dataset = folder(folder_root)
    assert dataset.ids == ("cat/1.jpg", "cow/2.png", "dog/1.jpg", "wolf/1.jpg")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refused_data_set_has_no_traceback(folder_root, workers):
    """torch puts the traceback of a worker into the message of what it raised."""
    dataset = folder(folder_root)
    dataset.read = refuse
    with pytest.raises(BenchError, match=r"^The archive is damaged\.$"):
        outcomes(dataset, workers)


def refuse(index):
    raise BenchError("The archive is damaged.")


@pytest.mark.parametrize("name", ["../1", "/etc/hosts", "a/../../b", "\0"])
def test_voc_images_lie_below_the_root(voc_root, name):
    with (voc_root / "VOCdevkit/VOC2012/ImageSets/Main/val.txt").open("a") as file:
        file.write(f"{name}\n")
    with pytest.raises(BenchError, match=r"val\.txt names the image .* no path of a file below"):
        load_dataset({"kind": "voc", "root": str(voc_root)})


def test_a_list_that_is_not_utf8_is_a_sentence(voc_root):
    (voc_root / "VOCdevkit/VOC2012/ImageSets/Main/val.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(BenchError, match=r"val\.txt can't be read.*UTF-8"):
        load_dataset({"kind": "voc", "root": str(voc_root)})
