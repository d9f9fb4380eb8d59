"""Files that one setting names: a file, a folder, a list, or a pattern, as val-{0000..0063}.tar or val-*.tar."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from axiom_bench.data.formats.file_names import as_text, shown
from axiom_bench.data.formats.reading import files_below
from axiom_bench.errors import BenchError
from axiom_bench.kinds import File

Paths = File | Sequence[File] | Mapping[str, File]
T = TypeVar("T", str, Path)
MAX_FILES = 100_000  # that a pattern may name
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def files_named(paths: Paths, suffix: str) -> dict[str, Path]:
    """{name: file}, ascending. A name is the path below the folder where one is given, else the file's own name; both
    without the suffix. Of a mapping, {name: file}, the names are its own.

    Raises BenchError where there is no such file, where two have one name, and for a pattern of too many.
    """
    if isinstance(paths, Mapping):
        return {name: Path(file) for name, file in sorted(paths.items())}
    listed = [paths] if isinstance(paths, str) else list(paths)
    return by_name(chain.from_iterable(_found(path, suffix) for path in listed), suffix)


def by_name(found: Iterable[tuple[str, T]], suffix: str) -> dict[str, T]:
    """{name: file} of (name with its suffix, file), ascending. Raises BenchError where two files have one name."""
    files: dict[str, T] = {}
    for name, file in found:
        name = as_text(name.removesuffix(suffix))
        if files.setdefault(name, file) != file:
            raise BenchError(
                f"data.path names two files {shown(name)}, {as_text(files[name])} and {as_text(file)}; rename one, or "
                "give the folder that holds both."
            )
    return dict(sorted(files.items()))


def _found(path: str, suffix: str) -> list[tuple[str, Path]]:
    """(name, file) of what a path or pattern names."""
    if os.path.isdir(path):
        below = [(name, Path(path, name)) for name in files_below(Path(path)) if name.endswith(suffix)]
        if not below:
            raise BenchError(f"data.path: there is no file whose name ends in {suffix} below {as_text(path)}.")
        return below
    if os.path.lexists(path):
        return [(Path(path).name, Path(path))]
    files = [Path(file) for each in expanded(path) for file in _matching(each)]
    return [(file.name, file) for file in files]


def _matching(pattern: str) -> list[str]:
    """The files of a pattern with *, ? or [...]; the path itself where it has none. Raises BenchError for none."""
    found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern] * os.path.lexists(pattern)
    if not found:
        raise BenchError(f"data.path: there is no file {as_text(pattern)}; give a file, a folder, a list or a pattern.")
    return found


def expanded(pattern: str) -> Iterator[str]:
    """Each of a pattern's texts: {a,b} is a, then b; {08..11} is 08, 09, 10, 11. Raises BenchError for too many."""
    braces, number = _BRACES.split(pattern), 1
    choices = [_choices(braces[place]) if place % 2 else [braces[place]] for place in range(len(braces))]
    for each in choices:
        number *= len(each)
    if number > MAX_FILES:
        raise BenchError(f"data.path={shown(pattern)} names {number:,} files, more than {MAX_FILES:,}; give a folder.")
    texts = [""]
    for each in choices:
        texts = [text + choice for text in texts for choice in each]
    return iter(texts)


def _choices(inside: str) -> Sequence[str]:
    """Of what stands in braces."""
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",")
    first, last = int(ends[1][:9]), int(ends[2][:9])
    if not 0 <= last - first < MAX_FILES:
        raise BenchError(f"data.path: {{{shown(inside)[1:-1]}}} is no range of at most {MAX_FILES:,} numbers.")
    return [str(number).zfill(len(ends[1])) for number in range(first, last + 1)]
