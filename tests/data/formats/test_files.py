"""Files that a user names, and odd entries next to good images.

Each has a row or a status, and none hangs a run.
"""

import errno
import io
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axiom_bench.data.base import UNREADABLE, FileHashes
from axiom_bench.data.formats import files
from axiom_bench.data.formats.files import as_name, as_text, files_named
from axiom_bench.errors import BenchError
from tests.data.builders import labels, load, outcomes


@pytest.fixture
def root(tmp_path):
    """A folder of empty shards and one other file."""
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b/a-09.tar", "b/c.txt", "{odd}.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


PATTERNS = {
    "": ["a-08", "a-09", "a-10", "b/a-09", "{odd}"],
    "a-09.tar": ["a-09"],
    "b/c.txt": ["c.txt"],
    "{odd}.tar": ["{odd}"],
    "a-{08..10}.tar": ["a-08", "a-09", "a-10"],
    "a-{08..08}.tar": ["a-08"],
    "a-{10,08}.tar": ["a-08", "a-10"],
    "a-{0,1}[0-8].tar": ["a-08", "a-10"],
    "a-*.tar": ["a-08", "a-09", "a-10"],
    ("a-1*.tar", "a-{08..10}.tar"): ["a-08", "a-09", "a-10"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_files_of_a_path(root, pattern):
    path = f"{root}/{pattern}"
    if isinstance(pattern, tuple):
        path = [f"{root}/{part}" for part in pattern]
    found = files_named(path, ".tar")
    assert list(found) == PATTERNS[pattern]
    assert all(path.is_file() for path in found.values())


@pytest.mark.parametrize(
    ("patterns", "suffix", "message"),
    [
        (
            ["gone.tar"],
            ".tar",
            r"data\.path: there is no file .*gone\.tar; give a file, a folder, a list or a pattern",
        ),
        (["c-*.tar"], ".tar", "there is no file .*c-"),
        (["a-{08..11}.tar"], ".tar", "there is no file .*a-11"),
        (["{b/a,a}-{09,10}.tar"], ".tar", r"there is no file .*b/a-10\.tar"),
        (["a-{0..99999999999999}.tar"], ".tar", "is no range of at most 100,000 numbers"),
        (["a-{0..999}{0..999}.tar"], ".tar", "names 1,000,000 files, more than 100,000"),
        (["a-{9..0}.tar"], ".tar", "is no range"),
        (
            ["a-09.tar", "b/a-09.tar"],
            ".tar",
            r"two files 'a-09', .*; rename one, or give the folder that holds both",
        ),
        ([""], ".parquet", r"no file whose name ends in \.parquet below"),
    ],
)
def test_what_names_no_files_is_a_sentence(root, patterns, suffix, message):
    with pytest.raises(BenchError, match=message):
        files_named([f"{root}/{pattern}" for pattern in patterns], suffix)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)
        listening.bind(path.name)


def link_to(target):
    """Return a function that makes a link to this target."""
    return lambda path: path.symlink_to(target)


ODD = {  # a function that makes x.jpg, and the message
    "named pipe": (os.mkfifo, "no regular file"),
    "socket": (make_socket, "no regular file"),
    "device": (link_to("/dev/zero"), "no regular file"),
    "folder": (Path.mkdir, "no regular file"),
    "link to nothing": (link_to("gone.jpg"), "there is no file"),
    "link to its folder": (link_to("../cat"), "no regular file"),
    "link to itself": (link_to("x.jpg"), "Too many levels"),
    "no bytes": (Path.touch, "the file is empty"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_a_bad_image(folder_root, kind, monkeypatch):
    monkeypatch.chdir(folder_root)
    make, reason = ODD[kind]
    make(folder_root / "cat" / "x.jpg")

    dataset = load("folder", folder_root)
    found = outcomes(dataset)

    expected = ["cat/1.jpg", "cat/x.jpg", "cow/2.png", "dog/1.jpg"]
    assert list(dataset.ids) == expected
    assert sorted(found) == expected
    assert [image_id for image_id, message in found.items() if message] == ["cat/x.jpg"]
    assert reason in found["cat/x.jpg"]
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
    folder = os.fsencode(folder_root / "cat")
    (folder_root / "cat" / "1.jpg").rename(os.fsdecode(folder + b"/" + name))
    dataset = load("folder", folder_root)
    image_id = f"cat/{NAMES[name]}"
    assert image_id.encode().decode() == image_id
    assert outcomes(dataset)[image_id] is None
    assert os.fsencode(dataset.files(dataset.ids.index(image_id))[0].name) == name


NAME_PARTS = [b"\\", b"x", b"5", b"c", b"e9", b"\xe9", b"\xc3\xa9", b"\n", b"\x85", b"a"]


def test_a_class_folder_whose_name_is_not_utf8(folder_root):
    (folder_root / "dog").rename(os.fsdecode(os.fsencode(folder_root) + b"/do\xe9"))
    dataset = load("folder", folder_root)
    assert dataset.classes == ("cat", "cow", r"do\xe9")
    assert outcomes(dataset) == {"cat/1.jpg": None, "cow/2.png": None, r"do\xe9/1.jpg": None}


@given(st.lists(st.sampled_from(NAME_PARTS)))
def test_no_two_names_become_the_same_text(parts):
    name = os.fsdecode(b"".join(parts))
    assert as_name(as_text(name)) == name
    assert as_text(name).isprintable()


class Failing(io.BytesIO):
    """A file on a disk that fails."""

    def __init__(self, path):
        super().__init__()
        self.file = path.open("rb")
        self.fileno = self.file.fileno

    def read(self, *_):
        raise OSError(errno.EIO, "Input/output error")

    def close(self):
        self.file.close()
        super().close()


def fail(monkeypatch, name, error):
    """Make every file called `name` fail with this error when it is opened or read."""
    open_regular = files.open_regular

    def open_or_fail(path):
        if path.name != name:
            return open_regular(path)
        if error == errno.EACCES:
            raise PermissionError(errno.EACCES, "Permission denied")
        return Failing(path)

    for module in ("decoding", "files"):
        monkeypatch.setattr(f"axiom_bench.data.formats.{module}.open_regular", open_or_fail)


@pytest.mark.parametrize(
    ("error", "reason"), [(errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")]
)
def test_a_disk_that_fails_under_an_image(folder_root, monkeypatch, error, reason):
    dataset = load("folder", folder_root)
    hashes = FileHashes()
    before = dataset.fingerprint(0)

    with monkeypatch.context() as patch:
        fail(patch, "2.png", error)
        found = outcomes(dataset)
        failed = dataset.fingerprint(1, hashes)
        assert dataset.fingerprint(0) == before

    assert [image_id for image_id, message in found.items() if message] == ["cow/2.png"]
    assert reason in found["cow/2.png"]
    assert failed.startswith(UNREADABLE)
    assert not hashes.current, "once the disk is well, the image must be read again"
    assert not dataset.fingerprint(1, hashes).startswith(UNREADABLE)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_a_disk_that_fails_under_an_annotation(voc_root, monkeypatch, error):
    fail(monkeypatch, "2007_1.xml", error)
    dataset = load("voc", voc_root)
    first = dataset.read(0)
    second = dataset.read(1)
    assert first.objects == ()
    assert len(first.problems) == 1
    assert "2007_1.xml can't be read" in first.problems[0]
    assert second.objects
    assert dataset.labels(0) == ()
    assert dataset.fingerprint(0).startswith(UNREADABLE)


def test_a_hash_from_before_is_not_used_for_a_file_that_may_not_be_read(folder_root, monkeypatch):
    """Check that no bad image is stored under the key of the content, where it would stay."""
    hashes = FileHashes()
    path = folder_root / "cow/2.png"
    os.utime(path, (0, 0))
    assert hashes.hash_of([path], lambda: "content") == "content"
    monkeypatch.setattr(os, "access", lambda *_: False)
    denied = FileHashes(hashes.current).hash_of([path], lambda: f"{UNREADABLE}content")
    assert denied == f"{UNREADABLE}content"


@pytest.mark.parametrize(("age", "second"), [(0.0, "after"), (60.0, "before")])
def test_a_file_that_was_changed_a_moment_ago_is_hashed_again(tmp_path, age, second):
    """Check that a file is hashed again while it may be written within its clock's tick.

    Neither the size nor the time of the file would show such a change.
    """
    hashes = FileHashes()
    path = tmp_path / "a.png"
    path.write_bytes(b"a")
    changed_at = time.time() - age
    os.utime(path, (changed_at, changed_at))
    contents = iter(["before", "after"])
    assert hashes.hash_of([path], lambda: next(contents)) == "before"
    assert hashes.hash_of([path], lambda: next(contents)) == second


def test_a_folder_that_cannot_be_listed_is_a_sentence(folder_root, monkeypatch):
    """Check that the images of such a folder aren't left out without a word."""
    before = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("cow"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return before(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BenchError, match=r"cow.* can't be listed: Permission denied"):
        load("folder", folder_root)


def test_links_to_folders_are_followed_but_not_around(folder_root):
    (folder_root / "cat" / "back").symlink_to("..")
    (folder_root / "wolf").symlink_to("dog")
    dataset = load("folder", folder_root)
    assert dataset.ids == ("cat/1.jpg", "cow/2.png", "dog/1.jpg", "wolf/1.jpg")
    assert labels(dataset) == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refused_data_set_has_no_traceback(folder_root, workers):
    """Check the message, because torch adds the traceback of a worker to it."""
    dataset = load("folder", folder_root)
    dataset.read = refuse
    with pytest.raises(BenchError, match=r"^The archive is damaged\.$"):
        outcomes(dataset, workers)


def refuse(index):
    raise BenchError("The archive is damaged.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"2007_3\n2007_1\n2007_2\na/../../b\n", "names the image .* no path of a file below"),
        (b"caf\xe9\n", "can't be read.*UTF-8"),
    ],
)
def test_a_list_of_images_that_is_refused(voc_root, content, message):
    path = voc_root / "VOCdevkit/VOC2012/ImageSets/Main/val.txt"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=rf"val\.txt {message}"):
        load("voc", voc_root)
