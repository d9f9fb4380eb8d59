"""Tar files read where they lie: an index of where each member begins, built once, and no unpacking."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from axiom_bench.errors import BenchError


@dataclass(frozen=True)
class Archive:
    """An uncompressed tar. members: {file name without folders: (first byte, length)}.

    Only path and index are kept, no open file, so that an archive travels to other processes.
    """

    path: Path
    members: Mapping[str, tuple[int, int]] = field(repr=False)

    @staticmethod
    def of(path: Path) -> Archive:
        """Reads the headers of all members. Raises BenchError where the file is no tar, compressed, or cut short."""
        members: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile():
                        members[PurePosixPath(member.name).name] = (member.offset_data, member.size)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise _unreadable(path, error) from error
        archive = Archive(path, members)
        if members and not archive.is_complete():
            raise _unreadable(path, EOFError("its end is missing"))
        return archive

    def is_complete(self) -> bool:
        """Whether the block of zeros that ends a tar follows the last member: a file cut between two has none."""
        end = max(start + length for start, length in self.members.values())
        with self.path.open("rb") as file:
            file.seek(-(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)

    def read(self, name: str) -> bytes | None:
        """The content of one member; None where there is no such member."""
        if name not in self.members:
            return None
        start, length = self.members[name]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


def read_compressed(path: Path, suffixes: str | tuple[str, ...]) -> dict[str, bytes]:
    """{file name without folders: content} of the members of a tar.gz whose names end so, all read at once.

    A compressed file can't be read from the middle. Raises BenchError where it is no tar, or cut short.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() and member.name.endswith(suffixes) else None
                if content is not None:
                    contents[PurePosixPath(member.name).name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _unreadable(path, error) from error
    return contents


def _unreadable(path: Path, error: Exception) -> BenchError:
    return BenchError(f"The archive {path} can't be read ({error}); it is incomplete or damaged: download it again.")
