"""Tar files with damage that tarfile takes for the end, and members that are no regular files."""

import io
import tarfile

import pytest

from axiom_bench.data.formats.archive import Archive
from tests.data.builders import cut, write_tar

NAMES = ("first", "second", "third")


@pytest.fixture
def path(tmp_path):
    """An archive of three members."""
    return write_tar(tmp_path / "images.tar", [(name, name.encode() * 100) for name in NAMES])


def overwrite_header(path, block):
    """Overwrite the header of the second member."""
    content = bytearray(path.read_bytes())
    archive, _ = Archive.readable(path)
    start, _ = archive.members["second"]
    content[start - 512 : start] = block
    path.write_bytes(content)


def test_members_are_read_from_their_places(path):
    archive, error = Archive.readable(path)
    assert error is None
    assert [*archive.members] == [*NAMES]
    assert archive.read("second") == b"second" * 100
    with pytest.raises(OSError, match="600 bytes, more than 599"):
        archive.read("second", at_most=599)
    with pytest.raises(OSError, match="it is no file in"):
        archive.read("fourth")


@pytest.mark.parametrize("block", [bytes([7]) * 512, bytes(512)], ids=["damaged", "zeros"])
def test_a_damaged_header_is_not_the_end(path, block):
    overwrite_header(path, block)
    archive, error = Archive.readable(path)
    assert [*archive.members] == ["first"]
    assert "header of a member is damaged" in str(error) or "end before the file does" in str(error)


@pytest.mark.parametrize("num_members", [1, 2])
def test_a_tar_that_is_cut_between_members_has_no_end(path, num_members):
    archive, _ = Archive.readable(path)
    ends = sorted(start + length for start, length in archive.members.values())
    end_of_block = -(-ends[num_members - 1] // 512) * 512
    cut(path, end_of_block)

    archive, error = Archive.readable(path)
    assert [*archive.members] == [*NAMES[:num_members]]
    assert "its end is missing" in str(error)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_a_device_is_no_file(path, kind):
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("link")
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member, io.BytesIO())

    archive, error = Archive.readable(path)
    assert error is None
    assert archive.members == {"link": None}
    with pytest.raises(OSError, match="it is no file in"):
        archive.read("link")
