"""A submission: a folder with a method and its values on each part of a suite. PART/ has the
published values as `records.publishing` writes them. The folder also has the method's module, and
submission.json, which lists the files with their hashes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, StringConstraints, ValidationError

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, files

NAME = "submission.json"
_PATH = StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=200)
OWN = "my_"  # the name of each method that isn't in conf/method begins with this


class Submission(BaseModel, frozen=True, strict=True, extra="forbid"):
    """The content of submission.json."""

    method: Annotated[str, _PATH]
    """The dotted path, such as my_module.my_cam, or a name of conf/method."""
    suite: str
    suite_sha256: str
    licence: str
    reference: str
    distributions: dict[str, str]
    """{name: version} of the distributions that the method comes from. A method without any comes
    from the file of its source.
    """
    axiom_bench: str
    git_commit: str | None
    files: dict[str, str]
    """{name in the folder: SHA-256} of all other files."""

    @property
    def name(self) -> str:
        """The method's name in its values."""
        return name_of(self.method)

    @property
    def source_file(self) -> str | None:
        """The file with the method's source; `None` for a method of this package."""
        return source_file(self.method)


def name_of(method: str) -> str:
    """Return a method's name among published ones. A user's own method never has the name of one of
    conf/method.

    >>> [name_of(method) for method in ("xgrad_cam", "their_module.xgrad_cam", "my_module.my_cam")]
    ['xgrad_cam', 'my_xgrad_cam', 'my_cam']
    """
    name = method.rpartition(".")[2]
    return name if "." not in method or name.startswith(OWN) else f"{OWN}{name}"


def source_file(method: str) -> str | None:
    """Return the name of the file with a method's source in a submission; `None` for a method of
    this package.
    """
    module = method.rpartition(".")[0]
    return None if not module or module.startswith("axiom_bench.") else f"{module}.py"


def hashes(folder: Path) -> dict[str, str]:
    """Return {name: SHA-256} of the files in a folder, except NAME. Raise BenchError for a link or
    a pipe.
    """
    names = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _no_plain_file(path)
        if path.is_file() and name != NAME:
            names[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return names


def _no_plain_file(path: Path) -> BenchError:
    """Return the error for a link or a pipe."""
    return BenchError(f"{path} isn't a plain file; a submission contains only plain files.")


def check_free(folder: Path, method: str) -> None:
    """Raise BenchError if a folder has other content than a submission of this method."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / NAME).is_file() or read(folder).method != method:
            raise BenchError(
                f"{folder} holds files other than a submission of {method}; give another --output."
            )
    elif folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give another --output.")


def write(folder: Path, submission: Submission) -> None:
    """Write submission.json. Raise BenchError if the file can't be written."""
    files.write(folder / NAME, submission.model_dump_json(indent=1).encode())


def read(folder: Path) -> Submission:
    """Return the content of submission.json. Raise BenchError if the file is missing, or isn't a
    submission's.
    """
    path = folder / NAME
    if path.is_symlink():
        raise _no_plain_file(path)
    try:
        return Submission.model_validate_json(files.read(path))
    except OSError as error:
        raise BenchError(f"{path} can't be read ({error}).") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:100] or "the text"
        raise BenchError(f"{path} isn't a submission's: {place}: {first['msg'][:200]}.") from error


def changed(folder: Path, submission: Submission) -> list[str]:
    """Return a line per file that isn't as it was submitted, and per part with values of another
    method.

    Raise BenchError like `hashes`, and if a manifest can't be read.
    """
    found = hashes(folder)
    problems = {}
    for name in submission.files:
        if name not in found:
            problems[name] = "is missing"
    for name, sha256 in found.items():
        if name not in submission.files:
            problems[name] = "isn't a file of the submission"
        elif submission.files[name] != sha256:
            problems[name] = "isn't as it was submitted"
    for manifest in folder.glob(f"*/{artefacts.NAME}"):
        if artefacts.read(manifest.parent).methods.keys() != {submission.name}:
            name = f"{manifest.parent.name}/{artefacts.NAME}"
            problems[name] = f"has values of other methods than {submission.name}"
    return [f"{name} {problem}" for name, problem in sorted(problems.items())]
