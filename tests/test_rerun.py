"""What `make test-all` says of a failure that doesn't come again, and of one that depends on the tests before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
from pathlib import Path

import pytest

STATE = []


def test_first():
    STATE.append(1)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_once(name):
    file = Path(__file__).with_name(f"{name}.txt")
    is_new = not file.exists()
    file.touch()
    assert not is_new


def test_alone():
    assert not STATE


def test_never():
    raise ValueError
"""


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "code", "told", "counts"), [
    (["first", "once[a]", "once[b]"], 0, ["flaky: A_TEST[a]", "flaky: A_TEST[b]"], "1 passed, 2 flaky"),
    (["once[a]", "once[b]", "once[c]"], 1, [f"flaky: A_TEST[{name}]" for name in "abc"], "3 flaky"),
    (["first", "once[a]", "alone", "never"], 1, [
        "flaky: A_TEST[a]", "depends on order: test_made.py::test_alone fails only after the tests before it",
    ], "2 failed, 1 passed, 1 flaky"),
])  # fmt: skip
def test_what_is_told_of_failures(tmp_path, chosen, code, told, counts):
    (tmp_path / "test_made.py").write_text(TESTS)
    tests = [f"test_made.py::test_{name}" for name in chosen]
    command = [sys.executable, "-m", "pytest", "-p", "tests.rerun", "-p", "xdist", "-n", "1", *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    lines = re.findall("^(?:flaky|depends).*", done.stdout, re.MULTILINE)
    assert [line.replace("test_made.py::test_once", "A_TEST") for line in lines] == told, done.stdout
    assert (done.returncode, counts in done.stdout.splitlines()[-1]) == (code, True), done.stdout
