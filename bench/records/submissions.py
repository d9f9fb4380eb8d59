"""A submission: a folder with the published values of a method on each part of a suite, PART/ as
`records.publishing` writes them, the method's module, and submission.json, which names them with
their hashes.
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
OWN = "my_"  # begins the name of each method that isn't of conf/method


class Submission(BaseModel, frozen=True, strict=True, extra="forbid"):
    """method: my_module.my_cam, or a name of conf/method. distributions: {name: version} of those
    that the method comes from. A method without any comes from the file of its source. files: {name
    in the folder: SHA-256} of all others.
    """

    method: Annotated[str, _PATH]
    suite: str
    suite_sha256: str
    licence: str
    reference: str
    distributions: dict[str, str]
    axiom_bench: str
    git_commit: str | None
    files: dict[str, str]

    @property
    def name(self) -> str:
        """Of its values."""
        return name_of(self.method)

    @property
    def source_file(self) -> str | None:
        """The file with the method's source. `None` for a method of this package."""
        return source_file(self.method)


def name_of(method: str) -> str:
    """A method's name beside published ones: no method of one's own is called as one of
    conf/method.

    >>> [name_of(method) for method in ("xgrad_cam", "their_module.xgrad_cam", "my_module.my_cam")]
    ['xgrad_cam', 'my_xgrad_cam', 'my_cam']
    """
    name = method.rpartition(".")[2]
    return name if "." not in method or name.startswith(OWN) else f"{OWN}{name}"


def source_file(method: str) -> str | None:
    """Return the name of the file with a method's source in a submission. `None` for a method of
    this package.
    """
    module = method.rpartition(".")[0]
    return None if not module or module.startswith("axiom_bench.") else f"{module}.py"


def hashes(folder: Path) -> dict[str, str]:
    """{name: SHA-256} of the files in a folder, but for NAME. Raises BenchError for a link or a
    pipe.
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
    return BenchError(f"{path} is no plain file; a submission holds nothing else.")


def check_free(folder: Path, method: str) -> None:
    """Raises BenchError for a folder that holds anything else than a submission of this method."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / NAME).is_file() or read(folder).method != method:
            raise BenchError(
                f"{folder} holds something else than a submission of {method}; give another "
                "--output."
            )
    elif folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder; give another --output.")


def write(folder: Path, submission: Submission) -> None:
    """Raises BenchError where it can't."""
    files.write(folder / NAME, submission.model_dump_json(indent=1).encode())


def read(folder: Path) -> Submission:
    """Raises BenchError for a file that is missing, or isn't a submission's."""
    path = folder / NAME
    if path.is_symlink():
        raise _no_plain_file(path)
    try:
        return Submission.model_validate_json(files.read(path))
    except OSError as error:
        raise BenchError(f"{path} can't be read ({error}).") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise BenchError(
            f"{path} isn't a submission's: {where or 'the text'}: {first['msg'][:200]}."
        ) from error


def changed(folder: Path, submission: Submission) -> list[str]:
    """A line for each file that isn't the one which was submitted, and for a part with values of
    another method. Raises BenchError as `hashes`, and for a manifest that can't be read.
    """
    now = hashes(folder)
    lines = {name: "is missing" for name in submission.files if name not in now}
    lines |= {
        name: "isn't a file of the submission" for name in now if name not in submission.files
    }
    lines |= {
        name: "isn't as it was submitted"
        for name in now
        if submission.files.get(name, now[name]) != now[name]
    }
    for manifest in folder.glob(f"*/{artefacts.NAME}"):
        if artefacts.read(manifest.parent).methods.keys() != {submission.name}:
            lines[f"{manifest.parent.name}/{artefacts.NAME}"] = (
                f"has values of other methods than {submission.name}"
            )
    return [f"{name} {what}" for name, what in sorted(lines.items())]
