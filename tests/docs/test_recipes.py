"""The recipes of CONTRIBUTING.md, applied to a copy of the repository: each is complete, and its
commands succeed.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "bench",
    "conf",
    "docs",
    "methods",
    "metrics",
    "notebooks",
    "results/baselines",
    "results/reference",
    "scripts",
)
COPIED += (
    "tests",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "hatch_build.py",
    "pyproject.toml",
)
# These recipes change different files, and several write the documentation and check it. In their
# common copy, a command of several recipes runs once.
TOGETHER = ("A method", "A metric", "A data set", "A network", "A command-line option")
METHOD_ROW = (
    "| `squared_cam` | Weigh each channel by the mean of its squared gradients |  | any | "
    "Author 2031, [link](https://example.org/squared) |"
)
# What stands before a block that is a file, or goes to the end of one.
FILE = re.compile(r"^(?P<end>At the end of )?`(?P<path>[^`]+)`:$")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """Return the text below each heading of CONTRIBUTING.md that has a block of commands."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    parts = [part.partition("\n") for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]]
    return {heading: body for heading, _, body in parts if "```bash" in body}


@pytest.fixture
def copy(tmp_path):
    """The tracked folders, which the copy's own links import.

    Bytecode is copied too, and is valid because the copies keep the times of the files.
    """
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        elif source.exists():
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(folder: Path, command: str) -> str:
    """Run a command line in the copy, with the commands of this Python first.

    Return what it prints, with a line for each test that passes.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "build" / "editable"),
        "PYTEST_ADDOPTS": "-rp",
    }
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def write(folder: Path, place: re.Match[str], text: str) -> None:
    """Write a block's file, or the end of one."""
    path = folder / place["path"]
    if place["end"]:
        assert path.exists(), f"there is no file {place['path']} to write to the end of"
        text = path.read_text(encoding="utf-8") + text
    else:
        assert not path.exists(), f"{place['path']} exists already"
    path.write_text(text, encoding="utf-8")


def apply_recipe(folder: Path, body: str) -> list[str]:
    """Apply the blocks of a recipe, and return its command lines."""
    commands = []
    end = 0
    for block in BLOCK.finditer(body):
        before = body[end : block.start()].rstrip("\n").rpartition("\n")[2]
        end = block.end()
        place = FILE.match(before)
        if place:
            write(folder, place, block["text"])
        elif block["language"] == "diff":
            patch = folder / "recipe.diff"
            patch.write_text(block["text"], encoding="utf-8")
            run(folder, "git apply --recount recipe.diff")
        else:
            assert block["language"] == "bash", (
                f"a block of {block['language']} without a file: {before}"
            )
            commands += block["text"].splitlines()
    return commands


def test_there_are_recipes_of_what_people_add():
    expected = {
        "A method",
        "A metric",
        "A data set",
        "A network",
        "A command-line option",
        "A section of the report",
        "A chart",
    }
    assert expected <= sections().keys()


def groups() -> list[tuple[str, ...]]:
    """Return the headings of the recipes that share a copy."""
    alone = [(heading,) for heading in sections() if heading not in TOGETHER]
    return [TOGETHER, *alone]


@pytest.mark.slow
@pytest.mark.parametrize("headings", groups(), ids=", ".join)
def test_recipes_are_complete(headings, copy):
    commands = []
    for heading in headings:
        commands += apply_recipe(copy, sections()[heading])
    run(copy, "python hatch_build.py")
    printed = "".join(run(copy, command) for command in dict.fromkeys(commands))
    if "A method" in headings:
        # it is documented, and tested by being listed
        rows = (copy / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
        assert METHOD_ROW in rows
        assert "PASSED tests/methods/test_common_suite.py::test_method[squared_cam]" in printed
