"""A file that a user names for output replaces a plain file or nothing, and what it can't is said before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.records.files import check_output


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("file.json").write_text("{}")
    Path("folder.json").mkdir()
    os.mkfifo("pipe.json")
    Path("link.json").symlink_to("file.json")
    Path("dangling.json").symlink_to("nothing.json")


@pytest.mark.parametrize("name", ["folder.json", "pipe.json", "link.json", "dangling.json", "/dev/null", "/dev/stdout"])
@pytest.mark.parametrize(
    "words",
    [
        ["gate", "run", "--baseline", "b.csv", "--json"],
        ["gate", "run", "--baseline", "b.csv", "--junit"],
        ["gate", "run", "--baseline", "b.csv", "--markdown"],
        ["gate", "run", "--write", "--baseline"],
        ["game", "run", "--output"],
    ],
    ids=" ".join,
)
def test_what_is_no_plain_file_is_not_replaced(words: list[str], name: str, capsys: pytest.CaptureFixture[str]):
    assert main([*words, name]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"axiom-bench: {name} is ")
    assert "isn't replaced" in message


@pytest.mark.parametrize("name", ["file.json", "new.json", "new/folder/x.json", "file.json/x"])
def test_a_plain_file_is_replaced_and_nothing_too(name: str):
    """What lies below a file can't be written: `files.write` says so."""
    check_output(Path(name), None)


@pytest.mark.parametrize("name", ["a" * 10_000, "a\0b"])
def test_what_no_file_can_be_called(name: str):
    with pytest.raises(BenchError, match="Can't write '"):
        check_output(Path(name))
