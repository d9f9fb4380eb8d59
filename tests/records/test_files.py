"""Writing files: what stands in the way, and what killed processes leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from axiom_bench.records import files


def test_a_file_takes_the_place_of_whatever_is_there(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("empty", "full", "pipe", "link"):
        files.write(tmp_path / name, b"new")
        assert files.read(tmp_path / name) == b"new"
    assert (tmp_path / "elsewhere").read_text() == "kept"
    (aside,) = tmp_path.glob("full.set-aside-*")
    assert (aside / "mine.txt").read_text() == "mine"


def test_what_is_no_file_isnt_read(tmp_path: Path):
    """Reading a pipe would wait without end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match="a folder, a pipe or a device"):
            files.read(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from axiom_bench.records import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write(Path(sys.argv[1]), b"half")
"""


def test_only_drafts_of_dead_processes_are_swept(tmp_path: Path):
    (tmp_path / "records").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "records/a.parquet")], check=False)
    (killed,) = (tmp_path / "records").iterdir()
    number = killed.name.split("-")[-2]
    mine = killed.with_name(killed.name.replace(f"-{number}-", f"-{os.getpid()}-"))
    elsewhere = killed.with_name(killed.name.replace(files.place(), "0" * 8))
    a_users = tmp_path / ".notes.tmp"
    for path in (mine, elsewhere, a_users):
        path.write_bytes(b"")
    files.sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {mine, elsewhere, a_users}
