"""Tar files that are read without unpacking: an index of the members' places is built once.

Damage that tarfile ignores is refused. For tarfile a damaged header, or a stretch of zeros, ends a
tar, and all members after it would be missing.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from axiom_bench.data.formats.files import as_text, open_regular

MAX_IMAGE = 2**30  # bytes of an image's file in an archive; a file with holes may claim any number
# Bytes of zeros after the last member: tar writes 10 kB, and more if an option says so.
MAX_PADDING = 2**20
PIECE = 2**20


@dataclass(frozen=True)
class Archive:
    """An uncompressed tar.

    Only path and index are kept, no open file, so that an archive travels to other processes.

    Attributes:
        path: The file.
        members: {name: (first byte, length)}, None for a link, a device or another member without
            bytes of its own. Names are text, see `as_text`.
    """

    path: Path
    members: Mapping[str, tuple[int, int] | None] = field(repr=False)

    @staticmethod
    def readable(path: Path) -> tuple[Archive, Exception | None]:
        """Return the members up to the first damage, and the error that stopped the reading.

        The error is None at the end of a whole tar. Two members of one name are damage.
        """
        members: dict[str, tuple[int, int] | None] = {}
        try:
            with (
                open_regular(path) as file,
                tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar,
            ):
                for name, member in _members(tar):
                    has_bytes = member.isreg() and not member.issparse()
                    members[name] = (member.offset_data, member.size) if has_bytes else None
        except Exception as error:  # noqa: BLE001 - what tarfile raises for a damaged file is not documented
            return Archive(path, members), error
        return Archive(path, members), None

    def read(self, name: str, at_most: int = MAX_IMAGE) -> bytes:
        """Return the content of one member.

        Raises:
            OSError: If it has no bytes of its own, they can't be read, or are more than `at_most`.
        """
        with open_regular(self.path) as file:
            return self.read_from(file, name, at_most)

    def read_from(self, file: BinaryIO, name: str, at_most: int = MAX_IMAGE) -> bytes:
        """Return the same as `read`, from the archive's open file."""
        location = self.members.get(name)
        if location is None:
            raise OSError(f"it is no file in {as_text(self.path)}")
        start, length = location
        if length > at_most:
            raise OSError(f"it has {length:,} bytes, more than {at_most:,}")
        file.seek(start)
        content = file.read(length)
        if len(content) < length:
            raise OSError(f"{as_text(self.path)} ends within it")
        return content


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error; for tarfile it would be the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            member = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the zeros that end a tar
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("its end is missing") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the header of a member is damaged: {error}") from error
        if member.size < 0:  # tarfile would go back, again and again
            raise tarfile.ReadError(f"the member {member.name!r} has a size below 0")
        return member


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the name and header of each member that is no folder.

    Raises:
        ReadError: For two members of one name, and for anything except zeros after the last one.
    """
    names = set()
    for member in tar:
        if member.isdir():
            continue
        name = as_text(member.name)
        if name in names:
            raise tarfile.ReadError(f"it holds two files {name!r}")
        names.add(name)
        yield name, member
    length = 0
    while piece := tar.fileobj.read(PIECE) if tar.fileobj is not None else b"":
        length += len(piece)
        if piece.strip(b"\0") or length > MAX_PADDING:
            raise tarfile.ReadError("its members end before the file does")
